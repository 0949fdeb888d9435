"""Memory below the GPU for the prefix cache: the laws, and some loads by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sim.test_invariants import _assert_causal, _assert_equal
from sim.test_prefix_caching import trace_of

from kvsim.calibration.step_cost import Batch
from kvsim.sim.allocators import TierSpec
from kvsim.sim.allocators.tiers import TIERS
from kvsim.sim.deployment import Deployment
from kvsim.sim.replica import StepRecord
from kvsim.sim.result import Result
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import summarise
from kvsim.traces import Trace
from support.workloads import COSTS, deployments, traces

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
LAW = settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
SWEEP = settings(LAW, max_examples=700, derandomize=False)
PAGED = ("paged", "max", "buddy")
BLOCK_BYTES = 1000
ENDLESS = 1 << 40
COST = COSTS["affine"]


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


@LAW
@given(data=st.data())
def test_a_tier_without_room_changes_nothing(data: st.DataObject) -> None:
    """Step for step as without it, and segment for segment in macro-steps."""
    trace = data.draw(traces())
    deployment, blocks = data.draw(tiered())
    without = replace(deployment, tiers=())
    empty = replace(deployment, tiers=tiers_of(*[0] * data.draw(st.integers(1, 2))))
    logs: list[list[object]] = []
    for flags in (without, empty):
        log: list[object] = []
        simulate(
            trace,
            deployment=flags,
            cost=COSTS["affine"],
            num_gpu_blocks=blocks,
            log_step=partial(_note, log),
        )
        logs.append(log)
    assert logs[0] == logs[1]
    plain, tier = (
        simulate(trace, deployment=flags, cost=COSTS["affine"], num_gpu_blocks=blocks, check=True)
        for flags in (without, empty)
    )
    for name, column in plain.segments.items():
        np.testing.assert_array_equal(tier.segments[name], column, err_msg=name)
    for name, column in plain.requests.items():
        np.testing.assert_array_equal(tier.requests[name], column, err_msg=name)


def _note(log: list[object], record: StepRecord) -> None:
    step = record.step
    assert step.order is not None
    assert step.events is not None
    log.append(
        (
            *record[:4],
            record.moment,
            record.num_evicted_blocks,
            record.usage_after,
            [(request.index, *rest) for request, *rest in step.order],
            [event._replace(request=event.request.index) for event in step.events],
            [request.index for request in record.left],
        )
    )


@LAW
@given(data=st.data())
def test_an_endless_tier_finds_what_an_endless_gpu_finds(data: st.DataObject) -> None:
    """Requests one at a time, each of which fits the pool: nobody is preempted or refused."""
    trace = replace(data.draw(traces()), cancel_s=None)
    deployment, _ = data.draw(tiered())
    tiers = tiers_of(*data.draw(st.sampled_from([(ENDLESS,), (2, ENDLESS), (ENDLESS, 7)])))
    size = deployment.block_size
    fits = -(-deployment.max_model_len // size) + 1 + data.draw(st.integers(0, 30))
    below, endless = (
        simulate(
            trace,
            deployment=replace(deployment, tiers=below),
            cost=COSTS["affine"],
            num_gpu_blocks=blocks,
            concurrency=1,
            check=True,
        )
        for below, blocks in ((tiers, fits), ((), fits + 10_000))
    )
    np.testing.assert_array_equal(below.status, endless.status)
    found = below.requests["cached_tokens"]
    np.testing.assert_array_equal(found, endless.requests["cached_tokens"])
    assert not below.tiers[-1].lost_bytes


@LAW
@given(data=st.data())
def test_what_moves_is_conserved(data: st.DataObject) -> None:
    trace = data.draw(traces())
    deployment, blocks = data.draw(tiered())
    result = simulate(
        trace, deployment=deployment, cost=COSTS["affine"], num_gpu_blocks=blocks, check=True
    )
    for tier in result.tiers:
        gone = tier.out_bytes + tier.down_bytes + tier.lost_bytes + tier.superseded_bytes
        assert tier.in_bytes - gone == tier.resident_bytes <= tier.peak_bytes <= tier.size_bytes
    for above, below in pairwise(result.tiers):
        assert above.down_bytes == below.in_bytes
        assert not above.lost_bytes
    assert not result.tiers[-1].down_bytes
    if not result.requests["num_preemptions"].any():  # else a request is admitted several times
        for tier in result.tiers:
            tokens = result.requests[f"{tier.name}_hit_tokens"].sum()
            assert tokens * BLOCK_BYTES <= tier.out_bytes * deployment.block_size
    summary = summarise(result)
    assert summary.prefix_hit_tokens >= summary.host_hit_tokens + summary.secondary_hit_tokens
    assert (summary.loading_s > 0) == bool(len(result.loads["index"]))


def _prompts(chains: list[int], arrival_s: list[float], *, outputs: int = 1) -> Trace:
    """Prompts of 165 tokens; those of one number begin with the same 160, ten blocks of 16."""
    num = len(chains)
    trace = trace_of([[chain] for chain in chains], [165] * num, [outputs] * num, size=160)
    return replace(trace, arrival_s=np.array(arrival_s))


def _chunk(tokens: int, past: int = 160) -> Batch:
    return Batch(0, 0, ((tokens, past),))


def _served(trace: Trace, *, blocks: int = 16, **flags: object) -> Result:
    """On a pool of 15 blocks, with a tenth of a second per block that comes up."""
    deployment = Deployment(
        **{
            "max_model_len": 240,
            "enable_prefix_caching": True,
            "tiers": tiers_of(100, bytes_per_s=1e4),
            **flags,
        }
    )
    return simulate(trace, deployment=deployment, cost=COST, num_gpu_blocks=blocks, check=True)


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_a_hit_below_is_loaded_before_the_rest_is_computed(async_scheduling: bool) -> None:
    """The second prompt pushes six of the first one's ten blocks out; they come back in 0.6 s."""
    result = _served(_prompts([1, 2, 1], [0.0, 10.0, 20.0]), async_scheduling=async_scheduling)
    requests = result.requests
    assert requests["cached_tokens"].tolist() == [0, 0, 160]
    assert requests["host_hit_tokens"].tolist() == [0, 0, 96]
    assert requests["loaded_s"].tolist() == [0.0, 0.0, 0.6]
    assert requests["first_token_s"][2] == pytest.approx(20.6 + COST.step_ns(_chunk(5)) / 1e9)
    phases = result.phases
    mine = phases["index"] == 2
    assert phases["phase"][mine].tolist() == ["loading", "prefill"]
    assert phases["end_s"][mine][0] == pytest.approx(20.6)
    assert result.tiers[0].in_bytes == 1000 * (6 + 6)
    assert result.tiers[0].out_bytes == 1000 * 6
    loading = result.segments["num_steps"] == 0
    assert result.segments["num_running"][loading].max() == 1, "it holds its seat"
