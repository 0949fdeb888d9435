"""What the pool holds at a moment: single steps give it exactly, runs of steps nearly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.calibration.affine import AffineCost
from kvsim.sim.deployment import Deployment
from kvsim.sim.pool_at import pool_at, step_at
from kvsim.sim.result import CATEGORIES, Result
from kvsim.sim.simulation import simulate
from support.workloads import ALLOCATORS, COSTS, Columns, deployments, traces

COST = AffineCost(base_s=5e-3, per_scheduled_token_s=2e-5, per_context_token_s=1e-6)
PLAIN = Deployment(
    max_model_len=4096, max_num_seqs=64, max_num_batched_tokens=4096, enable_prefix_caching=False
)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def both(trace: Columns, deployment: Deployment, blocks: int) -> tuple[Result, Result]:
    """The run in macro-steps and in single steps."""
    macro, exact = (
        simulate(trace, deployment=deployment, cost=COST, num_gpu_blocks=blocks, exact_steps=exact)
        for exact in (False, True)
    )
    return macro, exact


def lone(prompts: list[int], outputs: list[int]) -> Columns:
    """Requests that come together at time 0."""
    return Columns(
        arrival_s=np.zeros(len(prompts)),
        prompt_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
    )


@pytest.mark.parametrize("asynchronous", [False, True])
def test_tokens_of_a_run_of_steps_are_those_of_single_steps(asynchronous: bool) -> None:
    deployment = replace(PLAIN, async_scheduling=asynchronous)
    macro, exact = both(lone([30, 70, 20], [400, 300, 500]), deployment, 1000)
    assert len(macro.segments["start_s"]) < 20 < len(exact.segments["start_s"])
    middles = exact.segments["start_s"] + exact.segments["duration_s"] / 2
    np.testing.assert_allclose(
        pool_at(macro, middles)["token_states"], exact.segments["token_states"], rtol=1e-9
    )


@pytest.mark.parametrize("allocator", ["paged", "contiguous"])
def test_blocks_are_within_one_of_single_steps_for_each_request(allocator: str) -> None:
    deployment = replace(PLAIN, allocator=allocator, block_size=16)
    macro, exact = both(lone([30, 70, 20], [400, 300, 500]), deployment, 1000)
    middles = exact.segments["start_s"] + exact.segments["duration_s"] / 2
    at = pool_at(macro, middles)
    off = np.abs(at["free"] - exact.segments["free"])
    assert off.max() <= (3 * 16 if allocator == "paged" else 1e-6)
    assert off.mean() <= 16
    assert np.abs(at["free"] - at["free"].mean()).max() > 3 * 16 or allocator == "contiguous"


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_slots_sum_to_the_pool_and_single_steps_are_exact(data: st.DataObject) -> None:
    trace = data.draw(traces(most=12))
    allocator = data.draw(st.sampled_from(ALLOCATORS))
    deployment, blocks = data.draw(deployments(allocator=allocator, scheduler="vllm"))
    cost = COSTS[data.draw(st.sampled_from(["affine", "bending"]))]
    result = simulate(trace, deployment=deployment, cost=cost, num_gpu_blocks=blocks)
    segments = result.segments
    if not len(segments["start_s"]):
        return
    end = segments["start_s"][-1] + segments["duration_s"][-1]
    at = pool_at(result, np.linspace(-0.1, end + 0.1, 200))
    total = sum(at[name] for name in CATEGORIES)
    np.testing.assert_allclose(total, result.pool_slots, rtol=1e-9)
    assert all((at[name] >= 0).all() for name in CATEGORIES)
    at = pool_at(result, segments["start_s"])
    for name in CATEGORIES:
        np.testing.assert_allclose(at[name], result.starts[name], atol=1e-6, err_msg=name)


def test_outside_of_all_steps_everything_is_free() -> None:
    macro, _ = both(lone([30], [40]), PLAIN, 100)
    last = macro.segments["start_s"][-1] + macro.segments["duration_s"][-1]
    at = pool_at(macro, np.array([-1.0, last, last + 5]))
    assert (at["free"] == macro.pool_slots).all()
    assert (at["token_states"] == 0).all()


def test_nothing_ran_at_all() -> None:
    rejected = simulate(lone([5000], [1]), deployment=PLAIN, cost=COST, num_gpu_blocks=100)
    at = pool_at(rejected, np.array([0.0, 1.0]))
    assert at["free"].tolist() == [rejected.pool_slots] * 2
    assert at["cached"].tolist() == [0, 0]


@pytest.mark.parametrize(("first", "slope"), [(1.0, 0.0), (1.0, 0.25), (2.0, -0.01), (1e-3, 1e-9)])
def test_step_at_counts_steps_that_have_ended(first: float, slope: float) -> None:
    ends = np.cumsum(first + slope * np.arange(50))
    for shift, ended in ((-1e-7, 0), (1e-7, 1)):
        since = ends + shift * first
        found = step_at(
            since, np.full(50, first), np.full(50, slope), np.full(50, 50, dtype=np.int64)
        )
        np.testing.assert_array_equal(found, np.minimum(np.arange(50) + ended, 49))
