"""From a subject's runs to intervals: what the bands move, times what other traffic moves.

``value`` is the figure found on the whole trace. With ``g`` the figure in a scenario,

    at an end of the bands   value * g(end) / g(base)
    in a draw                value * (g(draw) / median of the draws) ^ sqrt(m / n)

so that the draws say how far it spreads and not where it lies. The interval is the product of both:
from the worst end times the draws' 5th percentile to the best end times their 95th.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .interval import Interval
from .nearby import Held
from .scenarios import Runs

LOW_SHARE, HIGH_SHARE = 0.05, 0.95
_NOTHING = 1e-12
"""In place of 0 below a fraction line."""

Good = Callable[[Held], float]
"""A figure of which more is better, 0 where nothing is held."""


def rate(held: Held) -> float:
    """Requests a second."""
    return held.rate_per_s


def tokens(held: Held) -> float:
    """Output tokens a second."""
    return held.output_tokens_per_s


def running(held: Held) -> float:
    """Requests at once."""
    return held.mean_running


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure of one subject in all scenarios."""

    value: float
    worse: float
    better: float
    draws: tuple[float, ...]

    @property
    def interval(self) -> Interval:
        """Bands and draws together."""
        ends = (self.worse, self.value, self.better)
        low, high = _tails(self.draws, self.value)
        return Interval(low=min(ends) * low, value=self.value, high=max(ends) * high)

    @property
    def by_traffic(self) -> Interval:
        """Draws alone."""
        low, high = _tails(self.draws, self.value)
        return Interval(low=self.value * low, value=self.value, high=self.value * high)


def spread_of(value: float, runs: Runs, good: Good, *, shrink: float) -> Spread:
    """A figure in all scenarios, as it would be on the whole trace.

    Args:
        value: on the whole trace.
        runs: on the thinned one and on the draws.
        good: the figure.
        shrink: exponent of what the draws spread.
    """
    base = good(runs.base)
    found = [good(draw) for draw in runs.draws]
    median = float(np.median(found)) if found else 1.0
    return Spread(
        value=value,
        worse=value * ratio(good(runs.worse), base),
        better=value * ratio(good(runs.better), base),
        draws=tuple(value * ratio(one, median) ** shrink for one in found),
    )


def paired(changed: Spread, chosen: Spread, *, common: bool) -> Interval:
    """How many times the chosen's figure the changed one's is, compared scenario by scenario.

    Args:
        changed: of one subject.
        chosen: of the other.
        common: an error of the bands hits both alike; otherwise one may be at its worse end while
            the other is at its better one.
    """
    value = ratio(changed.value, chosen.value)
    ends = [value, ratio(changed.worse, chosen.worse), ratio(changed.better, chosen.better)]
    if not common:
        ends += [ratio(changed.worse, chosen.better), ratio(changed.better, chosen.worse)]
    draws = tuple(map(ratio, changed.draws, chosen.draws))
    low, high = _tails(draws, value)
    return Interval(low=min(ends) * low, value=value, high=max(ends) * high)


def ratio(over: float, under: float) -> float:
    """``over / under``; 1 where both are 0."""
    return 1.0 if over == under else over / max(under, _NOTHING)


def _tails(draws: tuple[float, ...], value: float) -> tuple[float, float]:
    """The draws' outer percentiles relative to the figure, on its either side."""
    if not draws or value <= 0:
        return 1.0, 1.0
    low, high = np.quantile(draws, (LOW_SHARE, HIGH_SHARE)) / value
    return min(1.0, float(low)), max(1.0, float(high))
