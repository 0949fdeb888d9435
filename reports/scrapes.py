"""A run as a scraper sees it: counts, gauges and histograms at even moments.

What happened at a moment is seen by the scrape at that moment. Scrapes are whole milliseconds
apart, from the one before the first arrival to the one after the last step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..sim.phases import SEATED
from ..sim.result import Result
from ..sim.summary import time_span_s

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_SCRAPES = 100_000
_USUAL_SCRAPES = 3_600
_NS_DIGITS = 9
_STEPS_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """A histogram at every scrape: counts (scrapes, edges + 1), cumulative; sums (scrapes,)."""

    counts: Ints
    sums: Floats


class Tally:
    """Sorts observations into scrapes and buckets.

    Args:
        at_s: times of the scrapes, seconds.
        edges: upper bounds of the buckets, each belonging to its bucket.
    """

    def __init__(self, at_s: Floats, edges: tuple[float, ...]) -> None:
        self._at_s = at_s
        self._edges = np.array(edges)
        self._counts = np.zeros((len(at_s), len(edges) + 1))
        self._sums = np.zeros(len(at_s))

    def add(self, times_s: Floats, values: Floats, weights: Ints | None = None) -> None:
        """So many observations of values at times (seconds): one each without weights."""
        scrapes, buckets = self._counts.shape
        values = np.round(values, _NS_DIGITS)
        scrape = np.minimum(np.searchsorted(self._at_s, times_s), scrapes - 1)
        place = scrape * buckets + np.searchsorted(self._edges, values)
        counted = np.bincount(place, weights, minlength=scrapes * buckets)
        self._counts += counted.reshape(scrapes, buckets)
        weighted = values if weights is None else values * weights
        self._sums += np.bincount(scrape, weighted, minlength=scrapes)

    def observed(self) -> Observed:
        """All that was added, summed up over scrapes and buckets."""
        counts = np.cumsum(np.cumsum(self._counts, axis=0), axis=1)
        return Observed(counts=np.rint(counts).astype(np.int64), sums=np.cumsum(self._sums))


def scrape_times_ms(result: Result, interval_s: float | None = None) -> Ints:
    """Moments of the scrapes on the trace's clock, milliseconds.

    Args:
        result: the run.
        interval_s: between two scrapes; by default a second, and in a run of more than an hour as
            many whole seconds as keep it to 3,600 scrapes.

    Raises:
        ValueError: less than a millisecond, or more than 100,000 scrapes.
    """
    begin_s, end_s = whole_span_s(result)
    begin_ms, end_ms = int(np.floor(begin_s * 1e3)), int(np.ceil(end_s * 1e3))
    span_ms = max(end_ms - begin_ms, 1)
    if interval_s is None:
        interval_s = float(-(-span_ms // (_USUAL_SCRAPES * 1000)))
    check_interval(interval_s)
    step_ms = max(round(min(interval_s, 1e12) * 1e3), 1)
    count = -(-span_ms // step_ms) + 1
    if count > MOST_SCRAPES:
        raise ValueError(
            f"metrics_interval(={interval_s:g}) gives {count:,} scrapes of {span_ms / 1e3:g} s, "
            f"more than {MOST_SCRAPES:,}."
        )
    return begin_ms + step_ms * np.arange(count, dtype=np.int64)


def check_interval(interval_s: float) -> None:
    """Refuse an interval that timestamps cannot tell apart.

    Raises:
        ValueError: less than a millisecond.
    """
    if not interval_s >= 1e-3:
        raise ValueError(f"metrics_interval(={interval_s:g}) must be >= 0.001 seconds.")


def whole_span_s(result: Result) -> tuple[float, float]:
    """From the first arrival to the last step's end, arrival or leave, seconds."""
    begin_s, end_s = time_span_s(result)
    arrival_s, finish_s = result.requests["arrival_s"], result.requests["finish_s"]
    return begin_s, float(np.nanmax([end_s, *arrival_s, *finish_s]))


def count_until(at_s: Floats, times_s: Floats, amounts: Ints | None = None) -> Ints:
    """What has happened by each scrape: events, or their amounts; NaN has not happened."""
    happened = ~np.isnan(times_s)
    times_s = times_s[happened]
    order = np.argsort(times_s, kind="stable")
    done = np.searchsorted(times_s[order], at_s, side="right")
    if amounts is None:
        return done.astype(np.int64)
    running: Ints = np.concatenate([[0], np.cumsum(amounts[happened][order])])
    return running[done]


def requests_at(result: Result, at_s: Floats) -> tuple[Ints, Ints]:
    """How many requests run and how many wait, preempted ones included, at each scrape."""
    phases = result.phases
    runs = np.isin(phases["phase"], SEATED)
    running, waiting = (
        count_until(at_s, phases["start_s"][some]) - count_until(at_s, phases["end_s"][some])
        for some in (runs, ~runs)
    )
    return running, waiting


def token_times(result: Result) -> Iterator[tuple[Floats, Floats, Ints]]:
    """Every token but the first of each request: arrivals, times since the one before, counts.

    Tokens of one step come together. The steps of a run are taken one by one, in portions.
    """
    segments = result.segments
    portion = np.cumsum(segments["num_steps"]) // _STEPS_AT_ONCE
    for rows in np.split(np.arange(len(portion)), np.flatnonzero(np.diff(portion)) + 1):
        yield _steps({name: segments[name][rows] for name in _STEP_COLUMNS})
    yield result.gap_ends_s, result.gaps_s, np.ones(len(result.gaps_s), dtype=np.int64)


_STEP_COLUMNS = ("start_s", "first_step_s", "step_slope_s", "num_steps", "num_decodes")


def _steps(runs: dict[str, NDArray[np.generic]]) -> tuple[Floats, Floats, Ints]:
    start, first, slope, steps, decodes = (np.asarray(runs[name]) for name in _STEP_COLUMNS)
    row = np.repeat(np.arange(len(steps)), steps)
    step = np.arange(len(row)) - np.repeat(np.cumsum(steps) - steps, steps)
    lasts = first[row] + slope[row] * step
    ends = start[row] + first[row] * (step + 1) + slope[row] * (step * (step + 1) / 2)
    return ends, lasts, decodes[row]
