"""The table of a sweep, and its Pareto front over cost, throughput and latency.

A run is on the front when no other run of the same trace costs no more an hour, gives no fewer
output tokens a second and is no slower, and is better in one of the three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...calibration.names import unknown_name
from ..metric_directions import METRICS
from ..regress.metrics import flat_metrics
from .store import FAILURES, GRIDS, RUNS, Store
from .supervise import DONE

LATENCY = "ttft_s.p95"
LATENCIES = tuple(
    f"{name}.{part}"
    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s")
    for part in ("mean", "p50", "p90", "p95", "p99")
)
THROUGHPUT = "output_tokens_per_s"
NOT_RUN = "not run"
TEXTS = ("grid", "name", "deployment", "trace", "status", "reason", "gpu", "key")
"""Columns that hold words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell, and what is stored of it."""

    grid: str
    name: str
    deployment: str
    trace: str
    rate_per_s: float | None
    """Asked for or found; None = the trace's own."""
    status: str
    """``done``, how it failed, or ``not run``."""
    reason: str
    gpu: str
    num_gpus: int
    usd_per_hour: float | None
    attainment: float | None
    """Share of the requests that keep every limit of the objective."""
    goodput_per_s: float | None
    metrics: Mapping[str, float | None]
    key: str
    on_front: bool = False

    @property
    def usd_per_million_output_tokens(self) -> float | None:
        """At what the run gave."""
        throughput = self.metrics.get(THROUGHPUT)
        if self.usd_per_hour is None or not throughput:
            return None
        return float(f"{self.usd_per_hour / (throughput * 3600) * 1e6:.9g}")

    def flat(self) -> dict[str, Any]:
        """Every value by name, in a stable order; None where there is none."""
        numbers = ("rate_per_s", "num_gpus", "usd_per_hour", "usd_per_million_output_tokens")
        names = (*TEXTS, *numbers, "attainment", "goodput_per_s", "on_front")
        values = {name: getattr(self, name) for name in names}
        return values | {name: self.metrics.get(name) for name in METRICS}


def read_rows(out: str, *, grid: str | None = None, latency: str = LATENCY) -> tuple[Row, ...]:
    """The cells of a stored sweep, in the order of their grids.

    Args:
        out: folder or URL.
        grid: only of the grid of this name.
        latency: the metric of the Pareto front.

    Raises:
        ValueError: no sweep, another version's, no such grid or metric.
    """
    if latency not in LATENCIES:
        raise unknown_name(latency, LATENCIES, field="latency")
    store = Store(out, field="sweep")
    store.open_to_read()
    names = store.names(GRIDS)
    if not names:
        raise ValueError(f"sweep(={out!r}) holds no grid: run `kvsim sweep` first.")
    if grid is not None:
        if grid not in names:
            raise unknown_name(grid, names, field="grid")
        names = [grid]
    runs, failures = store.read_all(RUNS), store.read_all(FAILURES)
    rows = [
        row for name in names for row in _rows(name, store.read(GRIDS, name) or {}, runs, failures)
    ]
    front = {id(row) for row in pareto(rows, latency=latency)}
    return tuple(replace(row, on_front=id(row) in front) for row in rows)


def pareto(rows: Sequence[Row], *, latency: str = LATENCY) -> list[Row]:
    """The rows that no other row of the same trace beats, in their order.

    Those without a price are compared among each other only where no row of the trace has one.
    """
    found: list[Row] = []
    for trace in dict.fromkeys(row.trace for row in rows):
        own = [row for row in rows if row.trace == trace and row.status == DONE]
        priced = any(row.usd_per_hour is not None for row in own)
        points = [(row, at) for row in own if (at := _point(row, latency, priced)) is not None]
        front: list[tuple[float, float, float]] = []
        for row, at in sorted(points, key=lambda point: point[1]):  # what beats it comes before it
            if not any(_no_worse(other, at) and other != at for other in front):
                front.append(at)
                found.append(row)
    chosen = {id(row) for row in found}
    return [row for row in rows if id(row) in chosen]


def _point(row: Row, latency: str, priced: bool) -> tuple[float, float, float] | None:
    """Cost, throughput as a cost, latency: less is better; None where one is unknown."""
    cost = row.usd_per_hour if priced else 0.0
    throughput, slow = row.metrics.get(THROUGHPUT), row.metrics.get(latency)
    if cost is None or throughput is None or slow is None:
        return None
    return cost, -throughput, slow


def _no_worse(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def _rows(
    grid: str,
    index: Mapping[str, Any],
    runs: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, Mapping[str, Any]],
) -> Iterator[Row]:
    for cell in index.get("cells", []):
        key = cell["key"]
        run = runs.get(key, {})
        failure = {} if run else failures.get(key, cell)
        slo = run.get("slo", {})
        summary = run.get("summary")
        found = run.get("rate_per_s") if run else cell["rate_per_s"]
        yield Row(
            grid=grid,
            name=cell["name"],
            deployment=cell["deployment"],
            trace=cell["trace"],
            rate_per_s=found,
            status=DONE if run else failure.get("kind", NOT_RUN),
            reason="" if run else failure.get("reason", ""),
            gpu=cell["gpu"],
            num_gpus=cell["num_gpus"],
            usd_per_hour=cell["usd_per_hour"],
            attainment=slo.get("attainment"),
            goodput_per_s=slo.get("goodput_per_s"),
            metrics={} if summary is None else flat_metrics(summary),
            key=key,
        )
