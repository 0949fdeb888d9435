"""Laws that hold for every allocator and scheduler on every workload."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.sim.deployment import Deployment
from kvsim.sim.result import Result
from kvsim.sim.schedulers.policies import POLICIES
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import summarise
from support.laws import assert_causal, assert_equal
from support.workloads import (
    ALLOCATORS,
    COSTS,
    SCHEDULERS,
    Columns,
    deployments,
    traces,
    workloads,
)

MATRIX = [
    pytest.param(allocator, scheduler, id=f"{'-'.join(allocator)}-{scheduler}")
    for allocator in ALLOCATORS
    for scheduler in SCHEDULERS
]
KINDS = [
    (kind, scheduler)
    for kind in dict.fromkeys(kind for kind, *_ in ALLOCATORS)
    for scheduler in SCHEDULERS
]
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
LAW = settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
SWEEP = settings(LAW, max_examples=500, derandomize=False)


@pytest.mark.parametrize(("allocator", "scheduler"), MATRIX)
@LAW
@given(data=st.data())
def test_macro_steps_equal_single_steps(
    allocator: tuple[str, str, str], scheduler: str, data: st.DataObject
) -> None:
    _check_law(allocator, scheduler, data)


@pytest.mark.slow
@pytest.mark.parametrize(("allocator", "scheduler"), MATRIX)
@SWEEP
@given(data=st.data())
def test_macro_steps_equal_single_steps_at_length(
    allocator: tuple[str, str, str], scheduler: str, data: st.DataObject
) -> None:
    _check_law(allocator, scheduler, data)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("asynchronous", [False, True])
@settings(LAW, max_examples=30)
@given(data=st.data())
def test_macro_steps_equal_single_steps_under_every_policy(
    policy: str, asynchronous: bool, data: st.DataObject
) -> None:
    flags = {"scheduling_policy": policy, "async_scheduling": asynchronous}
    _check_law(("paged", "max", "buddy"), "vllm", data, **flags)


def _check_law(
    allocator: tuple[str, str, str], scheduler: str, data: st.DataObject, **flags: Any
) -> None:
    trace = data.draw(traces())
    deployment, blocks = data.draw(deployments(allocator=allocator, scheduler=scheduler))
    deployment = replace(deployment, **flags)
    cost = COSTS[data.draw(st.sampled_from(sorted(COSTS)))]
    concurrency = data.draw(st.sampled_from([None, None, 1, 4]))
    runs = [
        simulate(
            trace,
            deployment=deployment,
            cost=cost,
            num_gpu_blocks=blocks,
            concurrency=concurrency,
            exact_steps=exact,
            check=True,
        )
        for exact in (False, True)
    ]
    assert_equal(*runs)
    assert_causal(runs[0])


@pytest.mark.parametrize(("kind", "scheduler"), KINDS)
@settings(LAW, max_examples=40)
@given(data=st.data())
def test_macro_steps_equal_single_steps_of_groups(
    kind: str, scheduler: str, data: st.DataObject
) -> None:
    _check_groups(kind, scheduler, data)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "scheduler"), KINDS)
@SWEEP
@given(data=st.data())
def test_macro_steps_equal_single_steps_of_groups_at_length(
    kind: str, scheduler: str, data: st.DataObject
) -> None:
    _check_groups(kind, scheduler, data)


def _check_groups(kind: str, scheduler: str, data: st.DataObject) -> None:
    """Samples, beams, pinned prefixes and swaps."""
    allocator = data.draw(st.sampled_from([one for one in ALLOCATORS if one[0] == kind]))
    work = data.draw(workloads(allocator=allocator, scheduler=scheduler))
    macro, exact = (work.run(exact_steps=exact_steps) for exact_steps in (False, True))
    assert_equal(macro, exact)
    assert macro.moved == exact.moved
    assert_causal(macro)


@LAW
@given(data=st.data())
def test_same_input_same_summary(data: st.DataObject) -> None:
    trace = data.draw(traces())
    allocator = data.draw(st.sampled_from(ALLOCATORS))
    deployment, blocks = data.draw(deployments(allocator=allocator, scheduler="vllm"))
    first, second = (
        summarise(
            simulate(trace, deployment=deployment, cost=COSTS["bending"], num_gpu_blocks=blocks)
        ).to_json()
        for _ in range(2)
    )
    assert first == second


def _alike(prompts: list[int], outputs: list[int], prefixes: dict[int, tuple[int, int]]) -> Columns:
    """Requests that begin alike: ``prefixes`` maps a row to (row, tokens)."""
    rows = [prefixes.get(row, (-1, 0)) for row in range(len(prompts))]
    return Columns(
        arrival_s=np.zeros(len(prompts)),
        prompt_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
        prefix_row=np.array([row for row, _ in rows]),
        prefix_tokens=np.array([tokens for _, tokens in rows]),
    )


def test_a_full_block_is_found_though_memory_is_short() -> None:
    """The one who fills a block needs no memory in a step in which others preempt."""
    prompts = [1, 1, 1, 1, 1, 42, 1, 1, 1, 9, 75, 17, 49, *[1] * 6]
    outputs = [1, 1, 1, 1, 1, 7, 1, 1, 1, 26, 24, 24, *[1] * 7]
    trace = _alike(prompts, outputs, {10: (5, 48), 12: (9, 32)})
    parent, delay_s = np.full(19, -1), np.full(19, np.nan)
    parent[12:15], delay_s[12:15] = 0, (1.0, 0.0, 0.0)
    arrival_s = np.array([*[0.0] * 9, 0.9, 0.9, 0.9, *[np.nan] * 3, *[0.9] * 4])
    trace = replace(trace, arrival_s=arrival_s, parent=parent, delay_s=delay_s)
    deployment = Deployment(
        max_model_len=256,
        max_num_seqs=64,
        max_num_batched_tokens=130,
        enable_prefix_caching=True,
        enable_chunked_prefill=False,
        long_prefill_token_threshold=16,
        scheduler_reserve_full_isl=False,
    )
    _assert_law(trace, deployment, 14)


@pytest.mark.parametrize("prefix_cache", ["hash", "radix"])
@pytest.mark.parametrize("slots", [90, 95, 100, 105])
def test_whole_prompts_wait_for_the_budget_once_their_beginning_is_gone(
    prefix_cache: str, slots: int
) -> None:
    """Others evict what the head would find: then it is the budget that it does not fit."""
    trace = _alike([20, 30, *[3] * 10, 60], [1, 1, *[40] * 10, 1], {12: (0, 20)})
    trace = replace(trace, arrival_s=np.array([0.0, 0.1, *[0.2] * 10, 0.211]))
    deployment = Deployment(
        max_model_len=256,
        max_num_seqs=64,
        max_num_batched_tokens=60,
        block_size=1,
        enable_prefix_caching=True,
        prefix_cache=prefix_cache,
        enable_chunked_prefill=False,
    )
    macro, exact = _assert_law(trace, deployment, slots + 1)
    blocked = [r.segments["blocked"] @ r.segments["duration_s"] for r in (macro, exact)]
    assert blocked[0] == pytest.approx(blocked[1])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_head_changes_while_others_decode(asynchronous: bool) -> None:
    """A long prompt of one tenant waits for memory until the other's short one is the next."""
    trace = replace(
        _alike([20, 20, 200, 8], [60, 60, 5, 5], {}),
        tenant=np.array([0, 1, 0, 1]),
        arrival_s=np.array([0.0, 0.0, 0.1, 0.1]),
        priority=None,
    )
    trace = replace(trace, output_tokens=np.array([60, 30, 5, 5]))
    deployment = Deployment(
        max_model_len=256,
        block_size=1,
        scheduling_policy="fair",
        scheduler="vllm",
        async_scheduling=asynchronous,
    )
    _assert_law(trace, deployment, 240)


def _assert_law(trace: Columns, deployment: Deployment, blocks: int) -> tuple[Result, Result]:
    macro, exact = (
        simulate(
            trace,
            deployment=deployment,
            cost=COSTS["affine"],
            num_gpu_blocks=blocks,
            exact_steps=exact_steps,
            check=True,
        )
        for exact_steps in (False, True)
    )
    assert_equal(macro, exact)
    return macro, exact
