"""How much of a trace a probe serves: stretches that stand for the whole, or the whole in turns.

A rate is looked for on a *short* extent and confirmed on a *long* one. Traffic is not the same all
day, and an objective is lost where it is busiest. So the short extent is made of stretches of
requests in a row, with their own bursts: the trace is cut into pieces, the pieces are ordered by
how busy they are (tokens offered a second), and of each eighth of them the middle one is served.
Each is served alone, as dense in relation to the others as it was.

Which requests count follows from Little's law: those that arrive while one request stays are as
many as run. So after as many requests as the server runs at once, the batch has the level of the
rate: they are the warm-up. As many at the end see the batch drain and do not count either. At most
as many run as under backlog; and where the objective limits how long a request stays, at most

    running <= sustained rate * (TTFT + TPOT * mean output)   or   sustained rate * E2E

of the limits: a server that runs more has lost the objective already.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ...traces import Trace
from ...traces.columns import Floats, Ints, inherited_start_s, whole_ns
from ...traces.repeat import repeated_in_time
from ..backlog import Backlog
from ..slo import SLO

MIN_SHORT, SHORT_TURNOVERS, SHORT_SHARE = 3_200, 16, 0.25
"""Requests of the short extent, at least, and in turnovers: requests that run at once. Of a long
trace no more than this share: what it finds is confirmed in any case."""
MIN_LONG, LONG_TURNOVERS, MAX_LONG = 6_400, 40, 40_000
"""Of the long one; a longer trace is cut there, unless the turnovers ask for more."""
NUM_PIECES = 8
LEAST_WARM_UP, MOST_WARM_UP, MOST_COOLING = 0.02, 0.25, 0.1
"""Bounds of what does not count, shares of a piece."""
PAUSE_S = 3600.0
"""Between pieces, beside ten times the piece before: the server is empty when the next begins."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extent:
    """Requests to serve, in pieces of which each finds an empty server."""

    trace: Trace
    base_per_s: float
    """Requests a second that the trace it was taken from calls its rate."""
    piece: Ints
    """Per request: which piece it belongs to."""
    counted: NDArray[np.bool_]
    """Per request: neither warm-up nor the end of its piece."""

    def at_rate(self, rate_per_s: float) -> Trace:
        """As dense as the whole trace is at that rate: a busy piece stays a busy piece."""
        dense = self.trace.speedup(rate_per_s / self.base_per_s)
        return dense if not self.piece.any() else _apart(dense, self.piece)


def rate_of(trace: Trace) -> float:
    """Requests a second of a trace's own arrivals, over the time from its first to its last.

    Raises:
        ValueError: no arrival times, or all at one time.
    """
    times = trace.arrival_s
    if times is None:
        raise ValueError("trace has lengths only: give rate.")
    timed = int((~np.isnan(times)).sum())
    span_s = float(np.nanmax(times) - np.nanmin(times)) if timed else 0.0
    if not span_s > 0:
        raise ValueError(f"trace(={trace.name!r}) arrives all at once and has no rate.")
    return (timed - 1) / span_s * len(trace) / timed


def most_running(backlog: Backlog, trace: Trace, slo: SLO) -> int:
    """Requests that run at once, at most, while the objective holds."""
    stays_s = [] if slo.e2e_s is None else [slo.e2e_s]
    if slo.ttft_s is not None and slo.tpot_s is not None:
        stays_s.append(slo.ttft_s + slo.tpot_s * float(trace.output_tokens.mean()))
    allowed = (ceil(backlog.requests_per_s * stay_s) for stay_s in stays_s)
    return max(1, min([backlog.peak_running, *allowed]))


def whole(
    trace: Trace,
    *,
    running: int = 0,
    warm_up: int | None = None,
    base_per_s: float | None = None,
) -> Extent:
    """All of a trace, in one piece.

    Args:
        trace: with arrival times, unless ``base_per_s`` is given.
        running: requests that run at once, at most.
        warm_up: first requests that do not count, where it is known; all after them then do.
        base_per_s: what the trace calls its rate; by default that of its arrivals.
    """
    index, total = np.arange(len(trace)), len(trace)
    begin, end = _counting(total, running) if warm_up is None else (warm_up, total)
    return Extent(
        trace=trace,
        base_per_s=rate_of(trace) if base_per_s is None else base_per_s,
        piece=np.zeros(total, dtype=np.int64),
        counted=(index >= begin) & (index < end),
    )


def short_extent(trace: Trace, *, running: int) -> Extent:
    """What a rate is looked for with."""
    most = max(MIN_SHORT, int(SHORT_SHARE * len(trace)))
    return _extent(trace, min(max(MIN_SHORT, SHORT_TURNOVERS * running), most), running)


def long_extent(trace: Trace, *, running: int) -> Extent:
    """What a rate is confirmed with."""
    least = max(MIN_LONG, LONG_TURNOVERS * running)
    return _extent(trace, max(least, min(len(trace), MAX_LONG)), running)


def _extent(trace: Trace, wanted: int, running: int) -> Extent:
    total = len(trace)
    if total < wanted:
        return whole(repeated_in_time(trace, -(-wanted // total)), running=running)
    if total < 2 * wanted:
        return whole(trace, running=running)
    return _pieces(trace, -(-wanted // NUM_PIECES), running)


def _pieces(trace: Trace, size: int, running: int) -> Extent:
    """Of each eighth of the pieces of so many requests, by business, the middle one."""
    rate = rate_of(trace)
    assert trace.arrival_s is not None, "rate_of has checked it"
    starts_s = inherited_start_s(trace.arrival_s, trace.parent)
    order = np.argsort(starts_s, kind="stable")
    edges = np.arange(len(trace) // size + 1) * size
    tokens = np.concatenate(([0], np.cumsum((trace.prompt_tokens + trace.output_tokens)[order])))
    at_s = starts_s[order]
    span_s = np.maximum(at_s[np.minimum(edges[1:], len(at_s) - 1)] - at_s[edges[:-1]], 1e-9)
    busy = np.argsort((tokens[edges[1:]] - tokens[edges[:-1]]) / span_s, kind="stable")
    middles = ((np.arange(NUM_PIECES) + 0.5) / NUM_PIECES * len(busy)).astype(np.int64)
    chosen = np.sort(busy[middles])
    piece_of = np.full(len(trace), -1, dtype=np.int64)
    counted = np.zeros(len(trace), dtype=np.bool_)
    begin, end = _counting(size, running)
    for number, place in enumerate(chosen):
        rows = order[edges[place] : edges[place + 1]]
        piece_of[rows] = number
        counted[rows[begin:end]] = True
    rows = np.flatnonzero(piece_of >= 0)
    return Extent(
        trace=_roots_stay(trace, rows, starts_s),
        base_per_s=rate,
        piece=piece_of[rows],
        counted=counted[rows],
    )


def _roots_stay(trace: Trace, rows: Ints, starts_s: Floats) -> Trace:
    """These rows; a later turn whose beginning was cut off arrives when its session began."""
    taken = trace.take(rows.astype(np.int64))
    if taken.delay_s is None or taken.parent is None or taken.arrival_s is None:
        return taken
    cut = (taken.parent < 0) & np.isnan(taken.arrival_s)
    times = np.where(cut, starts_s[rows], taken.arrival_s)
    return replace(taken, arrival_s=times, delay_s=np.where(cut, np.nan, taken.delay_s))


def _counting(size: int, running: int) -> tuple[int, int]:
    """First that counts of so many requests, and the one after the last."""
    least, most = int(LEAST_WARM_UP * size), int(MOST_WARM_UP * size)
    return min(max(running, least), most), size - min(running, int(MOST_COOLING * size))


def _apart(trace: Trace, piece: Ints) -> Trace:
    """The pieces one after the other, each when the one before is long over."""
    assert trace.arrival_s is not None, "rate_of has checked it"
    times, begin_s = trace.arrival_s.copy(), 0.0
    for number in range(int(piece.max()) + 1):
        rows = piece == number
        first_s, last_s = np.nanmin(times[rows]), np.nanmax(times[rows])
        times[rows] += begin_s - first_s
        begin_s += 11 * float(last_s - first_s) + PAUSE_S
    return replace(trace, arrival_s=whole_ns(times))
