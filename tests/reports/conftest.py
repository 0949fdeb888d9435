"""A small real plan: 120 requests on a pool of 800 blocks, clock and seed fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.reports.figures import plan_pictures
from kvsim.reports.page import plan_page
from kvsim.reports.style import fresh
from kvsim.reports.write import plan_files
from kvsim.sim.plan import Plan, make_plan
from kvsim.sim.server import resolve
from kvsim.sim.summary import Quantiles
from kvsim.traces.intake import Intake, take_in
from kvsim.traces.trace import SkippedRow

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>$x_{$"
"""Ends a quote, an attribute and a tag, and is half a formula."""


def small_plan() -> Plan:
    taken = take_in(Intake(workload="sharegpt", num_requests=120, rate_per_s=6.0))
    server = resolve(
        model=load_model("llama-3.1-8b"),
        gpu=load_gpu("a100"),
        trace=taken.trace,
        flags={"max_num_seqs": 16},
        step_cost_spec="affine:0.02,0.0001,0.0000001",
        num_gpu_blocks_override=800,
    )
    return make_plan(server, taken=taken)


@pytest.fixture(scope="session")
def plan() -> Plan:
    return small_plan()


@pytest.fixture(scope="session")
def files(plan: Plan) -> dict[str, bytes]:
    """The report of the small plan."""
    return plan_files(plan)


@pytest.fixture(scope="session")
def evil_plan(plan: Plan) -> Plan:
    """A trace that calls itself a script, with 25 rows that could not be read."""
    skipped = tuple(
        SkippedRow(file=f"{EVIL}.csv", row=row, reason=f"prompt(='{EVIL}') is no number")
        for row in range(2, 27)
    )
    trace = replace(plan.trace, name=EVIL, skipped=skipped)
    return replace(
        plan,
        model=replace(plan.model, name=EVIL),
        gpu=replace(plan.gpu, title=EVIL, price_source=EVIL),
        trace=trace,
        origin=EVIL,
        arrivals=f"{EVIL} & more",
        notes=(EVIL,),
    )


@pytest.fixture(scope="session")
def evil_html(evil_plan: Plan) -> str:
    """Its page; the interval is evil too."""
    with fresh():
        return plan_page(evil_plan, plan_pictures(evil_plan), [EVIL])


@pytest.fixture(scope="session")
def lopsided_plan(plan: Plan) -> Plan:
    """The first baseline can hold no request of the trace."""
    first, *others = plan.baselines
    summary = replace(
        first.summary,
        mean_running=0.0,
        ttft_s=_nothing(first.summary.ttft_s),
        tpot_s=_nothing(first.summary.tpot_s),
        e2e_s=_nothing(first.summary.e2e_s),
        num_finished=0,
        num_rejected=120,
        reject_reasons={"needs N slots, the pool has N": 120},
    )
    segments = {name: column[:0] for name, column in first.result.segments.items()}
    none = replace(
        first,
        summary=summary,
        result=replace(first.result, segments=segments),
        backlog=None,
        memory_backlog=None,
    )
    return replace(plan, baselines=(none, *others))


def _nothing(quantiles: Quantiles) -> Quantiles:
    nan = float("nan")
    return replace(quantiles, mean=nan, p50=nan, p90=nan, p95=nan, p99=nan)


@pytest.fixture(scope="session")
def make_small_plan() -> Callable[[], Plan]:
    return small_plan
