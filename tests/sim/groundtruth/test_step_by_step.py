"""With steps of the same length, the engine is scheduled as the simulator says: step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.sim.deployment import Deployment
from kvsim.sim.replica import StepRecord
from kvsim.sim.simulation import simulate
from kvsim.traces import Trace
from support.engine_cases import KINDS, SHARED, SWAPPED, Case, drawn
from support.toy_engine import BASE_S, PER_TOKEN_S, Toy, run_toy
from support.workloads import FakeMoves

Steps = list[tuple[int, list[tuple[int, int, int]]]]
ORDERED = tuple(kind for kind in KINDS if kind != "fork")


def roomy(kind: str, seed: int) -> Case:
    """A random case in which every group that is preempted finds room on the host.

    A group that is computed again is one prefill to the simulator; the engine computes sequence by
    sequence, and what they share in a block that is not full more than once.
    """
    case = drawn(kind, seed)
    if "num_host_blocks" in case.flags:
        case.flags["num_host_blocks"] = 500
    return case


class Free(FakeMoves):
    """Moves that take no time."""

    def copy_ns(self, num_blocks: int) -> float:
        return 0.0

    def swap_ns(self, num_blocks: int, *, inward: bool = False) -> float:
        return 0.0


def simulated(case: Case) -> tuple[Steps, Any]:
    """Starts (microseconds) and rows of the simulator's steps, and its result."""
    counts = case.trace.num_samples
    counts = np.ones(len(case.trace), dtype=np.int64) if counts is None else counts
    first, steps = np.cumsum(counts) - counts, []

    def log(record: StepRecord) -> None:
        rows = [
            (int(first[one.index]) + one.sample, tokens, past)
            for one, tokens, past in record.step.order or ()
        ]
        if rows:
            steps.append((round(record.start_ns / 1e3), sorted(rows)))

    flags = {"max_model_len": 64, **case.flags}
    blocks, host = flags.pop("num_gpu_blocks"), flags.pop("num_host_blocks", 0)
    result = simulate(
        case.trace,
        deployment=Deployment(**flags),
        cost=AffineCost(base_s=BASE_S, per_scheduled_token_s=PER_TOKEN_S),
        num_gpu_blocks=blocks,
        num_host_blocks=host or None,
        moves=Free(),
        log_step=log,
    )
    return steps, result


def driven(toy: Toy) -> Steps:
    """The same of the engine's."""
    return [
        (round(step.start_s * 1e6), sorted(tuple(row) for row in step.rows))
        for step in toy.run.steps
    ]


@pytest.mark.parametrize(
    "case",
    [SHARED, SWAPPED, *(roomy(kind, seed) for kind in ORDERED for seed in (7, 8, 9))],
    ids=lambda case: case.trace.name,
)
def test_the_engine_steps_as_the_simulator_says(case: Case) -> None:
    toy = run_toy(case.trace, model=False, **case.flags)
    steps, result = simulated(case)
    assert driven(toy) == steps
    columns = result.requests
    for one in toy.run.requests:
        if one.status != "finished":
            status = str(columns["status"][one.request])
            assert status == ("cancelled" if one.status == "cancelled" else "rejected")
            continue
        assert one.first_token_s == pytest.approx(columns["first_token_s"][one.request])
        assert one.last_token_s == pytest.approx(columns["finish_s"][one.request])
        assert one.preemptions == columns["num_preemptions"][one.request]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ORDERED)
def test_it_does_so_in_many_runs(kind: str) -> None:
    for seed in range(10, 150):
        case = roomy(kind, seed)
        toy = run_toy(case.trace, model=False, **case.flags)
        assert driven(toy) == simulated(case)[0], case.trace.name


def test_turns_of_a_session_wait_for_the_answer_before() -> None:
    trace = Trace(
        name="session",
        prompt_tokens=np.array([6, 12]),
        output_tokens=np.array([4, 3]),
        arrival_s=np.array([0.0, np.nan]),
        parent=np.array([-1, 0]),
        delay_s=np.array([np.nan, 0.5]),
        prefix_row=np.array([-1, 0]),
        prefix_tokens=np.array([0, 10]),
    )
    flags = {"num_gpu_blocks": 20, "enable_prefix_caching": True, "block_size": 4}
    toy = run_toy(trace, model=False, **flags)
    first, second = toy.run.requests
    assert second.arrival_s == pytest.approx(first.last_token_s + 0.5)
    assert second.cached_tokens == 8, "two blocks: the prompt before, and two tokens of its answer"
    assert toy.history.tokens(1, 6, 10) == toy.outputs()[0], "the second turn repeats the answer"
    assert toy.outputs() == toy.expected(trace)
    assert not toy.history.num_forced


def test_a_client_that_gives_up_leaves() -> None:
    trace = Trace(
        name="gone",
        prompt_tokens=np.array([6, 6]),
        output_tokens=np.array([40, 5]),
        arrival_s=np.array([0.0, 0.0]),
        cancel_s=np.array([0.1, np.nan]),
    )
    toy = run_toy(trace, model=False, num_gpu_blocks=20, block_size=4)
    status = {one.request: one.status for one in toy.run.requests}
    assert status == {0: "cancelled", 1: "finished"}
    assert toy.outputs()[1] == toy.expected(trace)[1]
    assert toy.served.num_unfinished == 0
