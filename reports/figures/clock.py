"""The unit of a time axis: seconds, minutes or hours, whichever gives small numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit of time."""

    name: str
    seconds: float


def time_axis(ends_s: Sequence[float]) -> Unit:
    """The unit for an axis up to the latest of these times."""
    longest = max(ends_s, default=0.0)
    if longest < 300:
        return Unit("s", 1.0)
    return Unit("min", 60.0) if longest < 4 * 3600 else Unit("h", 3600.0)
