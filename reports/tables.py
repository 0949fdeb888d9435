"""Tables for the terminal: readable at 100 columns, and as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from . import moved_words, words
from .decision_sheets import decision_sheets
from .memory_sheets import budget_sheet, gpus_sheet, models_sheet, pool_facts
from .sheet import Sheet
from .sheets import CATEGORY_TITLES, TIMES, running
from .tier_sheets import tier_facts
from .verdict import headline

if TYPE_CHECKING:
    from ..calibration.gpus import GPUSpec
    from ..calibration.memory import MemoryBudget
    from ..calibration.models import ModelSpec
    from ..sim.candidate import Candidate
    from ..sim.plan import Plan
    from ..sim.summary import Summary

__all__ = [
    "budget_table",
    "facts_table",
    "gpus_table",
    "headline",
    "models_table",
    "plan_table",
    "plan_tables",
    "pool_table",
    "stats_table",
    "summary_table",
]

LINE_STYLE = box.Box("    \n    \n ── \n    \n ── \n ── \n    \n    \n")
"""A rule under the header and above a total, nothing else: it survives a pipe."""


def sheet_table(sheet: Sheet) -> Table:
    """Any sheet as a rich table; the last row set off where it is a total."""
    table = _table(sheet.title)
    for index, column in enumerate(sheet.columns):
        text = index in sheet.text_columns
        heading = column if text else column.replace(" ", "\n")
        table.add_column(heading, justify="left" if text else "right", no_wrap=index == 0)
    for index, row in enumerate(sheet.rows):
        table.add_row(*row, end_section=sheet.total_row and index == len(sheet.rows) - 2)
    return table


def budget_table(budget: MemoryBudget) -> Table:
    """The memory of one GPU, line by line."""
    return sheet_table(budget_sheet(budget))


def pool_table(
    budget: MemoryBudget, request_tokens: Sequence[int] = (), *, longest_tokens: int | None = None
) -> Table:
    """What the KV pool holds, and how many requests of each of these lengths.

    ``-`` for a length above ``longest_tokens``, which the server does not allow.
    """
    facts = pool_facts(budget)
    for tokens in request_tokens:
        if longest_tokens is not None and tokens > longest_tokens:
            facts[f"requests of {words.tokens(tokens)}"] = words.NONE
            continue
        together, in_turn = budget.requests_of(tokens), budget.steady_requests_of(tokens)
        more = f" ({words.count(in_turn)} admitted in turn)" if in_turn > together else ""
        facts[f"requests of {words.tokens(tokens)}"] = words.count(together) + more
    return facts_table("KV pool", facts)


def gpus_table(gpus: Sequence[GPUSpec]) -> Table:
    """The GPUs that are known."""
    return sheet_table(gpus_sheet(gpus))


def models_table(models: Sequence[ModelSpec]) -> Table:
    """The models that are known."""
    return sheet_table(models_sheet(models))


def facts_table(title: str, facts: Mapping[str, str]) -> Table:
    """Names and values."""
    table = _table(title)
    table.show_header = False
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def plan_table(plan: Plan) -> Table:
    """A row per candidate, the paged one first; two lines each, to stay within 100 columns."""
    table = _table("Candidates (TTFT, TPOT, tokens/s, KV use: over the trace)", gap=1)
    table.add_column("allocator", no_wrap=True)
    for header in (
        "running,\nbacklog",
        "memory\nalone",
        "running,\ntrace",
        "TTFT\np50/p95",
        "TPOT\np50/p95",
        "output\ntok/s",
        "KV\nused",
        "pre-\nempted",
        "re-\njected",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("bound by", min_width=13)
    for candidate in plan.candidates:
        table.add_row(*_plan_row(candidate))
    return table


def plan_tables(plan: Plan) -> list[Table]:
    """What the terminal shows of a plan: the servers of its decision, else its allocators."""
    if plan.decision is None:
        return [plan_table(plan)]
    return [sheet_table(sheet) for sheet in decision_sheets(plan.decision, plan.block_sizes)]


def _plan_row(one: Candidate) -> tuple[str, ...]:
    summary = one.summary
    return (
        one.title.replace(" (", "\n("),
        running(one.backlog),
        running(one.memory_backlog),
        words.mean(summary.mean_running),
        f"{words.seconds(summary.ttft_s.p50)}\n{words.seconds(summary.ttft_s.p95)}",
        f"{words.seconds(summary.tpot_s.p50)}\n{words.seconds(summary.tpot_s.p95)}",
        words.count(summary.output_tokens_per_s),
        words.share(summary.effective_kv_utilisation),
        words.count(summary.num_preemptions),
        words.count(summary.num_rejected),
        one.bound_by.replace("(", "\n("),
    )


def summary_table(summary: Summary) -> Table:
    """One simulation: counts, rates, latencies, concurrency, where the bytes go."""
    table = _table("Simulation")
    for header in ("", "mean", "p50", "p90", "p95", "p99"):
        table.add_column(header, justify="right" if header else "left", no_wrap=True)
    for name, title in TIMES.items():
        values = getattr(summary, name)
        numbers = (values.mean, values.p50, values.p90, values.p95, values.p99)
        table.add_row(title, *(words.seconds(value) for value in numbers))
    table.add_section()
    for title, value in _summary_facts(summary).items():
        table.add_row(title, value)
    table.add_section()
    for name, title in CATEGORY_TITLES.items():
        table.add_row(f"pool: {title}", words.share(getattr(summary.pool_share, name)))
    return table


def _summary_facts(summary: Summary) -> dict[str, str]:
    return {
        "requests": words.count(summary.num_requests),
        "finished": words.count(summary.num_finished),
        "rejected": words.count(summary.num_rejected),
        "cancelled": words.count(summary.num_cancelled),
        "unfinished": words.count(summary.num_unfinished),
        "makespan": words.seconds(summary.makespan_s),
        "requests/s": words.number(summary.requests_per_s),
        "output tokens/s": words.count(summary.output_tokens_per_s),
        "total tokens/s": words.count(summary.total_tokens_per_s),
        "running, mean": words.mean(summary.mean_running),
        "running, peak": words.count(summary.peak_running),
        "waiting, mean": words.mean(summary.mean_waiting),
        "waiting, peak": words.count(summary.peak_waiting),
        "preemptions": words.count(summary.num_preemptions),
        "wasted tokens": words.count(summary.wasted_tokens),
        "prefix-cache hits, of prompt tokens": words.share(summary.prefix_hit_ratio),
        **tier_facts(summary),
        "effective KV utilisation": words.share(summary.effective_kv_utilisation),
        "saved by sharing, of the pool": words.share(summary.shared_saved),
        **moved_words.facts(moved_words.Moved.of(summary.to_json())),
    }


def stats_table(stats: Mapping[str, Any], *, title: str = "Trace") -> Table:
    """The statistics of a trace; nested groups become ``group: name``."""
    return facts_table(title, _flat(stats))


def _flat(stats: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in stats.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}: "))
        else:
            flat[f"{prefix}{name}"] = _plain(value)
    return flat


def _plain(value: object) -> str:
    if value is None:
        return words.NONE
    if isinstance(value, float):
        return f"{value:,.6f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(title: str, *, gap: int = 2) -> Table:
    """A bare table with so many blanks between its columns."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=LINE_STYLE,
        padding=(0, gap - 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
