"""The rate that a server holds, where about that rate is known: a few probes around it.

From the known rate the bracket opens by doubling strides until one end holds and the other does
not; then it is narrowed by regula falsi on the attainment. The answer is where the attainment,
taken as a line between the two ends, crosses the objective's quantile, so that it moves smoothly
with what is varied: differences of two searches are not lost in the bracket's width. No rate above
what the server finishes under backlog is held, however short the trace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...calibration.varied import ScaledCost
from ...traces import Trace
from ..saturated import most_at_once, queue_length, saturate
from ..server import Server
from ..slo import SLO
from .probe import Probe, probe

TOLERANCE = 0.04
"""Relative width of the bracket in which the search ends; the crossing is within."""
FINE_TOLERANCE = 0.005
"""The same where a rate fails although enough requests keep their limits: nothing crosses there."""
FIRST_STRIDE = 0.06
"""Relative; the next ones are each twice as long."""
MOST_PROBES = 14
MOST_REFINING = 2
"""Of them, once the bracket has two ends: the answer lies on a line between its ends anyway."""
LEAST_SHARE = 0.01
"""Of the known rate, below which nothing is held."""
CERTAIN_SHARE = 0.8
"""Of the backlogged rate as it was known, below which it is not asked for again."""
TURNOVERS, LEAST_BACKLOG = 4, 500
"""Requests of a backlog: in requests that can run at once, and alone; at least the trace once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a server holds; all zero where no rate holds."""

    rate_per_s: float = 0.0
    """Highest requests a second."""
    output_tokens_per_s: float = 0.0
    """At that rate."""
    mean_running: float = 0.0
    """At once, at that rate."""


def rate_near(
    server: Server, trace: Trace, slo: SLO, *, near_per_s: float, saturated_per_s: float
) -> Held:
    """The highest rate that holds, searched from a rate outwards.

    Args:
        server: what serves.
        trace: with arrival times, whose pattern is kept.
        slo: the objective.
        near_per_s: where to begin; what a similar server holds.
        saturated_per_s: what a similar server finishes under backlog.

    Raises:
        ValueError: the server can run no request of the trace.
    """
    search = _Search(server, trace, slo, saturated_per_s)
    return search.run(near_per_s)


class _Search:
    """The probes of one search."""

    def __init__(self, server: Server, trace: Trace, slo: SLO, saturated_per_s: float) -> None:
        self._server, self._trace, self._slo = server, trace, slo
        self._doubtful_per_s = CERTAIN_SHARE * saturated_per_s
        self._top_per_s: float | None = None
        self._num_probes = 0

    def run(self, near_per_s: float) -> Held:
        low, high = self._bracket(near_per_s)
        if low is None:
            return Held()
        most = min(MOST_PROBES, self._num_probes + MOST_REFINING)
        while high is not None and self._num_probes < most:
            crosses = high.attainment < self._slo.quantile
            near = TOLERANCE if crosses else FINE_TOLERANCE
            if high.rate_per_s - low.rate_per_s <= near * high.rate_per_s:
                break
            share = min(max(self._share(low, high), 0.1), 0.9) if crosses else 0.5
            found = self._probe(low.rate_per_s + share * (high.rate_per_s - low.rate_per_s))
            low, high = (found, high) if found.holds else (low, found)
        if high is None or high.attainment >= self._slo.quantile:
            return _held(low, low.rate_per_s)
        rate = low.rate_per_s + self._share(low, high) * (high.rate_per_s - low.rate_per_s)
        return _held(low, rate)

    def _bracket(self, near_per_s: float) -> tuple[Probe | None, Probe | None]:
        """A rate that holds and one that does not; None where there is no such rate."""
        first = self._probe(self._capped(near_per_s))
        stride, last = FIRST_STRIDE, first
        while last.holds:
            rate = self._capped(last.rate_per_s * (1 + stride))
            if rate <= last.rate_per_s:
                return last, None
            found = self._probe(rate)
            if not found.holds:
                return last, found
            last, stride = found, 2 * stride
        while last.rate_per_s > LEAST_SHARE * near_per_s:
            found = self._probe(last.rate_per_s * max(1 - stride, 0.25))
            if found.holds:
                return found, last
            last, stride = found, 2 * stride
        return None, last

    def _capped(self, rate_per_s: float) -> float:
        """At most what the server finishes under backlog, which is run where that is in doubt."""
        if rate_per_s <= self._doubtful_per_s:
            return rate_per_s
        if self._top_per_s is None:
            self._top_per_s = _saturated_per_s(self._server, self._trace)
            self._doubtful_per_s = min(self._doubtful_per_s, self._top_per_s)
        return min(rate_per_s, self._top_per_s)

    def _share(self, low: Probe, high: Probe) -> float:
        """Of the bracket, below the crossing of the quantile."""
        fall = low.attainment - high.attainment
        return (low.attainment - self._slo.quantile) / fall if fall > 0 else 0.0

    def _probe(self, rate_per_s: float) -> Probe:
        self._num_probes += 1
        return probe(self._server, self._trace, rate_per_s, self._slo)


def _saturated_per_s(server: Server, trace: Trace) -> float:
    """Of a backlog as short as it may be: many are run, and only compared with each other.

    A clock ``f`` times as slow finishes the same in ``f`` times the time: that is not run.
    """
    cost = server.cost
    if isinstance(cost, ScaledCost):
        return _saturated_per_s(replace(server, cost=cost.cost), trace) / cost.factor
    at_once = min(server.deployment.limits.seats, most_at_once(server, trace))
    wanted = max(TURNOVERS * at_once, len(trace), LEAST_BACKLOG)
    longest = queue_length(server, trace)
    _, backlog = saturate(server, trace, num_requests=min(wanted, longest))
    if not backlog.saturated or backlog.num_finished < wanted // TURNOVERS:  # the window is short
        _, backlog = saturate(server, trace, num_requests=longest)
    return backlog.requests_per_s


def _held(low: Probe, rate_per_s: float) -> Held:
    """The figures of the probe just below, at the rate of the crossing."""
    return Held(
        rate_per_s=rate_per_s,
        output_tokens_per_s=low.output_tokens_per_s * rate_per_s / low.rate_per_s,
        mean_running=low.mean_running,
    )
