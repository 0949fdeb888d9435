"""Prefix caching by hand: which tokens are found, for ids of any size, sessions and cancels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.sim.allocators import CachingAllocator, GroupedAllocator
from kvsim.sim.content import content_paths, shared_prefixes
from kvsim.sim.deployment import Deployment
from kvsim.sim.engine import make_allocator
from kvsim.sim.request import Request
from kvsim.sim.result import Result
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import summarise
from kvsim.traces import Trace, load_trace, measured_cached_tokens, recorded_workers
from support.chains import trace_of

COST = AffineCost(base_s=5e-3, per_scheduled_token_s=2e-6, per_context_token_s=1e-8)
NAN = float("nan")


def hits(trace: Trace, *, blocks: int = 4000, **flags: object) -> list[int]:
    return cached(trace, blocks=blocks, **flags).requests["cached_tokens"].tolist()


def cached(trace: Trace, *, blocks: int = 4000, **flags: object) -> Result:
    deployment = Deployment(
        **{
            "max_model_len": 8192,
            "enable_prefix_caching": True,
            "async_scheduling": True,
            **flags,
        }
    )
    return simulate(trace, deployment=deployment, cost=COST, num_gpu_blocks=blocks, check=True)


def test_ids_of_512_tokens_are_32_blocks_of_16() -> None:
    trace = trace_of([[1, 2, 3], [1, 2, 4], [1, 5]], [1536, 1400, 600], [4, 4, 4], size=512)
    assert hits(trace) == [0, 1024, 512]
    paths = content_paths(trace, 16)
    assert paths[0][0] is paths[2][0]
    assert (paths[0][0].first, paths[0][0].stop) == (0, 32)


def test_a_prompt_that_was_there_whole_computes_its_last_block_again() -> None:
    trace = trace_of([[1, 2], [1, 2], [1, 2]], [1024, 1024, 1025], [4, 4, 4], size=512)
    # 1025 tokens have three ids in a ceil file; here the third is unknown
    assert hits(trace) == [0, 1008, 1024]


def test_blocks_of_64_need_four_equal_ids_of_16() -> None:
    chains = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 7, 8, 9], [1, 2, 3, 4, 5, 10]]
    trace = trace_of(chains, [96, 96, 96], [4, 4, 4], size=16)
    assert hits(trace, block_size=16) == [0, 48, 80]
    assert hits(trace, block_size=64) == [0, 0, 64]
    assert hits(trace, block_size=32) == [0, 32, 64]


def test_a_later_turn_finds_the_answer() -> None:
    """Turn 2 repeats turn 1's 100 tokens and its answer of 60: 159 of these 160 were computed."""
    chains = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 20, 21, 22, 23, 24, 25, 26]]
    apart = trace_of(chains, [100, 210], [60, 5], size=16)
    assert hits(apart) == [0, 96]
    session = trace_of(chains, [100, 210], [60, 5], size=16, parent=[-1, 0])
    row, tokens = shared_prefixes(session)
    assert (row.tolist(), tokens.tolist()) == ([-1, 0], [0, 160])
    assert hits(session) == [0, 144]
    assert hits(session, async_scheduling=False) == [0, 144]


def test_a_turn_that_does_not_hold_the_answer_shares_its_prompt_only() -> None:
    chains = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 20]]
    session = trace_of(chains, [100, 120], [60, 5], size=16, parent=[-1, 0])
    assert hits(session) == [0, 96]


def test_what_does_not_fit_is_forgotten_tail_first() -> None:
    """Of the first prompt's 60 blocks, 20 must go; its head is what stays."""
    trace = trace_of([[1], [2], [1]], [960, 640, 960], [1, 1, 1], size=960)
    assert hits(trace, blocks=81, max_model_len=1024) == [0, 0, 640]


def test_sharing_is_counted_once() -> None:
    """Eight requests on one system prompt: its memory is held once, and the shares sum to 1."""
    trace = trace_of([[1, 10 + i] for i in range(8)], [1024] * 8, [64] * 8, size=512, gap_s=0.0)
    summary = summarise(cached(trace))
    assert summary.prefix_hit_tokens == 7 * 512
    assert summary.prefix_hit_ratio == pytest.approx(7 * 512 / 8192)
    assert summary.shared_saved > 0
    apart = summarise(cached(replace(trace, hash_ids=np.arange(16, dtype=np.uint64))))
    both = summary.pool_share.token_states * summary.makespan_s
    saved = summary.shared_saved * summary.makespan_s
    assert both + saved == pytest.approx(
        apart.pool_share.token_states * summary.makespan_s, rel=0.1
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_reset_forgets_all_once_nobody_holds_anything(grouped: bool) -> None:
    allocator = _filled(grouped)
    request = Request(index=0, prompt_tokens=64, output_tokens=4)
    trace = trace_of([[1]], [64], [4], size=64)
    request.path = content_paths(trace, 16)[0]
    allocator.admit(request, 64)
    assert not allocator.reset(), "somebody holds blocks"
    request.computed = 64
    allocator.release(request)
    assert allocator.cached_tokens(request) == 48
    before = allocator.free_queue()
    assert allocator.reset()
    assert allocator.cached_tokens(request) == 0
    assert allocator.free_queue() == before, "the order of the free queue stays"
    allocator.check()


def _filled(grouped: bool) -> CachingAllocator | GroupedAllocator:
    from kvsim.calibration.kv_groups import KVGroup

    full = KVGroup(kind="full", num_layers=1, block_size=16, page_bytes=1)
    window = replace(full, kind="sliding_window", window_tokens=4096)
    deployment = Deployment(
        max_model_len=8192,
        enable_prefix_caching=True,
        kv_groups=(full, window) if grouped else (),
    )
    allocator = make_allocator(deployment, 40)
    assert isinstance(allocator, CachingAllocator | GroupedAllocator)
    return allocator


def test_a_cancelled_request_gives_its_memory_back_at_once() -> None:
    """The pool holds one request; the second runs as soon as the first client has gone."""
    trace = Trace(
        name="impatient",
        prompt_tokens=np.array([400, 400, 400]),
        output_tokens=np.array([100, 100, 100]),
        arrival_s=np.array([0.0, 0.001, 0.002]),
        cancel_s=np.array([0.2, NAN, 0.05]),
    )
    result = cached(trace, blocks=33, max_model_len=512)
    assert result.status.tolist() == ["cancelled", "finished", "cancelled"]
    requests = result.requests
    assert 0.2 <= requests["scheduled_s"][1] <= 0.2 + 0.02
    assert np.isnan(requests["scheduled_s"][2]), "it gave up while it waited"
    summary = summarise(result)
    assert (summary.num_cancelled, summary.num_finished, summary.num_unfinished) == (2, 1, 0)


def test_a_cancelled_request_says_what_it_had() -> None:
    trace = Trace(
        name="impatient",
        prompt_tokens=np.array([100]),
        output_tokens=np.array([1000]),
        arrival_s=np.array([0.0]),
        cancel_s=np.array([1.0]),
    )
    result = cached(trace)
    assert result.requests["finish_s"][0] == pytest.approx(1.0, abs=0.01)
    assert 150 < result.requests["output_tokens"][0] < 210
    assert result.num_length_capped == 0


@pytest.mark.parametrize("prefix_cache", ["hash", "radix"])
def test_what_is_cached_stays_cached_while_nobody_is_there(prefix_cache: str) -> None:
    trace = trace_of([[1, 2], [1, 2]], [1024, 1024], [10, 10], size=512, gap_s=1000.0)
    summary = summarise(cached(trace, blocks=129, prefix_cache=prefix_cache))
    assert summary.prefix_hit_tokens >= 1008
    assert summary.pool_share.cached == pytest.approx(0.5, abs=0.01)
    assert summary.pool_share.free == pytest.approx(0.5, abs=0.01)
    assert summary.effective_kv_utilisation > 0.4, "while anything runs"


def test_a_client_plays_one_session_after_another() -> None:
    """Two sessions of three turns and one client: turns in order, with their pauses."""
    trace = Trace(
        name="sessions",
        prompt_tokens=np.full(6, 20),
        output_tokens=np.full(6, 5),
        arrival_s=np.array([0.0, 0.0, *[NAN] * 4]),
        parent=np.array([-1, -1, 0, 1, 2, 3]),
        delay_s=np.array([NAN, NAN, 2.0, 2.0, 2.0, 2.0]),
    )
    deployment = Deployment(max_model_len=1024)
    result = simulate(
        trace, deployment=deployment, cost=COST, num_gpu_blocks=100, concurrency=1, check=True
    )
    arrival_s, finish_s = result.requests["arrival_s"], result.requests["finish_s"]
    for child, parent in ((2, 0), (4, 2), (3, 1), (5, 3)):
        assert arrival_s[child] == pytest.approx(finish_s[parent] + 2.0)
    assert arrival_s[1] == pytest.approx(finish_s[4]), "the next session begins"


def test_hits_of_a_real_agent_run_on_two_servers(shared_file: Callable[[str], Path]) -> None:
    """Dynamo recorded its own hits, 75.6 % of the input, on two workers with a cache each."""
    path = shared_file("traces/dynamo/pi_request_trace.jsonl.gz")
    trace, workers = load_trace(path, session_replay="open"), recorded_workers(path)
    found = np.zeros(len(trace), dtype=np.int64)
    for worker in range(2):
        rows = np.flatnonzero(workers == worker)
        found[rows] = hits(trace.take(rows), blocks=20_000, max_model_len=40_960)
    measured = measured_cached_tokens(path).sum() / trace.prompt_tokens.sum()
    assert measured == pytest.approx(0.756, abs=5e-4)
    assert found.sum() / trace.prompt_tokens.sum() == pytest.approx(measured, abs=0.03)
