"""A streamed run is the whole one: the same requests, the same sums, in memory that stays flat."""

from __future__ import annotations

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
from kvsim.sim.streaming import contents, run
from kvsim.traces import Trace
from support.streams import assert_streams_alike, horizon, texts, trace_of
from support.workloads import COSTS, SCHEDULERS, deployments, traces

KINDS = [("paged", "max", "buddy"), ("contiguous", "pow2", "buddy"), ("virtual", "max", "buddy")]
COST = AffineCost(base_s=5e-3, per_scheduled_token_s=2e-5, per_context_token_s=1e-8)
LAW = settings(
    max_examples=10,
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
    for seed, (size, block_size, slots) in enumerate([(8, 4, 400), (4, 4, 150), (6, 4, 4000)]):
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
