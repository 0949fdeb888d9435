"""Where between two rates an objective is lost: rates in pairs, closing in from both sides.

Two rates are asked at a time, which two cores answer at once; the rates do not depend on how many
cores there are, so neither does the answer. With more requests an objective is kept less often, but
not strictly so: a rate may fail by the luck of its arrivals. So *holds* means here: and so does
every lower rate that was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .probe import Probe

Ask = Callable[[Sequence[float]], Sequence[Probe]]
"""Probes at these rates."""


def close_in(
    ask: Ask,
    first: Sequence[float],
    *,
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
        top: no rate above it is asked.
        bottom: nor one below it.
        tolerance: relative distance that is close.
        most_rounds: pairs to ask at most.
        stride: factor to look further up or down with, where one side is missing; it grows.
    """
    probes: dict[float, Probe] = {}
    rates: Sequence[float] = first
    for _ in range(most_rounds):
        new = sorted({min(max(rate, bottom), top) for rate in rates} - probes.keys())
        if not new:
            break
        probes.update(zip(new, ask(new), strict=True))
        low, high = between(probes)
        if high is None:
            assert low is not None, "something was asked"
            rates, stride = (low * stride, low * stride**2), stride**2
        elif low is None:
            rates, stride = (high / stride**2, high / stride), stride**2
        elif high <= low * (1 + tolerance):
            break
        else:
            third = (high / low) ** (1 / 3)
            rates = (low * third, low * third * third)
    return probes


def between(probes: Mapping[float, Probe]) -> tuple[float | None, float | None]:
    """The highest rate that holds with all below it, and the lowest that fails."""
    high = min((rate for rate, one in probes.items() if not one.holds), default=None)
    held = (rate for rate, one in probes.items() if one.holds and (high is None or rate < high))
    return max(held, default=None), high


def crossing(probes: Mapping[float, Probe], quantile: float) -> float | None:
    """Where the attainment falls to the quantile, on the line between the two rates next to it."""
    low, high = between(probes)
    if low is None or high is None:
        return low
    kept, lost = probes[low].attainment, probes[high].attainment
    if kept <= lost or lost >= quantile:  # it failed for another reason
        return low
    return low + (high - low) * (kept - quantile) / (kept - lost)
