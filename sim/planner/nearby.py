"""The rate that a server holds, where about that rate is known: a few probes around it.

The share of misses grows with the rate about as a power of it, so that the next rate to probe is
where a line through two probes, on logarithmic scales, meets what the objective allows; with one
probe, a line of the usual steepness. Until one rate holds and another does not, the probe is a
little beyond. The answer is where the line between the two ends crosses, so that it moves smoothly
with what is varied: differences of two searches are not lost in the bracket's width. No rate above
what the server finishes under backlog is held, however short the trace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log

from ...calibration.varied import ScaledCost
from ...traces import Trace
from ..saturated import most_at_once, queue_length, saturate
from ..server import Server
from ..slo import SLO
from .probe import Probe, probe

NEAR, ALMOST = 0.05, 0.4
"""The search ends where the crossing is so near one of the bracket's ends, relative, and that end
misses about as often as is allowed: so far, on a logarithmic scale."""
FINE_TOLERANCE = 0.005
"""The same where a rate fails although enough requests keep their limits: nothing crosses there."""
STEEPNESS = 8.0
"""Exponent of the rate with which misses grow, where it is not known."""
LEAST_STEEP, MOST_STEEP = 3.0, 24.0
"""What is believed of a line through two probes that are near each other."""
BEYOND = 1.03
"""Past the crossing, so that the probe is on its other side."""
FIRST_STRIDE, FARTHEST = 0.06, 1.5
"""Relative; a search that goes on in one direction goes at least so far, twice as far each time; at
most so many times the rate."""
MOST_PROBES = 14
MOST_REFINING, MOST_FINE = 2, 5
"""Of them, once the bracket has two ends: the answer lies on a line between its ends anyway; and
where small differences count, with :data:`NEAR` and :data:`ALMOST` a quarter as large."""
LEAST_MISSES = 0.5
"""What stands for no miss at all where a logarithm is taken."""
LEAST_SHARE = 0.01
"""Of the known rate, below which nothing is held."""
CERTAIN_SHARE = 0.9
"""Of the backlogged rate as it was known; below it, it is not asked for again."""
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
    server: Server,
    trace: Trace,
    slo: SLO,
    *,
    near_per_s: float,
    saturated_per_s: float,
    fine: bool = False,
) -> Held:
    """The highest rate that holds, searched from a rate outwards.

    Args:
        server: what serves.
        trace: with arrival times, whose pattern is kept.
        slo: the objective.
        near_per_s: where to begin; what a similar server holds.
        saturated_per_s: what a similar server finishes under backlog.
        fine: small differences count.

    Raises:
        ValueError: the server can run no request of the trace.
    """
    search = _Search(server, trace, slo, saturated_per_s, fine=fine)
    return search.run(near_per_s)


class _Search:
    """The probes of one search."""

    def __init__(
        self, server: Server, trace: Trace, slo: SLO, saturated_per_s: float, *, fine: bool
    ) -> None:
        self._server, self._trace, self._slo = server, trace, slo
        self._doubtful_per_s = CERTAIN_SHARE * saturated_per_s
        self._top_per_s: float | None = None
        self._num_probes = 0
        self._most_refining = MOST_FINE if fine else MOST_REFINING
        self._near, self._far = (NEAR / 4, ALMOST / 4) if fine else (NEAR, ALMOST)
        self._allowed = max(1 - slo.quantile, LEAST_MISSES / len(trace))

    def run(self, near_per_s: float) -> Held:
        low, high = self._bracket(near_per_s)
        if low is None:
            return Held()
        most = min(MOST_PROBES, self._num_probes + self._most_refining)
        while high is not None and self._num_probes < most:
            crosses = high.attainment < self._slo.quantile
            rate = self._crossing(low, high) if crosses else _middle(low, high)
            if crosses and any(self._almost(end, rate) for end in (low, high)):
                break
            if high.rate_per_s - low.rate_per_s <= FINE_TOLERANCE * rate:
                break
            found = self._probe(rate)
            low, high = (found, high) if found.holds else (low, found)
        if high is None or high.attainment >= self._slo.quantile:
            return self._held(low, low.rate_per_s)
        return self._held(low, self._crossing(low, high))

    def _bracket(self, near_per_s: float) -> tuple[Probe | None, Probe | None]:
        """A rate that holds and one that does not; None where there is no such rate."""
        low: Probe | None = None
        high: Probe | None = None
        rate, steep, stride = self._capped(near_per_s, held_per_s=0.0), STEEPNESS, FIRST_STRIDE
        while low is None or high is None:
            found, last = self._probe(rate), low or high
            if last is not None:
                steep = self._steepness(last, found)
            low, high = (found, high) if found.holds else (low, found)
            factor = exp((log(self._allowed) - self._log_misses(found)) / steep)
            if high is None:
                rate *= min(max(factor * BEYOND, 1 + stride), FARTHEST)
                rate = self._capped(rate, held_per_s=found.rate_per_s)
                if rate <= found.rate_per_s:
                    return found, None
            elif low is None:
                if rate <= LEAST_SHARE * near_per_s:
                    return None, found
                rate *= max(min(factor / BEYOND, 1 - stride), 1 / FARTHEST**2)
            stride = min(2 * stride, 0.5)
        return low, high

    def _steepness(self, one: Probe, other: Probe) -> float:
        """Of the line through two probes, within what is believed."""
        run = log(other.rate_per_s / one.rate_per_s)
        rise = self._log_misses(other) - self._log_misses(one)
        return min(max(rise / run, LEAST_STEEP), MOST_STEEP) if run else STEEPNESS

    def _crossing(self, low: Probe, high: Probe) -> float:
        """Where between two rates as many miss as the objective allows."""
        few, many = self._log_misses(low), self._log_misses(high)
        share = (log(self._allowed) - few) / (many - few) if many > few else 0.0
        wide = log(high.rate_per_s / low.rate_per_s)
        return low.rate_per_s * exp(wide * min(max(share, 0.0), 1.0))

    def _almost(self, found: Probe, rate_per_s: float) -> bool:
        """Whether a probe tells enough of the crossing, which is at that rate."""
        far = abs(self._log_misses(found) - log(self._allowed))
        return abs(found.rate_per_s / rate_per_s - 1) <= self._near and far <= self._far

    def _log_misses(self, found: Probe) -> float:
        return log(max(1 - found.attainment, LEAST_MISSES / max(found.num_counted, 1)))

    def _capped(self, rate_per_s: float, *, held_per_s: float) -> float:
        """At most what the server finishes under backlog.

        That is run only where a rate near it has been held.
        """
        if rate_per_s <= self._doubtful_per_s:
            return rate_per_s
        if held_per_s < self._doubtful_per_s:
            return self._doubtful_per_s
        if self._top_per_s is None:
            self._top_per_s = _saturated_per_s(self._server, self._trace)
        return min(rate_per_s, self._top_per_s)

    def _held(self, low: Probe, rate_per_s: float) -> Held:
        """The figures of the probe just below, at the rate of the crossing."""
        turnovers = len(self._trace) / max(low.mean_running, 1.0)
        if self._top_per_s is None and turnovers < TURNOVERS:  # who arrives finds an empty server
            self._top_per_s = _saturated_per_s(self._server, self._trace)
        rate = rate_per_s if self._top_per_s is None else min(rate_per_s, self._top_per_s)
        return Held(
            rate_per_s=rate,
            output_tokens_per_s=low.output_tokens_per_s * rate / low.rate_per_s,
            mean_running=low.mean_running,
        )

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


def _middle(low: Probe, high: Probe) -> float:
    return (low.rate_per_s + high.rate_per_s) / 2
