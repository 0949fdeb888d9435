"""The tables of a plan as data: candidates, shares of the pool, latencies, requests at once."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from . import words
from .memory_sheets import budget_sheet
from .sheet import Sheet
from .verdict import ratio

if TYPE_CHECKING:
    from ..sim.candidate import Candidate
    from ..sim.plan import Plan
    from ..sim.summary import PoolShare, Quantiles

__all__ = [
    "advantage_sheet",
    "at_once_sheet",
    "budget_sheet",
    "candidate_sheet",
    "latency_sheet",
    "pool_share_sheet",
    "running_sheet",
]

CATEGORY_TITLES = {
    "token_states": "token states",
    "reserved": "reserved",
    "internal": "internal waste",
    "external": "external waste",
    "cached": "cached",
    "free": "free",
}
TIMES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "itl_s": "ITL", "e2e_s": "E2E"}


def candidate_sheet(plan: Plan) -> Sheet:
    """A row per candidate, the paged one first; nothing abbreviated, cost where it is known."""
    priced = any(one.usd_per_million_output_tokens is not None for one in plan.candidates)
    cost = ("USD per million tokens",) if priced else ()
    columns = (
        "allocator",
        "running under backlog",
        "by memory alone",
        "output tokens/s under backlog",
        *cost,
        "running over the trace",
        "TTFT p50 / p95",
        "TPOT p50 / p95",
        "output tokens/s",
        "effective KV utilisation",
        "preemptions",
        "rejected",
        "bound by",
    )
    return Sheet(
        title="Candidates under backlog and on the trace",
        columns=columns,
        rows=tuple(_candidate_row(one, priced) for one in plan.candidates),
        text_columns=(0, len(columns) - 1),
    )


def _candidate_row(one: Candidate, priced: bool) -> tuple[str, ...]:
    summary, backlog = one.summary, one.backlog
    return (
        one.title,
        running(backlog),
        running(one.memory_backlog),
        words.NONE if backlog is None else words.count(backlog.output_tokens_per_s),
        *((_usd(one.usd_per_million_output_tokens),) if priced else ()),
        words.mean(summary.mean_running),
        _both(summary.ttft_s.p50, summary.ttft_s.p95),
        _both(summary.tpot_s.p50, summary.tpot_s.p95),
        words.count(summary.output_tokens_per_s),
        words.share(summary.effective_kv_utilisation),
        words.count(summary.num_preemptions),
        words.count(summary.num_rejected),
        one.bound_by,
    )


def _both(p50_s: float, p95_s: float) -> str:
    """Two times in one cell, which may break between them only."""
    first, second = (words.seconds(t).replace(" ", "\N{NO-BREAK SPACE}") for t in (p50_s, p95_s))
    return f"{first}\N{NO-BREAK SPACE}/ {second}"


def _usd(value: float | None) -> str:
    return words.NONE if value is None else words.number(value)


def running(backlog: object) -> str:
    """Mean running of a backlog run, ``-`` where there was none."""
    return words.NONE if backlog is None else words.mean(getattr(backlog, "mean_running"))  # noqa: B009


def advantage_sheet(plan: Plan) -> Sheet:
    """How many times more requests than each baseline."""
    return Sheet(
        title="Requests at once: paged against each baseline",
        columns=("baseline", "under backlog", "by memory alone", "over the trace"),
        rows=tuple(
            (
                one.baseline,
                ratio(one, "under_backlog"),
                ratio(one, "memory_alone"),
                ratio(one, "over_the_trace"),
            )
            for one in plan.advantages
        ),
    )


def at_once_sheet(plan: Plan) -> Sheet:
    """Requests at once under backlog, as given and by memory alone."""
    return Sheet(
        title="Requests at once under backlog",
        columns=("allocator", "flags as given", "by memory alone", "bound by"),
        rows=tuple(
            (one.title, running(one.backlog), running(one.memory_backlog), one.bound_by)
            for one in plan.candidates
        ),
        text_columns=(0, 3),
    )


def pool_share_sheet(plan: Plan) -> Sheet:
    """Shares of the KV pool under backlog and over the trace."""
    rows = []
    for one in plan.candidates:
        if one.backlog is not None:
            rows.append((one.title, "backlog", *_shares(one.backlog.pool_share)))
        if one.memory_backlog is not None:
            rows.append((one.title, "backlog, memory", *_shares(one.memory_backlog.pool_share)))
        rows.append((one.title, "trace", *_shares(one.summary.pool_share)))
    return Sheet(
        title="Time-weighted shares of the KV pool",
        columns=("allocator", "run", *CATEGORY_TITLES.values()),
        rows=tuple(rows),
        text_columns=(0, 1),
    )


def _shares(pool_share: PoolShare) -> tuple[str, ...]:
    values = asdict(pool_share)
    return tuple(words.share(values[name]) for name in CATEGORY_TITLES)


def latency_sheet(plan: Plan) -> Sheet:
    """Mean and percentiles of TTFT, TPOT, ITL and E2E over the trace."""
    rows = [
        (one.title, title, *_quantiles(getattr(one.summary, name)))
        for name, title in TIMES.items()
        for one in plan.candidates
    ]
    return Sheet(
        title="Latencies over the trace",
        columns=("allocator", "time", "mean", "p50", "p90", "p95", "p99"),
        rows=tuple(rows),
        text_columns=(0, 1),
    )


def _quantiles(quantiles: Quantiles) -> tuple[str, ...]:
    return tuple(words.seconds(getattr(quantiles, field.name)) for field in fields(quantiles))


def running_sheet(plan: Plan) -> Sheet:
    """Running and waiting over the trace, mean and peak."""
    return Sheet(
        title="Requests running and waiting over the trace",
        columns=(
            "allocator",
            "mean running",
            "peak running",
            "mean waiting",
            "peak waiting",
            "makespan",
        ),
        rows=tuple(
            (
                one.title,
                words.mean(one.summary.mean_running),
                words.count(one.summary.peak_running),
                words.mean(one.summary.mean_waiting),
                words.count(one.summary.peak_waiting),
                words.seconds(one.summary.makespan_s),
            )
            for one in plan.candidates
        ),
    )
