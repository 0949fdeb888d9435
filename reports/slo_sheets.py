"""The SLO search as tables: what each candidate holds, and every rate that was tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import words
from .sheet import Sheet

if TYPE_CHECKING:
    from ..sim.planner.probe import Probe
    from ..sim.planner.search import RateSearch

NOTHING = "none"


def slo_sheet(searches: Sequence[tuple[str, RateSearch]]) -> Sheet:
    """A row per candidate: the rate it holds, and what happens from there on."""
    return Sheet(
        title=f"The highest rate that holds {searches[0][1].slo}",
        columns=(
            "candidate",
            "requests/s that hold",
            "goodput there, 1/s",
            "output tokens/s",
            "knee, requests/s",
            "preemptions from, requests/s",
            "sustained, requests/s",
            "bound by",
        ),
        rows=tuple((title, *_found(search)) for title, search in searches),
        text_columns=(0, 7),
    )


def _found(search: RateSearch) -> tuple[str, ...]:
    best, knee, onset = search.best, search.knee, search.preemption_onset_per_s
    return (
        NOTHING if best is None else rate(best.rate_per_s),
        words.NONE if best is None else rate(best.goodput_per_s),
        words.NONE if best is None else words.count(best.output_tokens_per_s),
        words.NONE if knee is None else rate(knee.rate_per_s),
        NOTHING if onset is None else rate(onset),
        rate(search.saturated_per_s),
        search.bound_by,
    )


def binding_sheet(searches: Sequence[tuple[str, RateSearch]]) -> Sheet:
    """What binds each candidate just above its rate, with the evidence."""
    return Sheet(
        title="What binds just above that rate",
        columns=("candidate", "what", "share of the time", "evidence"),
        rows=tuple(
            (title, one.kind, words.share(one.share), one.evidence)
            for title, search in searches
            for one in search.bindings
            if one.share > 0 or one.kind == search.bound_by
        ),
        text_columns=(0, 1, 3),
    )


def probe_sheet(search: RateSearch) -> Sheet:
    """A row per rate tried."""
    return Sheet(
        title="Every rate tried",
        columns=(
            "requests/s",
            "run",
            "requests",
            "keep every limit",
            "goodput, 1/s",
            f"TTFT p{100 * search.slo.quantile:g}",
            f"TPOT p{100 * search.slo.quantile:g}",
            f"E2E p{100 * search.slo.quantile:g}",
            "running",
            "preempted",
            "behind",
            "holds",
        ),
        rows=tuple(_row(one) for one in search.probes),
        text_columns=(1, 11),
    )


def _row(one: Probe) -> tuple[str, ...]:
    bound = "<= " if one.stopped else ""
    return (
        rate(one.rate_per_s),
        "long" if one.confirms else "short",
        words.count(one.num_requests),
        f"{bound}{words.share(one.attainment)}",
        f"{bound}{rate(one.goodput_per_s)}",
        words.seconds(one.ttft_s),
        words.seconds(one.tpot_s),
        words.seconds(one.e2e_s),
        words.mean(one.mean_running),
        words.count(one.num_preemptions),
        words.share(one.behind),
        _verdict(one),
    )


def _verdict(one: Probe) -> str:
    if one.holds:
        return "yes"
    if one.stopped:
        return "no; ended when it was lost"
    return "no" if one.keeps_up else "no: the queue grows"


def rate(per_s: float) -> str:
    """Requests a second."""
    return words.number(per_s)
