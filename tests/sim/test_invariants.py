"""Laws that hold for every allocator and scheduler on every workload."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.sim.result import CANCELLED, FINISHED, REJECTED, Result
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import CATEGORIES, summarise
from support.workloads import ALLOCATORS, COSTS, SCHEDULERS, deployments, traces

MATRIX = [
    pytest.param(allocator, scheduler, id=f"{'-'.join(allocator)}-{scheduler}")
    for allocator in ALLOCATORS
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


def _check_law(allocator: tuple[str, str, str], scheduler: str, data: st.DataObject) -> None:
    trace = data.draw(traces())
    deployment, blocks = data.draw(deployments(allocator=allocator, scheduler=scheduler))
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
    _assert_equal(*runs)
    _assert_causal(runs[0])


def _assert_equal(macro: Result, exact: Result) -> None:
    for name, column in exact.requests.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(macro.requests[name], column, rtol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(macro.requests[name], column, err_msg=name)
    assert macro.num_steps == exact.num_steps
    assert macro.peak_waiting == exact.peak_waiting
    _assert_close(summarise(macro).to_json(), summarise(exact).to_json())


def _assert_close(macro: object, exact: object) -> None:
    if isinstance(exact, dict):
        assert isinstance(macro, dict)
        assert list(macro) == list(exact)
        for key in exact:
            _assert_close(macro[key], exact[key])
    elif isinstance(exact, float):
        assert macro == pytest.approx(exact, rel=1e-8, abs=1e-8)
    else:
        assert macro == exact


def _assert_causal(result: Result) -> None:
    requests = result.requests
    done = result.status == FINISHED
    rejected = result.status == REJECTED
    cancelled = result.status == CANCELLED
    assert (done | rejected | cancelled).all(), "every request ends, is rejected or is cancelled"
    assert (np.asarray(requests["reject_reason"])[rejected] != "").all()
    order = ["arrival_s", "scheduled_s", "first_token_s", "finish_s"]
    times = [np.asarray(requests[name], dtype=float)[done] for name in order]
    for earlier, later in pairwise(times):
        assert (earlier <= later).all()
    segments = result.segments
    ends = np.asarray(segments["start_s"]) + np.asarray(segments["duration_s"])
    assert (np.asarray(segments["duration_s"]) > 0).all(), "time never goes back"
    np.testing.assert_array_less(ends[:-1], np.asarray(segments["start_s"])[1:] + 1e-9)
    total = sum(np.asarray(segments[name], dtype=float) for name in CATEGORIES)
    np.testing.assert_allclose(total, result.pool_slots, rtol=1e-9)
    for name in CATEGORIES:
        assert (np.asarray(segments[name]) >= -1e-6).all(), name


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
