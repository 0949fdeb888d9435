"""The interval in words."""

from __future__ import annotations

from dataclasses import replace

from kvsim.reports.interval import interval_lines, interval_sources
from kvsim.sim.plan import Plan
from support.more_of_a_plan import BY_HAND, GIVEN, NOTHING, STEPS, with_more

GIB = 1 << 30


def banded(plan: Plan, **more: object) -> Plan:
    """A pool of 56.3 GiB, 54.9 to 57.5."""
    sizes = {"low_": 54.9, "": 56.3, "high_": 57.5}
    fields = {f"kv_cache_{end}bytes": round(size * GIB) for end, size in sizes.items()}
    budget = replace(plan.budget, **fields)  # type: ignore[arg-type]
    return with_more(plan, budget=budget, **more)


def test_each_figure_with_its_interval(plan: Plan) -> None:
    assert interval_lines(banded(plan, sensitivity=BY_HAND)) == [
        "KV pool 56.3 GiB (54.9-57.5), 4,000 output tokens/s under backlog (3,040-5,250), "
        "100 requests at once (90.0-110), TTFT p95 100 ms (80.0 ms-130 ms), "
        "TPOT p95 20.0 ms (16.0 ms-26.0 ms).",
        "In brackets, both inputs in doubt at their worse and at their better end: step times "
        "0.80-1.25 times the source's, KV blocks 900-1,100 of 1,000 planned.",
    ]


def test_one_band_alone(plan: Plan) -> None:
    found = replace(BY_HAND, factors=(STEPS,))
    assert interval_lines(banded(plan, sensitivity=found))[1] == (
        "In brackets, the input in doubt at its worse and at its better end: step times 0.80-1.25 "
        "times the source's."
    )


def test_what_is_given_has_no_interval(plan: Plan) -> None:
    answer, because = interval_lines(with_more(plan, sensitivity=GIVEN))
    assert "(" not in answer
    assert because == "No interval: step times and KV blocks are given, neither has a band."


def test_what_never_finished_is_left_out(plan: Plan) -> None:
    """The worse end may hold no request at all."""
    without_end = replace(BY_HAND, low=NOTHING)
    answer = interval_lines(banded(plan, sensitivity=without_end))[0]
    assert "4,000 output tokens/s under backlog, 100 requests at once, TTFT p95 100 ms" in answer
    without_base = replace(BY_HAND, base=NOTHING)
    assert interval_lines(banded(plan, sensitivity=without_base))[0] == (
        "KV pool 56.3 GiB (54.9-57.5)."
    )


def test_a_plan_without_sensitivity_says_nothing(plan: Plan) -> None:
    assert interval_lines(with_more(plan, sensitivity=None)) == []
    assert interval_sources(with_more(plan, sensitivity=None)) == []


def test_each_band_has_its_source(plan: Plan) -> None:
    assert interval_sources(with_more(plan, sensitivity=BY_HAND)) == [
        "Interval, step times: 0.80-1.25 times the source's (by hand).",
        "Interval, KV blocks: 900-1,100 of 1,000 planned (by hand).",
    ]
    assert interval_sources(with_more(plan, sensitivity=GIVEN)) == []
