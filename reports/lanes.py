"""Spells on lanes: each on the lowest lane that is free, as trains on platforms.

Spells on one lane never overlap; there are as many lanes as ever lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush


def lowest_free_lanes(starts: Sequence[float], ends: Sequence[float]) -> list[int]:
    """The lane of each spell, from 0; one that ends as another begins makes room for it.

    Spells are placed in order of their starts, those that start together in the order given. A
    spell of no length takes a lane like any other.
    """
    lanes = [0] * len(starts)
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    count = 0
    for spell in sorted(range(len(starts)), key=starts.__getitem__):
        while busy and busy[0][0] <= starts[spell]:
            heappush(free, heappop(busy)[1])
        if free:
            lane = heappop(free)
        else:
            lane, count = count, count + 1
        heappush(busy, (ends[spell], lane))
        lanes[spell] = lane
    return lanes
