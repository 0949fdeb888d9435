"""A comparison as tables: metrics with what became of them, what was set up differently.

Every change is said in words, so that it is read without colours: ``+4.2 % worse``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..sim.comparison import Comparison, Row
from ..sim.metric_directions import Unit
from . import words
from .sheet import Sheet

HEADLINES = {
    "result": (
        *("num_finished", "num_rejected", "makespan_s", "requests_per_s", "output_tokens_per_s"),
        *(f"{name}.{point}" for name in ("ttft_s", "tpot_s", "e2e_s") for point in ("p50", "p95")),
        *("num_preemptions", "mean_running", "peak_running", "mean_waiting", "peak_waiting"),
        *("effective_kv_utilisation", "pool_slots", "prefix_hit_ratio"),
    ),
    "plan": (
        *("backlog.mean_running", "memory_backlog.mean_running"),
        *("backlog.output_tokens_per_s", "usd_per_million_output_tokens"),
        *("summary.num_rejected", "summary.output_tokens_per_s"),
        *(f"summary.{name}.{point}" for name in ("ttft_s", "tpot_s") for point in ("p50", "p95")),
        *("summary.num_preemptions", "summary.pool_slots", "summary.prefix_hit_ratio"),
    ),
}
"""What a first table shows; the whole one has every metric."""
FIRST_WORDS = {
    "result": ("output_tokens_per_s", "ttft_s.p95", "tpot_s.p95", "e2e_s.p95"),
    "plan": (
        *("backlog.mean_running", "memory_backlog.mean_running"),
        *("backlog.output_tokens_per_s", "summary.ttft_s.p95"),
    ),
}
"""What the first sentence names."""
MINUS = "-"


def verdicts(comparison: Comparison) -> list[str]:
    """A sentence for each run but the first: the figures that matter most."""
    first = comparison.names[0]
    rows = [row for row in comparison.rows if row.path in FIRST_WORDS[comparison.kind]]
    chosen = [row for row in rows if not row.group]
    said = []
    for position, name in enumerate(comparison.names[1:], start=1):
        parts = [
            f"{row.metric.title} {change}"
            for row in chosen
            if (change := change_words(row, position)) != words.NONE
        ]
        said.append(f"{name} against {first}: {', '.join(parts) or 'nothing to compare'}.")
    return said


def metric_sheet(comparison: Comparison, *, whole: bool = False) -> Sheet:
    """A row per metric; after each run but the first what became of the first's value.

    Args:
        comparison: what is compared.
        whole: every metric; else the headlines, where any is not 0.
    """
    first, *others = comparison.names
    rows = comparison.rows if whole else headlines(comparison)
    columns = ["metric", first]
    for name in others:
        columns += [name, f"{name} against {first}"]
    return Sheet(
        title="Every metric" if whole else "Metrics",
        columns=tuple(columns),
        rows=tuple(_cells(row) for row in rows),
    )


def headlines(comparison: Comparison) -> list[Row]:
    """Those rows of the first table; of a plan, the baselines as well."""
    shown = HEADLINES[comparison.kind]
    return [row for row in comparison.rows if row.path in shown and any(row.values)]


def difference_sheet(comparison: Comparison) -> Sheet:
    """Flags, sources and digests that are not the same everywhere."""
    return Sheet(
        title="Set up differently",
        columns=("setting", *comparison.names),
        rows=tuple((one.name, *one.values) for one in comparison.differences),
        text_columns=tuple(range(len(comparison.names) + 1)),
    )


def value_words(value: float | None, unit: Unit) -> str:
    """A value in the unit of its metric; ``-`` for none."""
    if value is None:
        return words.NONE
    if unit == "seconds":
        return words.seconds(value)
    if unit == "share":
        return words.share(value)
    if unit == "count" or (unit == "rate" and abs(value) >= 1000):
        return words.count(value)
    return words.mean(value) if unit == "mean" else words.number(value)


def change_words(row: Row, position: int) -> str:
    """``+4.2 % worse``, ``-1.5 points better``, ``same``, ``-`` where a value is missing."""
    change = row.change(position)
    before, after = row.values[0], row.values[position]
    if change is None or before is None or after is None:
        return words.NONE
    if change == "same":
        return "same"
    by = _by(after - before, row.relative(position), row.metric.unit)
    return by if change == "different" else f"{by} {change}"


def percent(ratio: float) -> str:
    """``+4.2 %``, signed; a difference that is not nothing is never printed as 0."""
    if 0 < abs(ratio) < 0.0005:
        return f"{'+' if ratio > 0 else MINUS}{words.number(100 * abs(ratio), digits=2)} %"
    if ratio == 0:
        return "0.0 %"
    digits = 1 if abs(ratio) < 10 else 0
    return f"{100 * ratio:+,.{digits}f} %"


def _by(difference: float, relative: float | None, unit: Unit) -> str:
    """How much: shares in points, others relative, or plain where the first is 0."""
    if unit == "share":
        small = abs(difference) < 0.0005
        return f"{100 * difference:+.{2 if small else 1}f} points"
    if relative is not None:
        return percent(relative)
    return f"{'+' if difference > 0 else MINUS}{value_words(abs(difference), unit)}"


def _cells(row: Row) -> tuple[str, ...]:
    unit = row.metric.unit
    cells = [row.title, value_words(row.values[0], unit)]
    for position in range(1, len(row.values)):
        cells += [value_words(row.values[position], unit), change_words(row, position)]
    return tuple(cells)


def digest_facts(comparison: Comparison) -> Sequence[tuple[str, dict[str, str]]]:
    """Of each run the digests of its inputs, in full."""
    return [
        (run.name, {name: str(one) for name, one in run.summary.get("digests", {}).items()})
        for run in comparison.runs
    ]
