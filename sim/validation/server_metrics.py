"""What vLLM's metrics say of a run: one scrape, the difference of two, or a series of them.

Counters and histograms only grow, so what happened between two scrapes is their difference; a
single scrape stands for everything since the server's start. Gauges tell of a moment: running,
waiting and KV usage are taken from a series only.

Time per output token: vLLM counts a request of one token with 0 s. Those are taken out again by
the number of requests whose ``request_generation_tokens`` is at most 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np

from ..vllm_metrics import (
    CACHE_HITS,
    CACHE_QUERIES,
    E2E,
    GENERATION_TOKENS,
    INTER_TOKEN,
    KV_USAGE,
    PREEMPTIONS,
    REQUEST_GENERATION,
    RUNNING,
    SUCCESS,
    TPOT,
    TTFT,
    WAITING,
)
from ..vllm_metrics import Series as Family
from .exposition import Key, Scrape
from .measured import Floats, Histogram, Measured, Series

TIMES = {"ttft_s": TTFT, "tpot_s": TPOT, "itl_s": INTER_TOKEN, "e2e_s": E2E}
ABORT = "abort"
_FEWEST_SAMPLES = 3
"""Of a series; fewer are a scrape before and one after."""


def from_scrapes(scrapes: Sequence[Scrape], name: str) -> Measured:
    """A run between the first and the last of them, or up to the only one.

    Args:
        scrapes: in order of time.
        name: of the file or files.

    Raises:
        ValueError: a counter fell, so that the server was started again in between.
    """
    last = scrapes[-1].values
    grown = _grown(scrapes[0].values, last, name) if len(scrapes) > 1 else dict(last)
    series = _series(scrapes) if len(scrapes) >= _FEWEST_SAMPLES else None
    histograms = _histograms(grown)
    totals = _totals(grown)
    if series is not None:
        totals |= _rates(scrapes, series, totals)
    said = {1: "one scrape, all since the server's start", 2: "the difference of two scrapes"}
    what = said.get(len(scrapes), f"{len(scrapes)} scrapes")
    return Measured(
        sources=(f"{name}: vLLM's metrics, {what}",),
        notes=_notes(histograms),
        series=series,
        histograms=histograms,
        totals=totals,
    )


def before_and_after(one: Scrape, other: Scrape, name: str) -> list[Scrape]:
    """Two pages in order: what has counted less was taken first.

    Raises:
        ValueError: they tell of no token between them.
    """
    counted = [_count(scrape.values, GENERATION_TOKENS) for scrape in (one, other)]
    if counted[0] == counted[1]:
        raise ValueError(f"{name} are two scrapes between which no token was generated.")
    return [one, other] if counted[0] < counted[1] else [other, one]


def _grown(before: Mapping[Key, float], after: Mapping[Key, float], name: str) -> dict[Key, float]:
    grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
    gauges = {one for series in (RUNNING, WAITING, KV_USAGE) for one in _names(series)}
    for (sample, label), value in grown.items():
        if sample not in gauges and value < -1e-9:
            shown = f"{sample}{{{label}}}" if label else sample
            raise ValueError(f"{name}: {shown} fell: the server was started again in between.")
    return grown


def _histograms(values: Mapping[Key, float]) -> dict[str, Histogram]:
    found = {name: _histogram(values, family) for name, family in TIMES.items()}
    short = _of_one_token(values)
    tpot = found["tpot_s"]
    if tpot is not None and short:
        counts = tpot.counts.copy()
        counts[0] = max(counts[0] - short, 0.0)
        found["tpot_s"] = Histogram(edges=tpot.edges, counts=counts, total=tpot.total)
    return {name: one for name, one in found.items() if one is not None and one.count}


def _histogram(values: Mapping[Key, float], family: Family) -> Histogram | None:
    for name in _names(family):
        buckets = sorted(
            (float(label), value)
            for (sample, label), value in values.items()
            if sample == f"{name}_bucket"
        )
        if buckets:
            edges = np.array([edge for edge, _ in buckets])
            below = np.array([count for _, count in buckets])
            if np.isinf(edges[-1]):
                edges = edges[:-1]
            else:
                below = np.append(below, values.get((f"{name}_count", ""), below[-1]))
            counts = np.diff(below, prepend=0.0)
            total = values.get((f"{name}_sum", ""), float("nan"))
            return Histogram(edges=edges, counts=np.maximum(counts, 0.0), total=total)
    return None


def _of_one_token(values: Mapping[Key, float]) -> float:
    lengths = _histogram(values, REQUEST_GENERATION)
    if lengths is None or not len(lengths.edges) or lengths.edges[0] != 1.0:
        return 0.0
    return float(lengths.counts[0])


def _totals(values: Mapping[Key, float]) -> dict[str, float]:
    """Figures that need no time."""
    totals = {"num_preemptions": _count(values, PREEMPTIONS)}
    queries, hits = _count(values, CACHE_QUERIES), _count(values, CACHE_HITS)
    totals["prefix_hit_ratio"] = hits / queries if queries else float("nan")
    ended = [_by_label(values, name) for name in _samples(SUCCESS)]
    reasons = next((found for found in ended if found), {})
    if reasons:
        totals["num_finished"] = sum(n for reason, n in reasons.items() if reason != ABORT)
    totals["output_tokens"] = _count(values, GENERATION_TOKENS)
    return {name: value for name, value in totals.items() if not isnan(value)}


def _series(scrapes: Sequence[Scrape]) -> Series | None:
    times = [scrape.time_s for scrape in scrapes if scrape.time_s is not None]
    if len(times) < len(scrapes):
        return None
    return Series(
        time_s=np.array(times) - times[0],
        running=_gauges(scrapes, RUNNING),
        waiting=_gauges(scrapes, WAITING),
        kv_share=_gauges(scrapes, KV_USAGE),
    )


def _gauges(scrapes: Sequence[Scrape], family: Family) -> Floats | None:
    for name in _names(family):
        values: Floats = np.array([scrape.gauge(name) for scrape in scrapes])
        if not np.isnan(values).all():
            return values
    return None


def _rates(
    scrapes: Sequence[Scrape], series: Series, totals: Mapping[str, float]
) -> dict[str, float]:
    """Over the time in which tokens came: half a scrape is taken off at either end."""
    tokens = np.array([_count(scrape.values, GENERATION_TOKENS) for scrape in scrapes])
    steps = np.flatnonzero(np.diff(tokens) > 0)
    if not len(steps):
        return {}
    first, last = steps[0], steps[-1]
    begin = (series.time_s[first] + series.time_s[first + 1]) / 2
    end = (series.time_s[last] + series.time_s[last + 1]) / 2
    if end <= begin:
        return {}
    makespan = float(end - begin)
    rates = {"makespan_s": makespan, "output_tokens_per_s": totals["output_tokens"] / makespan}
    if "num_finished" in totals:
        rates["requests_per_s"] = totals["num_finished"] / makespan
    return rates


def _notes(histograms: Mapping[str, Histogram]) -> tuple[str, ...]:
    if not histograms:
        return ()
    return (
        "Percentiles of vLLM's histograms lie in a bucket, whose bounds are shown; the value is "
        "interpolated straight between them, as Prometheus does.",
    )


def _count(values: Mapping[Key, float], family: Family) -> float:
    """A counter, whatever its labels; NaN where it is not there."""
    found = next((one for name in _samples(family) if (one := _by_label(values, name))), None)
    return sum(found.values()) if found else float("nan")


def _by_label(values: Mapping[Key, float], sample: str) -> dict[str, float]:
    return {label: value for (name, label), value in values.items() if name == sample}


def _names(family: Family) -> tuple[str, ...]:
    return (family.name, *family.older_names)


def _samples(family: Family) -> list[str]:
    return [sample for name in _names(family) for sample in (f"{name}_total", name)]
