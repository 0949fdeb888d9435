"""The tables of a fleet as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import words
from .sheet import Sheet

if TYPE_CHECKING:
    from ..sim.fleet.figures import FleetFigures
    from ..sim.fleet.result import FleetResult

PERCENTILES = (50, 90, 95, 99)


def replica_sheet(figures: FleetFigures) -> Sheet:
    """A row per replica."""
    roles = any(one.role != "unified" for one in figures.replicas)
    columns = (
        "replica",
        "pool",
        *(("GPU",) if roles else ()),
        "requests",
        "share",
        "output tok/s",
        "TTFT p95",
        "E2E p95",
        "running mean",
        "busy",
        "prefix hits",
        "pre- empted",
        "hours paid",
    )
    rows = [
        (
            str(one.replica),
            one.pool,
            *((one.gpu,) if roles else ()),
            words.count(one.num_requests),
            words.share(one.request_share),
            words.count(one.output_tokens_per_s),
            words.seconds(one.ttft_p95_s),
            words.seconds(one.e2e_p95_s),
            words.mean(one.mean_running),
            words.share(one.busy_share),
            words.share(one.prefix_hit_ratio),
            words.count(one.num_preemptions),
            words.number(one.paid_hours),
        )
        for one in figures.replicas
    ]
    return Sheet(
        title="Replicas",
        columns=columns,
        rows=tuple(rows),
        text_columns=(0, 1, 2) if roles else (0, 1),
    )


def change_sheet(found: FleetResult) -> Sheet:
    """Replicas that came and went."""
    names = ("at_s", "what", "replica", "pool")
    rows = zip(*(found.changes[name].tolist() for name in names), strict=True)
    return Sheet(
        title="Replicas that came and went",
        columns=("time", "what", "replica", "pool"),
        rows=tuple((words.seconds(at), what, str(n), pool) for at, what, n, pool in rows),
        text_columns=(1, 3),
    )


def fleet_facts(found: FleetResult, figures: FleetFigures) -> dict[str, str]:
    """What the fleet as a whole comes to."""
    facts = {
        "router": found.fleet.router,
        "replicas": words.count(len(figures.replicas)),
        "replicas at once, most": words.count(figures.peak_replicas),
        "replica-hours": words.number(figures.replica_hours),
        "GPU-hours": words.number(figures.gpu_hours),
        "most requests of a replica over the mean": words.times(figures.imbalance),
    }
    if figures.usd is not None:
        facts["cost"] = f"{words.number(figures.usd)} USD"
    if figures.usd_per_million_output_tokens is not None:
        per_million = words.number(figures.usd_per_million_output_tokens)
        facts["cost per million output tokens"] = f"{per_million} USD"
    if figures.num_rerouted:
        facts["requests sent elsewhere as their replica left"] = words.count(figures.num_rerouted)
    if found.fleet.disaggregated:
        facts["KV sent"] = words.size(figures.sent_bytes)
        facts["KV received"] = words.size(figures.received_bytes)
        facts["transfer, mean"] = words.seconds(figures.mean_transfer_s)
    return facts


def running_sheet(found: FleetResult, edges_s: np.ndarray, running: list[np.ndarray]) -> Sheet:
    """Mean and peak of each replica over the bins of the figure."""
    rows = [
        (str(one.number), one.pool, words.mean(float(bins.mean())), words.mean(float(bins.max())))
        for one, bins in zip(found.replicas, running, strict=True)
    ]
    return Sheet(
        title=f"Requests that wait or run, in bins of {words.seconds(float(np.diff(edges_s)[0]))}",
        columns=("replica", "pool", "mean", "peak"),
        rows=tuple(rows),
        text_columns=(0, 1),
    )


def load_sheet(outstanding: np.ndarray, ready: np.ndarray) -> Sheet:
    """Of the figure over time."""
    return Sheet(
        title="Requests in the fleet and replicas that serve",
        columns=("", "mean", "peak"),
        rows=(
            ("requests", words.mean(float(outstanding.mean())), words.mean(outstanding.max())),
            ("replicas", words.mean(float(ready.mean())), words.mean(ready.max())),
        ),
    )


def percentile_sheet(times: dict[str, dict[str, np.ndarray]]) -> Sheet:
    """Percentiles of each time, a row per group of requests."""
    rows = []
    for group, by_name in times.items():
        for name, values in by_name.items():
            points = np.percentile(values, PERCENTILES) if len(values) else [np.nan] * 4
            rows.append((group, name.upper(), *(words.seconds(float(one)) for one in points)))
    return Sheet(
        title="Latencies of the finished requests",
        columns=("requests", "time", *(f"p{one}" for one in PERCENTILES)),
        rows=tuple(rows),
        text_columns=(0, 1),
    )
