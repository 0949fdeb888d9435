"""Where between two rates an objective is lost: rates in pairs, closing in from both sides.

Two rates are asked at a time, which two cores answer at once; the rates do not depend on how many
cores there are, so neither does the answer. The next pair stands around the rate at which

    log(share of misses)   as a line over   log(rate)

through the two probes nearest to the objective meets what the objective allows. With more requests
an objective is kept less often, but not strictly so: a rate may fail by the luck of its arrivals.
So *holds* means here: and so does every lower rate that was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import exp, log

from .probe import Probe

Ask = Callable[[Sequence[float]], Sequence[Probe]]
"""Probes at these rates."""
Probes = Mapping[float, Probe]
FARTHEST = 1.5
"""Factor to go beyond what was tried, at most, on the strength of a line."""
LEAST_MISSES = 0.5
"""What stands for no miss at all where a logarithm is taken."""


def close_in(
    ask: Ask,
    first: Sequence[float],
    *,
    allowed: float,
    top: float,
    bottom: float,
    tolerance: float,
    most_rounds: int,
    stride: float,
) -> dict[float, Probe]:
    """Ask until the highest rate that holds and the lowest that fails are close together.

    Args:
        ask: gives probes.
        first: rates to begin with.
        allowed: share of misses that the objective allows.
        top: no rate above it is asked.
        bottom: nor one below it.
        tolerance: relative distance that is close.
        most_rounds: times to ask at most.
        stride: factor to look further up or down with, where no line can be drawn; it grows.
    """
    probes: dict[float, Probe] = {}
    rates: Sequence[float] = first
    for _ in range(most_rounds):
        new = sorted({min(max(rate, bottom), top) for rate in rates} - probes.keys())
        if not new:
            break
        probes.update(zip(new, ask(new), strict=True))
        low, high = between(probes)
        if low is not None and high is not None and high <= low * (1 + tolerance) * _ROUNDING:
            break
        aim = crossing(probes, allowed)
        if aim is None:
            rates = _strides(low, high, stride)
            stride **= 2
        else:
            rates = _pair(aim, low, high, tolerance)
    return probes


_ROUNDING = 1 + 1e-9


def between(probes: Probes) -> tuple[float | None, float | None]:
    """The highest rate that holds with all below it, and the lowest that fails."""
    high = min((rate for rate, one in probes.items() if not one.holds), default=None)
    held = (rate for rate, one in probes.items() if one.holds and (high is None or rate < high))
    return max(held, default=None), high


def crossing(probes: Probes, allowed: float) -> float | None:
    """Where as many requests miss as the objective allows; None where no line says so."""
    low, high = between(probes)
    known = {
        rate: log(max(1 - one.attainment, LEAST_MISSES / max(one.num_counted, 1)))
        for rate, one in sorted(probes.items())
        if not one.stopped and one.keeps_up
    }
    if low is not None and high is not None:
        ends = [low, high] if low in known and high in known else []
    else:
        ends = list(known)[-2:] if high is None else list(known)[:2]
    target = log(max(allowed, LEAST_MISSES / max(one.num_counted for one in probes.values())))
    if len(ends) < 2:
        return None
    (left, right), (few, many) = ends, (known[rate] for rate in ends)
    if many <= few:
        return None
    slope = (many - few) / log(right / left)
    aim = left * exp((target - few) / slope)
    return min(max(aim, left / FARTHEST), right * FARTHEST)


def _pair(aim: float, low: float | None, high: float | None, tolerance: float) -> tuple[float, ...]:
    """Rates as far apart as is close, around what is aimed at; never again what is known."""
    half, step = (1 + tolerance) ** 0.5, 1 + tolerance
    below, above = aim / half, aim * half
    if low is not None and below <= low:
        below, above = low, low * step
    if high is not None and above >= high:
        below, above = (below if low is None else max(below, low)), high
        below = min(below, high / step)
    if low is not None and high is not None and below <= low < high <= above:
        return ((low * high) ** 0.5,)
    return (below, above)


def _strides(low: float | None, high: float | None, stride: float) -> tuple[float, float]:
    if high is None:
        assert low is not None, "something was asked"
        return low * stride, low * stride**2
    if low is None:
        return high / stride**2, high / stride
    third = (high / low) ** (1 / 3)
    return low * third, low * third * third
