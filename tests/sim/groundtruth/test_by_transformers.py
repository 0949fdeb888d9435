"""transformers serves a trace in real time; its log, and what of it the simulator says, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation.continuous_batching import offloading_manager

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.engine.log_reader import Log, read_log
from kvsim.calibration.engine.shape import TOY
from kvsim.sim.deployment import Deployment
from kvsim.sim.groundtruth import by_transformers
from kvsim.sim.groundtruth.by_transformers import arrivals_of, serve_by_transformers
from kvsim.sim.groundtruth.parts import make_parts
from kvsim.sim.groundtruth.serve import EngineRun
from kvsim.sim.simulation import simulate
from kvsim.traces import Trace
from support.real_transformers import unpinned

FLAGS = Deployment(
    max_model_len=32,
    block_size=4,
    max_num_seqs=4,
    max_num_batched_tokens=16,
    scheduler="transformers",
)
RUN = EngineRun(shape=TOY, deployment=FLAGS, num_gpu_blocks=13, device="cpu")


def trace(**columns: Any) -> Trace:
    """Four requests, all there at once; the last begins like the first."""
    return Trace(
        name="four",
        **{
            "prompt_tokens": np.array([9, 5, 18, 10]),
            "output_tokens": np.array([6, 3, 8, 2]),
            "arrival_s": np.zeros(4),
            **columns,
        },
    )


def served(path: Path, run: EngineRun, **columns: Any) -> Log:
    """The log of a run."""
    serve_by_transformers(trace(**columns), run, path)
    return read_log(path)


SWAPPING = replace(
    RUN,
    deployment=replace(FLAGS, enable_prefix_caching=True, preemption_mode="swap"),
    num_host_blocks=3,
)
"""Room for three blocks in host memory."""
BEGINS_ALIKE = {"prefix_row": np.array([-1, -1, -1, 0]), "prefix_tokens": np.array([0, 0, 0, 8])}


def test_a_run_and_its_log(tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    path = tmp_path / "run.jsonl.gz"
    serve_by_transformers(trace(), RUN, path, lambda *what: said.append(what))
    log = read_log(path)
    assert log.is_whole
    assert log.header.engine.startswith("transformers 5.23.")
    assert log.header.model["name"] == "toy"
    assert log.header.flags["num_gpu_blocks"] == 13
    assert log.header.flags["scheduler"] == "transformers"
    assert log.header.trace["digest"] == trace().digest
    assert log.end["num_steps"] == len(log.steps)
    assert said[-1][1] == said[-1][2]
    assert sum(step.num_tokens for step in log.steps) == sum(
        trace().prompt_tokens + trace().output_tokens - 1
    )
    for one in sorted(log.requests, key=lambda one: one.request):
        row = one.request
        assert one.prompt_tokens == trace().prompt_tokens[row]
        assert one.output_tokens == trace().output_tokens[row]
        assert one.arrival_s <= one.scheduled_s < one.first_token_s < one.last_token_s
    for before, after in zip(log.steps, log.steps[1:], strict=False):
        assert before.start_s + before.wall_s <= after.start_s + 2e-7, "one step at a time"
    for step in log.steps:
        parts = step.schedule_s + step.prepare_s + step.launch_s + step.sync_s + step.update_s
        assert parts == pytest.approx(step.wall_s, abs=1e-6)
        assert min(step.schedule_s, step.prepare_s, step.launch_s, step.update_s) > 0
        assert step.launch_s > 0.5 * step.wall_s, "on a CPU the model runs as it is launched"
        assert step.gpu_s != step.gpu_s
        assert 0 < step.used_blocks <= 12


@pytest.mark.parametrize(
    ("scheduler", "usable"), [("transformers", 8), ("transformers_prefill_first", 14)]
)
def test_the_simulator_says_the_same_of_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str, usable: int
) -> None:
    """Rows, tokens, what ran and waited, blocks and swaps: all but the times.

    Eight blocks are short of what all need; with more of them a prompt that comes first takes the
    whole budget, and who decodes gets none.
    """
    monkeypatch.setattr(offloading_manager.torch, "empty", unpinned(torch.empty))
    run = replace(SWAPPING, deployment=replace(SWAPPING.deployment, scheduler=scheduler))
    run = replace(run, num_gpu_blocks=1 + usable)
    log = served(tmp_path / "run.jsonl", run, **BEGINS_ALIKE)
    assert log.header.flags["num_host_blocks"] == 3
    steps: list[Any] = []
    result = simulate(
        trace(**BEGINS_ALIKE),
        deployment=run.deployment,
        cost=AffineCost(base_s=1.0),
        num_gpu_blocks=1 + usable,
        num_host_blocks=3,
        exact_steps=True,
        log_step=steps.append,
    )
    ours = [one.step for one in steps if one.step.order]
    found = [tuple((row.index, new, past) for row, new, past in one.order) for one in ours]
    # the log's reader sorts rows by their sequences
    assert [tuple(sorted(map(tuple, step.rows))) for step in log.steps] == [
        tuple(sorted(rows)) for rows in found
    ]
    assert [step.preempted for step in log.steps] == [len(one.preempted) for one in ours]
    busy = result.segments["num_steps"] > 0
    held = sum(result.segments[name] for name in ("token_states", "reserved", "internal"))
    assert [4 * step.used_blocks for step in log.steps] == held[busy].tolist()
    assert [step.running for step in log.steps] == result.segments["num_running"][busy].tolist()
    moved = result.moved
    assert sum(step.swapped_out_blocks for step in log.steps) == moved.num_swapped_out_blocks
    assert sum(step.swapped_in_blocks for step in log.steps) == moved.num_swapped_in_blocks
    assert bool(moved.num_swapped_in_blocks) == (usable == 8)
    requests = sorted(log.requests, key=lambda one: one.request)
    assert max(one.cached_tokens for one in requests) == 8
    assert [one.preemptions for one in requests] == result.requests["num_preemptions"].tolist()
    assert [one.cached_tokens for one in requests] == result.requests["cached_tokens"].tolist()


def test_after_its_minutes_nobody_is_let_in(tmp_path: Path) -> None:
    late = np.array([0.0, 0.0, 0.01, 3600.0])
    log = served(tmp_path / "run.jsonl", replace(RUN, minutes=0.001), arrival_s=late)
    assert (log.end["why"], log.end["num_left_out"]) == ("time", 1)
    assert sorted(one.request for one in log.requests) == [0, 1, 2]


def test_prompts_begin_alike_where_the_trace_says_so() -> None:
    columns = {"prefix_row": np.array([-1, 0, -1, 0]), "prefix_tokens": np.array([0, 3, 0, 8])}
    cached = replace(RUN, deployment=replace(FLAGS, enable_prefix_caching=True))
    first, second, _, last = (one.prompt for one in arrivals_of(trace(**columns), cached))
    assert (second[:3], last[:8]) == (first[:3], first[:8])
    assert (second[3] != first[3], last[8] != first[8]) == (True, True)
    apart = [one.prompt for one in arrivals_of(trace(**columns), RUN)]
    assert apart[3][:8] != apart[0][:8]


@pytest.mark.parametrize(
    ("columns", "flags", "message"),
    [
        ({}, {"scheduler": "vllm"}, r"^scheduler\(=vllm\) must be transformers or transformers_"),
        ({}, {"preemption_mode": "auto"}, r"^preemption_mode\(=auto\) must be recompute or swap: "),
        ({}, {"tensor_parallel_size": 2}, r"^tensor_parallel_size\(=2\) must be 1: "),
        ({"arrival_s": None}, {}, "^trace must have an arrival time in every row"),
        (
            {
                "arrival_s": np.array([0.0, 0.0, 0.0, np.nan]),
                "parent": np.array([-1, -1, -1, 0]),
                "delay_s": np.array([np.nan, np.nan, np.nan, 1.0]),
            },
            {},
            "^trace must have an arrival time in every row",
        ),
        ({"num_samples": np.array([1, 2, 1, 1])}, {}, "^num_samples must be <= 1 in every row"),
        ({"beam_width": np.array([0, 2, 0, 0])}, {}, "^beam_width must be <= 1 in every row"),
        ({"cancel_s": np.array([np.nan, 1.0, np.nan, np.nan])}, {}, "^cancel_s must be empty"),
        (
            {"output_tokens": np.array([6, 3, 15, 2])},
            {},
            r"^trace has 33 tokens in row 2, which must be <= max_model_len\(=32\)\.$",
        ),
        (
            {"prefix_row": np.array([-1, 0, 1, 0]), "prefix_tokens": np.array([0, 0, 6, 0])},
            {"enable_prefix_caching": True},
            r"^trace shares 6 tokens in row 2, which must be <= the prompt of row 1\(=5\): ",
        ),
    ],
)
def test_what_its_loop_does_not_run(
    tmp_path: Path, columns: dict[str, Any], flags: dict[str, Any], message: str
) -> None:
    run = replace(RUN, deployment=replace(FLAGS, **flags), num_host_blocks=4)
    with pytest.raises(ValueError, match=message):
        served(tmp_path / "run.jsonl", run, **columns)
    assert not (tmp_path / "run.jsonl").exists()


def test_its_loop_has_one_clock(tmp_path: Path) -> None:
    run = replace(RUN, clock="processor")
    with pytest.raises(ValueError, match=r"^clock\(=processor\) must be wall with scheduler "):
        served(tmp_path / "run.jsonl", run)


def test_the_mini_engine_leaves_it_to_the_library() -> None:
    with pytest.raises(ValueError, match=r"^scheduler\(=transformers\) must be another one: "):
        make_parts(trace(), FLAGS, num_gpu_blocks=13)


def test_a_request_larger_than_the_pool(tmp_path: Path) -> None:
    message = r"^trace has 26 tokens in row 2, which must be <= tokens of the pool\(=24\)\.$"
    with pytest.raises(ValueError, match=message):
        served(tmp_path / "run.jsonl", replace(RUN, num_gpu_blocks=7))


@pytest.mark.parametrize("release", ["5.22.1", "6.0.0"])
def test_another_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    monkeypatch.setattr(by_transformers, "version", lambda name: release)
    with pytest.raises(ValueError, match=rf"^transformers\(={release}\) must be 5\.23: pip "):
        served(tmp_path / "run.jsonl", RUN)


def test_a_machine_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise by_transformers.PackageNotFoundError(name)

    monkeypatch.setattr(by_transformers, "version", missing)
    with pytest.raises(ValueError, match=r"^transformers\(=none\) must be 5\.23: pip install"):
        served(tmp_path / "run.jsonl", RUN)
