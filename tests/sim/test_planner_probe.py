"""One rate tried: what counts, when a run may end, what stands for a trace, what binds."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.sim.planner import extent as extents
from kvsim.sim.planner.binding import bindings
from kvsim.sim.planner.extent import (
    long_extent,
    most_running,
    rate_of,
    short_extent,
    whole,
)
from kvsim.sim.planner.probe import Probe, probe, probe_extent
from kvsim.sim.saturated import saturate
from kvsim.sim.server import Server, resolve
from kvsim.sim.slo import SLO
from kvsim.traces import Trace
from kvsim.traces.repeat import repeated_in_time
from support.steady import STEP_S, alike, steady_server


def timed(gaps_s: np.ndarray, *, prompt: int = 1, output: int = 20) -> Trace:
    times = np.round(np.cumsum(gaps_s), 9)
    return replace(alike(len(times), prompt=prompt, output=output, every_s=1.0), arrival_s=times)


def poisson(number: int, seed: int = 2, **lengths: int) -> Trace:
    return timed(np.random.default_rng(seed).exponential(1.0, number), **lengths)


def test_a_lone_request_has_its_latencies_by_hand() -> None:
    """Prefill and 19 decodes of 10 ms each; requests come one after the other."""
    trace = alike(50, prompt=10, output=20, every_s=1.0)
    found = probe(steady_server(trace, blocks=100), trace, 1.0, SLO(ttft_s=0.5))
    assert found.ttft_s == pytest.approx(STEP_S)
    assert found.tpot_s == pytest.approx(STEP_S)
    assert found.e2e_s == pytest.approx(20 * STEP_S)
    assert (found.num_requests, found.num_counted, found.num_left_out) == (50, 45, 5)
    assert found.output_tokens_per_s == pytest.approx(20.0)
    assert found.mean_running == pytest.approx(1.0), "while anything runs"
    assert (found.attainment, found.goodput_per_s, found.holds) == (1.0, 1.0, True)


@pytest.mark.parametrize("rate", [1.0, 2.5, 4.0, 4.6, 6.0])
def test_a_run_that_is_ended_early_gives_the_same_verdict(rate: float) -> None:
    """And the very same figures where it is not ended."""
    trace = poisson(600)
    server = steady_server(trace, blocks=1_000, max_num_seqs=1)
    slo, part = SLO(e2e_s=1.5, quantile=0.9), whole(trace, running=1)
    full, ended = (
        probe_extent(server, part, rate, slo=slo, stop_early=early) for early in (False, True)
    )
    assert ended.holds == full.holds
    if not ended.stopped:
        assert asdict(ended) == asdict(full)
    else:
        assert full.attainment <= ended.attainment < slo.quantile
    assert ended.stopped == (full.attainment < slo.quantile)


def test_what_is_counted_follows_from_how_many_run() -> None:
    """Of 1,000: those who find the batch filling up and those who see it drain do not count."""

    def edges(running: int) -> tuple[int, int]:
        counted = np.flatnonzero(whole(poisson(1_000), running=running).counted)
        return int(counted[0]), int(counted[-1]) + 1

    assert edges(60) == (60, 940)
    assert edges(1) == (20, 999)
    assert edges(700) == (250, 900)


def test_an_objective_bounds_how_many_run() -> None:
    """Little's law: 5/s that stay 2 s at most are 10; without a limit it is what the pool runs."""
    trace = alike(300, prompt=10, output=20, every_s=1.0)
    server = steady_server(trace, blocks=1_000, max_num_seqs=50)
    _, backlog = saturate(server, trace)
    assert backlog.requests_per_s == pytest.approx(250, rel=0.1)
    assert most_running(backlog, trace, SLO(tpot_s=0.02)) == 50
    backlog = replace(backlog, requests_per_s=5.0)
    assert most_running(backlog, trace, SLO(e2e_s=2.0)) == 10
    assert most_running(backlog, trace, SLO(ttft_s=1.0, tpot_s=0.05)) == 10  # 1 + 20 * 0.05
    assert most_running(backlog, trace, SLO(ttft_s=1.0)) == 50


def test_a_long_trace_is_stood_for_by_stretches_of_every_business() -> None:
    """16 pieces, one in four ten times as dense: of 8 stretches, two are that dense."""
    size = extents.MIN_SHORT // extents.NUM_PIECES
    gaps = np.repeat([1.0, 1.0, 0.1, 1.0] * 4, size)
    trace = timed(gaps)
    part = short_extent(trace, running=20)
    assert len(part.trace) == extents.MIN_SHORT
    served = part.at_rate(3 * rate_of(trace))
    assert served.arrival_s is not None
    dense = 0
    for number in range(extents.NUM_PIECES):
        rows = part.piece == number
        assert rows.sum() == size
        assert part.counted[rows].sum() == size - 20 - 20
        inner = np.diff(served.arrival_s[rows])[5:-5]
        assert inner == pytest.approx(inner[0])
        dense += inner[0] == pytest.approx(0.1 / 3)
        assert inner[0] == pytest.approx(1 / 3) or inner[0] == pytest.approx(0.1 / 3)
    assert dense == 2
    pauses = np.diff(served.arrival_s)[np.diff(part.piece) > 0]
    assert (pauses > extents.PAUSE_S).all()


def test_the_middle_of_each_eighth_is_served() -> None:
    """16 pieces, each denser than the one before: every other one, from the second on."""
    size = extents.MIN_SHORT // extents.NUM_PIECES
    gaps_s = 1 / np.arange(1, 17)
    trace = timed(np.repeat(gaps_s, size))
    part = short_extent(trace, running=1)
    times = part.trace.arrival_s
    assert times is not None
    served = [float(np.diff(times[part.piece == number])[-1]) for number in range(8)]
    assert served == pytest.approx(gaps_s[1::2], rel=1e-4)


def test_a_short_trace_is_repeated_in_time() -> None:
    trace = poisson(700)
    part = long_extent(trace, running=10)
    assert len(part.trace) == 10 * 700  # 6,400 and whole turns
    assert part.base_per_s == pytest.approx(rate_of(trace))
    times = part.trace.arrival_s
    assert times is not None
    assert trace.arrival_s is not None
    assert np.diff(times[:700]) == pytest.approx(np.diff(trace.arrival_s))
    assert times[700] - times[699] == pytest.approx(1 / rate_of(trace))
    assert np.diff(times[700:1400]) == pytest.approx(np.diff(times[:700]))
    assert repeated_in_time(trace, 1) is trace


def test_sessions_and_contents_are_repeated_each_with_their_own() -> None:
    trace = Trace(
        name="two turns",
        prompt_tokens=np.array([32, 64]),
        output_tokens=np.array([5, 5]),
        arrival_s=np.array([2.0, np.nan]),
        parent=np.array([-1, 0]),
        delay_s=np.array([np.nan, 3.0]),
        hash_ids=np.array([7, 8, 7, 8, 9, 10], dtype=np.uint64),
        hash_offsets=np.array([0, 2, 6]),
        hash_block_size=16,
    )
    twice = repeated_in_time(trace, 2)
    assert twice.parent is not None
    assert twice.delay_s is not None
    assert twice.parent.tolist() == [-1, 0, -1, 2]
    assert twice.delay_s[[1, 3]].tolist() == [3.0, 3.0]
    first, second = set(twice.hash_chain(1).tolist()), set(twice.hash_chain(3).tolist())
    assert not first & second
    assert set(twice.hash_chain(0).tolist()) < first


def test_stretches_take_sessions_whole_or_cut_them() -> None:
    """Turns that follow come along with the turn that they follow."""
    number = 2 * extents.MIN_SHORT + 400
    every_other = np.arange(number) % 2 == 1
    trace = Trace(
        name="pairs",
        prompt_tokens=np.full(number, 8),
        output_tokens=np.full(number, 2),
        arrival_s=np.where(every_other, np.nan, np.arange(number) * 1.0),
        parent=np.where(every_other, np.arange(number) - 1, -1),
        delay_s=np.where(every_other, 0.5, np.nan),
    )
    part = short_extent(trace, running=10)
    served = part.at_rate(1.0)
    assert len(served) == extents.MIN_SHORT
    assert served.num_roots == extents.MIN_SHORT // 2
    found = probe_extent(steady_server(trace, blocks=500), part, 1.0, slo=SLO(e2e_s=5.0))
    assert found.attainment == 1.0


SLOW = SLO(e2e_s=0.5, quantile=0.9)


def kinds(found: Probe, server: Server) -> dict[str, float]:
    return {one.kind: one.share for one in bindings(found, server, SLOW)}


def first(found: Probe, server: Server) -> str:
    strongest = bindings(found, server, SLOW)[0]
    assert strongest.evidence.startswith(f"at {found.rate_per_s:.3g} requests/s ")
    assert strongest.evidence.endswith(".")
    return strongest.kind


def test_few_blocks_bind() -> None:
    """40 + 20 tokens are 4 blocks; 9 blocks (one null) hold two requests: 10/s at most."""
    trace = poisson(600, prompt=40, output=20)
    server = steady_server(trace, blocks=9, max_num_seqs=64)
    found = probe(server, trace, 12.0, SLOW)
    assert first(found, server) == "KV memory"
    assert kinds(found, server)["KV memory"] > 0.8
    assert kinds(found, server)["max_num_seqs"] == 0.0


def test_few_seats_bind() -> None:
    trace = poisson(600, prompt=40, output=20)
    server = steady_server(trace, blocks=1_000, max_num_seqs=2)
    found = probe(server, trace, 12.0, SLOW)
    assert first(found, server) == "max_num_seqs"
    assert kinds(found, server)["KV memory"] == 0.0
    assert "all 2 seats" in bindings(found, server, SLOW)[0].evidence


def test_a_small_token_budget_binds() -> None:
    """Prompts of 640 through steps of 64 tokens: ten steps each, 10/s at most."""
    trace = poisson(600, prompt=640, output=2)
    server = steady_server(trace, blocks=10_000, max_num_seqs=64, max_num_batched_tokens=64)
    found = probe(server, trace, 12.0, SLOW)
    assert first(found, server) == "max_num_batched_tokens"
    assert "budget of 64 tokens" in bindings(found, server, SLOW)[0].evidence


def on_h100(trace: Trace, **flags: Any) -> Server:
    return resolve(
        model=load_model("llama-3.1-8b"),
        gpu=load_gpu("h100-sxm"),
        trace=trace,
        flags={"enable_prefix_caching": False, **flags},
        step_cost_spec="datasheet",
    )


@pytest.mark.parametrize(
    ("kind", "prompt", "output", "rate"),
    [("compute", 4_000, 2, 4.0), ("bandwidth", 20, 400, 5.0)],
)
def test_without_a_queue_it_is_what_the_steps_last(
    kind: str, prompt: int, output: int, rate: float
) -> None:
    """Long prompts are FLOPs; long answers read the weights and the cache for each token."""
    trace = poisson(150, prompt=prompt, output=output)
    server = on_h100(trace)
    found = probe(server, trace, rate, SLOW)
    assert found.spending is not None
    assert found.spending.waiting < 0.2
    assert first(found, server) == kind
    assert kinds(found, server)[kind] > 0.6


def test_what_was_waited_for_adds_up() -> None:
    trace = poisson(600, prompt=40, output=20)
    for flags in ({"blocks": 9, "max_num_seqs": 64}, {"blocks": 1_000, "max_num_seqs": 2}):
        spent = probe(steady_server(trace, **flags), trace, 9.0, SLOW).spending  # type: ignore[arg-type]
        assert spent is not None
        parts = spent.waits_memory + spent.waits_seat + spent.waits_budget
        assert parts == pytest.approx(spent.waiting)
        assert 0 < spent.prefill < 1
