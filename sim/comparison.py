"""Results or plans side by side: each metric, what became of it, and what was set up differently.

Differences are relative to the first. Two results tell of one change only where all else is equal,
so what differs is said beside the figures: the flags, and by digest the trace, the step times and
the memory budget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .metric_directions import METRICS, PLAN_METRICS, Change, Metric, value_at
from .stored import Kind, Stored

SOURCES = ("version", "timing", "timing_from", "gpu", "num_gpu_blocks")
DIGESTS = {"trace": "traces", "cost": "step costs", "budget": "memory budgets"}
OF_BASELINES = (
    "backlog.mean_running",
    "memory_backlog.mean_running",
    "backlog.output_tokens_per_s",
)
"""What is told of a plan's other candidates: the rest is as the chosen one's."""
DIGITS = 12
"""Of a digest, so many are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric of all that are compared; None where one has no such number."""

    path: str
    metric: Metric
    values: tuple[float | None, ...]
    group: str = ""
    """Of a plan's baselines, which."""

    @property
    def title(self) -> str:
        """With the group before it."""
        return f"{self.group}: {self.metric.title}" if self.group else self.metric.title

    @property
    def differs(self) -> bool:
        """Whether any value is another than the first."""
        return any(value != self.values[0] for value in self.values)

    def change(self, position: int) -> Change | None:
        """What became of the first's value; None where either is missing."""
        before, after = self.values[0], self.values[position]
        return None if before is None or after is None else self.metric.change(before, after)

    def relative(self, position: int) -> float | None:
        """Difference over the first's value; None where that is 0 or a value is missing."""
        before, after = self.values[0], self.values[position]
        return None if not before or after is None else (after - before) / abs(before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A setting that is not the same everywhere, printed; ``-`` where there is none."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two and more of one kind, the first being what the others are held against."""

    runs: tuple[Stored, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    """What keeps the columns from telling of the flags alone."""

    @property
    def kind(self) -> Kind:
        """``result`` or ``plan``."""
        return self.runs[0].kind

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(run.name for run in self.runs)

    def to_json(self) -> dict[str, object]:
        """Everything but the columns of requests."""
        return {
            "kind": self.kind,
            "columns": list(self.names),
            "warnings": list(self.warnings),
            "differences": [
                {"name": one.name, "values": list(one.values)} for one in self.differences
            ],
            "digests": [dict(run.summary.get("digests", {})) for run in self.runs],
            "metrics": [_row_json(row) for row in self.rows],
        }


def compare(runs: Sequence[Stored]) -> Comparison:
    """Lay stored results or plans side by side.

    Args:
        runs: two or more of one kind, under distinct names.

    Raises:
        ValueError: no metric that two of them have.
    """
    rows = tuple(row for row in _rows(runs) if any(value is not None for value in row.values))
    if not any(sum(value is not None for value in row.values) > 1 for row in rows):
        raise ValueError(f"{' and '.join(run.name for run in runs)} have no metric in common.")
    return Comparison(
        runs=tuple(runs),
        rows=rows,
        differences=tuple(_differences(runs)),
        warnings=tuple(_warnings(runs)),
    )


def settings_of(run: Stored) -> dict[str, object]:
    """Flags, engine, model, GPU, trace and sources by name."""
    if run.kind == "result":
        given = run.values.get("settings", {})
        shown = {name: given.get(name) for name in ("engine", "concurrency")}
        return {**shown, **given.get("deployment", {}), **_sources(run.values)}
    first, trace = run.values["candidates"][0], run.values.get("trace", {})
    shown = {name: trace.get(name) for name in ("origin", "arrivals", "num_requests")}
    return {
        **{f"trace: {name}": value for name, value in shown.items()},
        **first.get("deployment", {}),
        **_sources(first["summary"]),
        "USD per GPU and hour": run.values.get("price", {}).get("usd_per_gpu_hour"),
    }


def _sources(summary: Mapping[str, Any]) -> dict[str, object]:
    sources = summary.get("sources", {})
    model = sources.get("model", {})
    return {"model": model.get("name"), **{name: sources.get(name) for name in SOURCES}}


def _rows(runs: Sequence[Stored]) -> Iterator[Row]:
    if runs[0].kind == "result":
        yield from _metric_rows([run.values for run in runs], METRICS)
        return
    yield from _metric_rows([run.values["candidates"][0] for run in runs], PLAN_METRICS)
    few = {path: PLAN_METRICS[path] for path in OF_BASELINES}
    for title in _baselines(runs):
        yield from _metric_rows([_candidate(run, title) for run in runs], few, group=title)


def _metric_rows(
    values: Sequence[Mapping[str, Any]], metrics: Mapping[str, Metric], group: str = ""
) -> Iterator[Row]:
    for path, metric in metrics.items():
        found = tuple(value_at(one, path) for one in values)
        yield Row(path=path, metric=metric, values=found, group=group)


def _baselines(runs: Sequence[Stored]) -> list[str]:
    """Titles of the other candidates, each once, in order."""
    titles = [one["title"] for run in runs for one in run.values["candidates"][1:]]
    return list(dict.fromkeys(titles))


def _candidate(run: Stored, title: str) -> Mapping[str, Any]:
    others = run.values["candidates"][1:]
    return next((one for one in others if one["title"] == title), {})


def _differences(runs: Sequence[Stored]) -> Iterator[Difference]:
    settings = [settings_of(run) for run in runs]
    for name in dict.fromkeys(name for one in settings for name in one):
        shown = tuple(_shown(one.get(name)) for one in settings)
        if len(set(shown)) > 1:
            yield Difference(name=name, values=shown)
    for name in DIGESTS:
        digests = tuple(_digest(run, name)[:DIGITS] or "-" for run in runs)
        if len(set(digests)) > 1:
            yield Difference(name=f"digest: {name}", values=digests)


def _warnings(runs: Sequence[Stored]) -> Iterator[str]:
    pools = {value_at(run.summary, "pool_slots") for run in runs}
    number = "the same" if len(pools) == 1 else "another"
    said = {
        "trace": "the columns do not serve the same requests",
        "cost": "the same batch may take another time",
        "budget": f"the KV pools hold {number} number of tokens",
    }
    for name, title in DIGESTS.items():
        digests = [_digest(run, name) for run in runs]
        if not all(digests):
            without = ", ".join(run.name for run, one in zip(runs, digests, strict=True) if not one)
            yield f"{without} has no digest of its {name}: whether the {title} differ is not known."
        elif len(set(digests)) > 1:
            yield f"The {title} differ: {said[name]}."
    versions = {str(run.summary.get("sources", {}).get("version")) for run in runs}
    if len(versions) > 1:
        yield "The versions of kvsim differ."


def _digest(run: Stored, name: str) -> str:
    return str(run.summary.get("digests", {}).get(name, ""))


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if isinstance(value, str) else json.dumps(value)


def _row_json(row: Row) -> dict[str, object]:
    others = range(1, len(row.values))
    return {
        "path": row.path,
        "candidate": row.group or None,
        "title": row.title,
        "unit": row.metric.unit,
        "direction": row.metric.direction,
        "values": list(row.values),
        "relative": [None, *(row.relative(position) for position in others)],
        "change": [None, *(row.change(position) for position in others)],
    }
