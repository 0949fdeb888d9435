"""Memory below the GPU for the prefix cache: the laws, and some loads by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sim.test_invariants import _assert_causal, _assert_equal

from kvsim.sim.allocators import TierSpec
from kvsim.sim.allocators.tiers import TIERS
from kvsim.sim.deployment import Deployment
from kvsim.sim.simulation import simulate
from support.workloads import COSTS, deployments, traces

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
LAW = settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
SWEEP = settings(LAW, max_examples=2000, derandomize=False)
PAGED = ("paged", "max", "buddy")
BLOCK_BYTES = 1000
ENDLESS = 1 << 40


def tiers_of(
    *blocks: int, bytes_per_s: float = 1e6, latency_s: float = 0.0
) -> tuple[TierSpec, ...]:
    """Tiers of so many blocks, each link slower than the one above."""
    return tuple(
        TierSpec(
            name=name,
            size_bytes=count * BLOCK_BYTES,
            block_bytes=BLOCK_BYTES,
            bytes_per_s=bytes_per_s / 10**place,
            latency_s=latency_s * place,
        )
        for place, (name, count) in enumerate(zip(TIERS, blocks, strict=False))
    )


@st.composite
def tiered(draw: st.DrawFn) -> tuple[Deployment, int]:
    """Flags of a server with a prefix cache and one or two tiers, from none to endless."""
    deployment, blocks = draw(deployments(allocator=PAGED, scheduler="vllm"))
    sizes = st.sampled_from([0, 1, 2, 7, 30, ENDLESS])
    tiers = tiers_of(
        *draw(st.lists(sizes, min_size=1, max_size=2)),
        bytes_per_s=draw(st.sampled_from([1e4, 1e5, 1e6, 1e9])),
        latency_s=draw(st.sampled_from([0.0, 0.003])),
    )
    if deployment.kv_groups:
        blocks = blocks // len(deployment.kv_groups) + 2
    flags = replace(deployment, kv_groups=(), enable_prefix_caching=True, tiers=tiers)
    return flags, blocks


@LAW
@given(data=st.data())
def test_macro_steps_equal_single_steps(data: st.DataObject) -> None:
    _check_law(data)


@pytest.mark.slow
@SWEEP
@given(data=st.data())
def test_macro_steps_equal_single_steps_at_length(data: st.DataObject) -> None:
    _check_law(data)


def _check_law(data: st.DataObject) -> None:
    trace = data.draw(traces())
    deployment, blocks = data.draw(tiered())
    cost = COSTS[data.draw(st.sampled_from(sorted(COSTS)))]
    concurrency = data.draw(st.sampled_from([None, None, 1, 4]))
    macro, exact = (
        simulate(
            trace,
            deployment=deployment,
            cost=cost,
            num_gpu_blocks=blocks,
            concurrency=concurrency,
            exact_steps=exact_steps,
            check=True,
        )
        for exact_steps in (False, True)
    )
    _assert_equal(macro, exact)
    _assert_causal(macro)
