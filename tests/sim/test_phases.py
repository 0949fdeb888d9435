"""Phases of requests: they tile each life, and macro-steps give those of single steps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.sim.phases import DECODE, PREEMPTED, PREFILL, QUEUED
from kvsim.sim.result import CANCELLED, REJECTED, UNFINISHED, Result
from kvsim.sim.schedulers import TRANSFORMERS
from kvsim.sim.simulation import simulate
from support.workloads import ALLOCATORS, COSTS, SCHEDULERS, deployments, traces

MATRIX = [
    pytest.param(kind, scheduler, id=f"{kind}-{scheduler}")
    for kind in ("paged", "contiguous")
    for scheduler in SCHEDULERS
]
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
LAW = settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
SWEEP = settings(LAW, max_examples=500, derandomize=False)

Phase = tuple[str, float, float]


@pytest.mark.parametrize(("kind", "scheduler"), MATRIX)
@LAW
@given(data=st.data())
def test_phases_tile_a_life(kind: str, scheduler: str, data: st.DataObject) -> None:
    _check_law(kind, scheduler, data)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "scheduler"), MATRIX)
@SWEEP
@given(data=st.data())
def test_phases_tile_a_life_at_length(kind: str, scheduler: str, data: st.DataObject) -> None:
    _check_law(kind, scheduler, data)


def _check_law(kind: str, scheduler: str, data: st.DataObject) -> None:
    trace = data.draw(traces())
    allocator = data.draw(st.sampled_from([row for row in ALLOCATORS if row[0] == kind]))
    deployment, blocks = data.draw(deployments(allocator=allocator, scheduler=scheduler))
    cost = COSTS[data.draw(st.sampled_from(sorted(COSTS)))]
    macro, exact = (
        simulate(trace, deployment=deployment, cost=cost, num_gpu_blocks=blocks, exact_steps=exact)
        for exact in (False, True)
    )
    _assert_same_phases(macro, exact)
    _assert_same_starts(macro, exact)
    np.testing.assert_allclose(macro.gap_ends_s, exact.gap_ends_s, rtol=1e-9)
    by_index = lives(exact)
    for row, status in enumerate(exact.status.tolist()):
        phases = by_index.get(row, [])
        assert bool(phases) == (status != REJECTED)
        if phases:
            _assert_a_life(exact, row, phases, at_once=scheduler in TRANSFORMERS)


def _assert_same_phases(macro: Result, exact: Result) -> None:
    for name, column in exact.phases.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(macro.phases[name], column, rtol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(macro.phases[name], column, err_msg=name)


def _assert_same_starts(macro: Result, exact: Result) -> None:
    """What the pool holds as a run of steps begins is what it holds in that single step."""
    at = np.searchsorted(exact.segments["start_s"], macro.segments["start_s"] - 1e-9)
    for name, column in macro.starts.items():
        np.testing.assert_allclose(column, exact.segments[name][at], atol=1e-6, err_msg=name)


def _assert_a_life(result: Result, row: int, phases: list[Phase], *, at_once: bool) -> None:
    requests = {name: column[row] for name, column in result.requests.items()}
    names = [name for name, _, _ in phases]
    assert phases[0][1] == requests["arrival_s"]
    assert (phases[-1][2] == requests["finish_s"]) or requests["status"] == UNFINISHED
    for (_, _, end), (_, start, _) in pairwise(phases):
        assert end == start, "no gap, no overlap"
    assert all(end > start or name == PREEMPTED for name, start, end in phases)
    for before, after in pairwise(names):
        assert (before, after) in FOLLOWS or (at_once and (before, after) in AT_ONCE)
    assert names.count(PREEMPTED) == requests["num_preemptions"]
    waits = [end - start for name, start, end in phases if name in (QUEUED, PREEMPTED)]
    if names[-1] in (QUEUED, PREEMPTED):  # it left the queue without being admitted
        waits.pop()
    assert sum(waits) == pytest.approx(requests["waited_s"], abs=1e-9)
    admissions = [start for name, start, _ in phases if name == PREFILL]
    seated = [start for name, start, _ in phases if name != QUEUED]
    assert not seated or seated[0] == requests["scheduled_s"]
    assert names[0] in (QUEUED, PREFILL) or (at_once and names[0] == PREEMPTED)
    assert bool(admissions) or requests["status"] == CANCELLED


FOLLOWS = {
    (QUEUED, PREFILL),
    (PREFILL, DECODE),
    (PREFILL, PREEMPTED),
    (DECODE, PREEMPTED),
    (PREEMPTED, PREFILL),
}
"""What may come after what."""
AT_ONCE = {(QUEUED, PREEMPTED), (PREEMPTED, PREEMPTED)}
"""Where a cached beginning is reason enough to be let in, one may give way in the same moment."""


def lives(result: Result) -> dict[int, list[Phase]]:
    """Phases by request."""
    phases = result.phases
    found: dict[int, list[Phase]] = {}
    for index, *phase in zip(*(phases[name].tolist() for name in phases), strict=True):
        found.setdefault(index, []).append((phase[0], phase[1], phase[2]))
    return found
