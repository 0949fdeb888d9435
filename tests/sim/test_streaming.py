"""A streamed run is the whole one: the same requests, the same sums, in memory that stays flat."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.kv_groups import KVGroup
from kvsim.sim.allocators import TierSpec
from kvsim.sim.deployment import Deployment
from kvsim.sim.simulation import simulate
from kvsim.sim.streaming import contents, run, simulate_stream
from kvsim.sim.streaming.totals import summarise_stream
from kvsim.sim.summary import summarise
from kvsim.traces import Trace
from kvsim.traces.chunks import Chunk, in_chunks, stream_of
from support.streams import assert_streams_alike, horizon, texts, trace_of
from support.workloads import COSTS, SCHEDULERS, deployments, traces

KINDS = [("paged", "max", "buddy"), ("contiguous", "pow2", "buddy"), ("virtual", "max", "buddy")]
COST = AffineCost(base_s=5e-3, per_scheduled_token_s=2e-5, per_context_token_s=1e-8)
LAW = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)


@pytest.fixture(autouse=True)
def _folds_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small runs fold many times, and forget ids at once."""
    monkeypatch.setattr(run, "_REQUESTS_KEPT", 3)
    monkeypatch.setattr(run, "_SEGMENTS_KEPT", 2)
    monkeypatch.setattr(contents, "_SWEEP_AT_LEAST", 4)


def _plain(**columns: Any) -> Trace:
    num = len(columns["prompt_tokens"])
    return Trace(name="plain", **{"arrival_s": np.arange(num) * 0.01, **columns})


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("allocator", KINDS, ids=lambda kind: kind[0])
@LAW
@given(data=st.data())
def test_a_stream_is_the_whole_run(
    allocator: tuple[str, str, str], scheduler: str, data: st.DataObject
) -> None:
    trace = trace_of(data.draw(traces()))
    deployment, blocks = data.draw(deployments(allocator=allocator, scheduler=scheduler))
    assert_streams_alike(
        trace,
        size=data.draw(st.integers(horizon(trace), len(trace) + 1)),
        deployment=deployment,
        cost=COSTS[data.draw(st.sampled_from(["affine", "bending"]))],
        num_gpu_blocks=blocks,
        check=True,
    )


FULL = KVGroup(kind="full", num_layers=1, block_size=4, page_bytes=1)
CACHES: dict[str, dict[str, Any]] = {
    "hash": {},
    "ahead": {"async_scheduling": True},
    "radix": {"prefix_cache": "radix"},
    "tiers": {
        "tiers": (
            TierSpec(name="host", size_bytes=300, block_bytes=10, latency_s=1e-4, bytes_per_s=1e5),
        )
    },
    "windows": {"kv_groups": (FULL, replace(FULL, kind="sliding_window", window_tokens=8))},
}


@pytest.mark.parametrize("replay", ["closed", "open", "apart"])
@pytest.mark.parametrize("ceil", [True, False], ids=["ceil", "floor"])
@pytest.mark.parametrize("cache", CACHES)
def test_prefixes_are_found_as_in_the_whole_run(cache: str, ceil: bool, replay: str) -> None:
    """Prompts that branch off each other and turns that repeat answers; blocks of any size."""
    for seed, (size, block_size, slots) in enumerate([(8, 4, 400), (3, 8, 150), (6, 4, 4000)]):
        rng = np.random.default_rng(seed)
        trace = texts(rng, 60, size=size, ceil=ceil, across=replay != "closed")
        if replay == "closed":
            follows = trace.parent >= 0
            trace = replace(
                trace,
                arrival_s=np.where(follows, np.nan, trace.arrival_s),
                delay_s=np.where(follows, 0.02, np.nan),
            )
        elif replay == "apart":
            trace = replace(trace, parent=None)
        deployment = Deployment(
            max_model_len=4096,
            block_size=block_size,
            max_num_batched_tokens=32,
            max_num_seqs=6,
            enable_prefix_caching=True,
            **{"async_scheduling": False, **CACHES[cache]},
        )
        needs = int((trace.prompt_tokens + trace.output_tokens).max())
        summary = assert_streams_alike(
            trace,
            size=12,
            deployment=deployment,
            cost=COST,
            num_gpu_blocks=max(slots, 3 * needs) // block_size + 2,
            check=True,
        )
        assert summary.prefix_hit_tokens > 0, "or the test says nothing"


def test_a_closed_loop_is_the_whole_run() -> None:
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 60, (2, 50))
    trace = _plain(prompt_tokens=lengths[0], output_tokens=lengths[1], arrival_s=None)
    deployment = Deployment(max_model_len=128, max_num_seqs=4, enable_prefix_caching=True)
    assert_streams_alike(
        trace, size=7, deployment=deployment, cost=COST, num_gpu_blocks=40, concurrency=6
    )


def test_what_never_ends_is_counted_with_the_turns_behind_it() -> None:
    """Row 1 outgrows the pool for ever, so row 3, its next turn, never arrives."""
    trace = _plain(
        prompt_tokens=np.array([5, 90, 5, 100, 5]),
        output_tokens=np.array([5, 20, 5, 5, 200]),
        arrival_s=np.array([0.0, 0.1, 0.2, np.nan, 0.3]),
        parent=np.array([-1, -1, -1, 1, -1]),
        delay_s=np.array([np.nan, np.nan, np.nan, 1.0, np.nan]),
    )
    deployment = Deployment(
        max_model_len=128, on_impossible="stall", scheduler_reserve_full_isl=False
    )
    summary = assert_streams_alike(
        trace, size=5, deployment=deployment, cost=COST, num_gpu_blocks=6
    )
    assert summary.num_unfinished >= 2, summary


def test_blocks_behind_a_prompt_that_ends_within_an_id_are_said_not_to_be_found() -> None:
    """Ids 1, 2 fill 16 tokens in the first prompt; in the second, id 2 ends at token 12."""
    trace = _plain(
        prompt_tokens=np.array([17, 12]),
        output_tokens=np.array([4, 4]),
        arrival_s=np.array([0.0, 5.0]),
        hash_ids=np.array([1, 2, 1, 2], dtype=np.uint64),
        hash_offsets=np.array([0, 2, 4]),
        hash_block_size=8,
    )
    deployment = Deployment(max_model_len=64, block_size=2, enable_prefix_caching=True)
    setting: dict[str, Any] = {"deployment": deployment, "cost": COST, "num_gpu_blocks": 40}
    whole = summarise(simulate(trace, **setting))
    streamed = simulate_stream(in_chunks(trace), **setting)
    assert whole.prefix_hit_tokens == 10, "all full blocks but the last token's"
    assert summarise_stream(streamed).prefix_hit_tokens == 8, "one whole id"
    assert streamed.notes[0].startswith("1 prompts end within a prefix id")


def test_ids_are_forgotten_when_nothing_of_them_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 requests with ids of their own the pool holds a few: as many are remembered."""
    made: list[contents.Contents] = []
    real = contents.Contents
    monkeypatch.setattr(run, "Contents", lambda *args: made.append(real(*args)) or made[0])
    num = 400
    trace = _plain(
        prompt_tokens=np.full(num, 16),
        output_tokens=np.full(num, 2),
        hash_ids=np.arange(2 * num, dtype=np.uint64),
        hash_offsets=np.arange(0, 2 * num + 1, 2),
        hash_block_size=8,
    )
    deployment = Deployment(max_model_len=64, block_size=8, enable_prefix_caching=True)
    simulate_stream(in_chunks(trace), deployment=deployment, cost=COST, num_gpu_blocks=21)
    assert 10 <= len(made[0]._known) <= 80, len(made[0]._known)


@pytest.mark.parametrize(
    ("columns", "concurrency", "sentence"),
    [
        ({"arrival_s": None}, None, "trace has lengths only"),
        ({}, 0, r"concurrency\(=0\) must be > 0"),
        ({"parent": np.array([-1, 0])}, 1, r"concurrency\(=1\) with sessions does not stream"),
        ({"num_samples": np.array([1, 3])}, None, r"n\(=3\) must be 1"),
        ({"beam_width": np.array([0, 2])}, None, r"beam_width\(=2\) must be 1"),
        (
            {"prefix_row": np.array([-1, 0]), "prefix_tokens": np.array([0, 3])},
            None,
            "shares prefixes to the token",
        ),
    ],
)
def test_what_does_not_stream_is_refused(
    columns: dict[str, Any], concurrency: int | None, sentence: str
) -> None:
    trace = _plain(prompt_tokens=np.array([4, 4]), output_tokens=np.array([2, 2]), **columns)
    deployment = Deployment(max_model_len=64, max_num_seqs=4)
    with pytest.raises(ValueError, match=sentence):
        simulate_stream(
            in_chunks(trace),
            deployment=deployment,
            cost=COST,
            num_gpu_blocks=20,
            concurrency=concurrency,
        )


def test_parents_lie_in_a_chunk_or_the_one_before_and_rows_are_in_order() -> None:
    lengths = {"prompt_tokens": np.full(9, 4), "output_tokens": np.full(9, 2)}
    parent = np.array([-1] * 8 + [2])
    far = _plain(parent=parent, **lengths)
    setting: dict[str, Any] = {
        "deployment": Deployment(max_model_len=64),
        "cost": COST,
        "num_gpu_blocks": 20,
    }
    with pytest.raises(ValueError, match=r"parent\(=2\) of row 8 must be >= 4 to be streamed"):
        simulate_stream(in_chunks(far, size=4), **setting)
    simulate_stream(in_chunks(far, size=5), **setting)

    def falling() -> Iterator[Chunk]:
        for at in (0, 2):
            columns = {name: column[:2] for name, column in lengths.items()}
            yield Chunk(first_row=at, arrival_s=np.array([3.0, 4.0]), **columns)

    def swapped() -> Iterator[Chunk]:
        yield Chunk(first_row=0, arrival_s=np.r_[0.0:8.0, 3.0], **lengths)

    for chunks in (falling, swapped):
        stream = replace(stream_of("rows", in_chunks(far).chunks), chunks=chunks)
        with pytest.raises(ValueError, match=r"arrival_s\(=3\) must not be before"):
            simulate_stream(stream, **setting)


MEMORY = """
import sys
from pathlib import Path
from kvsim.calibration.affine import AffineCost
from kvsim.sim.deployment import Deployment
from kvsim.sim.streaming import simulate_stream
from kvsim.traces import fixed_workload
from kvsim.traces.drawn import drawn_in_chunks
from kvsim.traces.workload import Arrivals

workload = fixed_workload(prompt_tokens=8, output_tokens=2, arrivals=Arrivals(rate_per_s=400.0))
done = simulate_stream(
    drawn_in_chunks(workload, num_requests=int(sys.argv[1]), seed=0, size=4096),
    deployment=Deployment(max_model_len=64, max_num_seqs=64, enable_prefix_caching=True),
    cost=AffineCost(base_s=5e-3, per_scheduled_token_s=1e-6),
    num_gpu_blocks=600,
)
assert done.requests.count("finished") == int(sys.argv[1])
(line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:")]
print(int(line.split()[1]) / 1024)
"""


def test_memory_does_not_grow_with_the_trace() -> None:
    """Four times the requests: kept whole, they would take twice the memory."""
    peaks = []
    for num_requests in (15_000, 60_000):
        command = [sys.executable, "-c", MEMORY, str(num_requests)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout))
    assert peaks[1] < 1.08 * peaks[0], peaks
