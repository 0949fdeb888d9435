"""Samples that are requests of their own: what a trace with each of them in a row comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.sim.result import Result
from support.workloads import ALLOCATORS, ORDERS, SCHEDULERS, Columns, Workload, workloads

LAW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def in_rows(trace: Columns) -> Columns:
    """Every sample a row, whose prompt is that of the first."""
    n = trace.num_samples
    assert n is not None
    first = np.repeat(np.cumsum(n) - n, n)
    others = np.arange(len(first)) > first
    columns: dict[str, Any] = {
        name: np.repeat(column, n)
        for name in ("arrival_s", "prompt_tokens", "output_tokens", "priority", "tenant")
        if (column := getattr(trace, name)) is not None
    }
    if trace.cancel_s is not None:
        columns["cancel_s"] = np.repeat(trace.cancel_s, n)
    return Columns(
        **columns,
        prefix_row=np.where(others, first, -1),
        prefix_tokens=np.where(others, np.repeat(trace.prompt_tokens, n), 0),
    )


@LAW
@given(data=st.data())
def test_fanning_out_is_a_trace_with_more_rows(data: st.DataObject) -> None:
    scheduler = data.draw(st.sampled_from(["vllm", *SCHEDULERS]))
    work = data.draw(
        workloads(allocator=data.draw(st.sampled_from(ALLOCATORS)), scheduler=scheduler)
    )
    size = len(work.trace.prompt_tokens)
    samples = np.array(data.draw(st.lists(st.integers(1, 4), min_size=size, max_size=size)))
    trace = replace(
        work.trace,
        arrival_s=np.sort(np.nan_to_num(work.trace.arrival_s)),
        parent=None,
        delay_s=None,
        prefix_row=None,
        prefix_tokens=None,
        num_samples=samples,
        beam_width=None,
    )
    deployment = replace(
        work.deployment,
        parallel_sampling="fan_out",
        scheduling_policy=data.draw(st.sampled_from(_policies(scheduler))),
    )
    if work.deployment.max_num_seqs < 4:
        deployment = replace(deployment, max_num_seqs=4)
    work = replace(work, trace=trace, deployment=deployment, concurrency=None)
    fanned = work.run(exact_steps=False)
    rows = replace(work, trace=in_rows(trace)).run(exact_steps=False)
    _assert_same(work, fanned, rows, samples)


def _policies(scheduler: str) -> list[str]:
    return [policy for policy, name in ORDERS if name == scheduler]


def _assert_same(work: Workload, fanned: Result, rows: Result, samples: np.ndarray) -> None:
    for name, column in rows.segments.items():
        np.testing.assert_array_equal(fanned.segments[name], column, err_msg=name)
    several = fanned.status != "rejected"  # a row is rejected as one
    first = np.cumsum(samples) - samples
    for name in ("num_preemptions", "wasted_tokens"):
        total = np.add.reduceat(rows.requests[name], first)
        np.testing.assert_array_equal(fanned.requests[name], total, err_msg=name)
    waited = np.add.reduceat(rows.requests["waited_s"], first)
    np.testing.assert_allclose(fanned.requests["waited_s"], waited, rtol=1e-9, atol=1e-12)
    for name, fold in (("scheduled_s", np.fmin), ("first_token_s", np.fmin), ("finish_s", np.fmax)):
        best = fold.reduceat(rows.requests[name], first)
        np.testing.assert_array_equal(fanned.requests[name][several], best[several], err_msg=name)
    pauses, theirs = fanned.pauses, rows.pauses
    for name in ("preempted_s", "admitted_s", "resumed_s"):
        np.testing.assert_array_equal(np.sort(pauses[name]), np.sort(theirs[name]), err_msg=name)
    np.testing.assert_array_equal(np.sort(fanned.gaps_s), np.sort(rows.gaps_s))
