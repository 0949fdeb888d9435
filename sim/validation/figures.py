"""The figures of a run, measured and predicted, under the same definitions.

Times of requests are those of a summary: seconds, linear percentiles of the finished ones. Running,
waiting and KV usage are means and peaks over the time in which anything runs or waits: of the
samples where a log or its metrics were given, else from the requests' own times, where a request
waits until its first schedule and runs from then to its last token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite

import numpy as np

from ..metric_directions import METRICS, Metric, value_at
from ..result import Columns
from ..summary import QUANTILES
from .measured import Estimate, Floats, Measured, Requests, Series

KV_USE: dict[str, Metric] = {
    "kv_use.mean": Metric(title="KV pool in use, mean", unit="share", direction="neutral"),
    "kv_use.peak": Metric(title="KV pool in use, peak", unit="share", direction="neutral"),
}
ALWAYS = (
    "makespan_s",
    "requests_per_s",
    "output_tokens_per_s",
    *(f"{name}.{point}" for name in ("ttft_s", "tpot_s", "e2e_s") for point in ("p50", "p95")),
    "mean_running",
    "peak_running",
    "mean_waiting",
    "peak_waiting",
    *KV_USE,
)
"""Shown whether or not they were recorded."""
WHERE_RECORDED = ("itl_s.p50", "itl_s.p95", "num_finished", "num_preemptions", "prefix_hit_ratio")
FIGURES: dict[str, Metric] = {
    path: KV_USE.get(path) or METRICS[path] for path in (*ALWAYS, *WHERE_RECORDED)
}
HELD = ("token_states", "reserved", "internal")
"""Slots of blocks that requests hold: what vLLM's usage counts."""
_POINTS = ("p50", "p95")


def measured_figures(measured: Measured) -> dict[str, Estimate]:
    """What was recorded, by path; what was not is not there."""
    found = {name: _exact(value) for name, value in measured.totals.items() if name in FIGURES}
    for name, histogram in measured.histograms.items():
        found |= {f"{name}.{point}": histogram.quantile(QUANTILES[point]) for point in _POINTS}
    exact: dict[str, float] = {}
    if measured.requests is not None:
        exact |= dict(_of_requests(measured.requests))
    if measured.series is not None:
        exact |= _of_series(measured.series, known=exact)
    found |= {name: _exact(value) for name, value in exact.items()}
    return {path: one for path in FIGURES if (one := found.get(path)) and isfinite(one.value)}


def predicted_figures(summary: Mapping[str, object], segments: Columns | None) -> dict[str, float]:
    """What the result says, by path.

    Args:
        summary: ``summary.json``.
        segments: the columns of ``occupancy.parquet``, for the use of the pool.
    """
    found = {path: value for path in FIGURES if (value := value_at(summary, path)) is not None}
    slots = value_at(summary, "pool_slots")
    if segments is not None and slots and len(segments["start_s"]):
        found |= _kv_use(segments, slots)
    return found


def kv_share(segments: Columns, pool_slots: float) -> Floats:
    """Share of the pool that requests hold, per segment."""
    held: Floats = np.sum([segments[name] for name in HELD], axis=0) / pool_slots
    return held


def counts_over_time(requests: Requests) -> tuple[Floats, Floats, Floats] | None:
    """Times, and how many run and wait from each time on; None where schedules were not recorded.

    Returns:
        Seconds from the first arrival, running, waiting: (num_changes,) each.
    """
    if np.isnan(requests.waited_s).any() or np.isnan(requests.arrival_s).any():
        return None
    arrival = requests.arrival_s
    scheduled, end = arrival + requests.waited_s, arrival + requests.e2e_s
    times = np.round(np.concatenate([arrival, scheduled, end]), 9)  # ends meet starts
    one, none = np.ones(len(requests)), np.zeros(len(requests))
    waiting, running = np.concatenate([one, -one, none]), np.concatenate([none, one, -one])
    order = np.lexsort((-np.arange(len(times)), times))  # at one time those that leave go first
    last = np.append(np.diff(times[order]) > 0, True)
    return times[order][last], np.cumsum(running[order])[last], np.cumsum(waiting[order])[last]


def _exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def _of_requests(requests: Requests) -> Iterator[tuple[str, float]]:
    makespan = requests.makespan_s
    if makespan > 0:
        yield "makespan_s", makespan
        yield "requests_per_s", len(requests) / makespan
        yield "output_tokens_per_s", float(requests.output_tokens.sum()) / makespan
    yield "num_finished", float(len(requests))
    times = {
        "ttft_s": requests.ttft_s,
        "tpot_s": requests.tpot_s,
        "e2e_s": requests.e2e_s,
        "itl_s": requests.itl_s,
    }
    for name, values in times.items():
        known = values[~np.isnan(values)]
        for point in _POINTS if len(known) else ():
            yield f"{name}.{point}", float(np.quantile(known, QUANTILES[point]))
    counts = counts_over_time(requests)
    if counts is not None and makespan > 0:
        waited = float(requests.waited_s.sum())
        yield "mean_waiting", waited / makespan
        yield "mean_running", (float(requests.e2e_s.sum()) - waited) / makespan
        yield "peak_running", float(counts[1].max())
        yield "peak_waiting", float(counts[2].max())


def _of_series(series: Series, *, known: Mapping[str, float]) -> dict[str, float]:
    """Samples go before what requests tell, rates only where those tell nothing."""
    busy = series.busy
    found: dict[str, float] = {}
    for name, values in (("running", series.running), ("waiting", series.waiting)):
        if values is not None:
            found |= {
                f"mean_{name}": _mean(series.time_s[busy], values[busy]),
                f"peak_{name}": float(np.nanmax(values)),
            }
    if series.kv_share is not None:
        found["kv_use.mean"] = _mean(series.time_s[busy], series.kv_share[busy])
        found["kv_use.peak"] = float(np.nanmax(series.kv_share))
    rate = series.output_tokens_per_s
    if rate is not None and "output_tokens_per_s" not in known:
        found["output_tokens_per_s"] = _mean(series.time_s[busy], rate[busy])
    return found


def _mean(time_s: Floats, values: Floats) -> float:
    """Over time, straight between samples; the plain mean of one sample."""
    known = ~np.isnan(values)
    time_s, values = time_s[known], values[known]
    span = time_s[-1] - time_s[0]
    return float(np.trapezoid(values, time_s) / span) if span > 0 else float(values.mean())


def _kv_use(segments: Columns, pool_slots: float) -> dict[str, float]:
    """Mean over the time from the first step to the last one's end; peak of runs of steps."""
    share = kv_share(segments, pool_slots)
    ends = segments["start_s"] + segments["duration_s"]
    span = float(ends.max() - segments["start_s"].min())
    if span <= 0:
        return {}
    mean = float(share @ segments["duration_s"]) / span
    return {"kv_use.mean": mean, "kv_use.peak": float(share.max())}
