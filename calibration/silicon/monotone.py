"""Times that must not fall as work grows, from measurements that scatter.

Along one axis, neighbours out of order are averaged (isotonic regression by pooling adjacent
violators): more rows through the same weight take no less time, however the kernels were timed. On
a grid, a point that takes much longer than one with more of everything was disturbed, and takes
the time of that one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from ..step_cost import NS_PER_S

ASSUMED_READ = 0.8
"""Of the peak bandwidth, where nothing was measured from memory."""
DISTURBED = 1.2
"""Times a larger shape's time: scatter is smaller than this."""


def rising(values: Sequence[float]) -> list[float]:
    """The non-decreasing sequence that is nearest in the least-squares sense."""
    pools: list[tuple[float, int]] = []
    for value in values:
        total, count = float(value), 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, many = pools.pop()
            total, count = total + before, count + many
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]


def undisturbed(grid: np.ndarray) -> np.ndarray:
    """A grid of times (NaN where unmeasured) without the points that larger shapes refute."""
    least = grid
    for axis in range(grid.ndim):
        least = np.flip(np.fmin.accumulate(np.flip(least, axis), axis=axis), axis)
    return np.where(grid > DISTURBED * least, least, grid)


def from_memory(ns: float, moved_bytes: float, bandwidth_bytes_per_s: float) -> float:
    """A time in which so many bytes come from memory, as they do in a server.

    A measured time that would need more than the card's bandwidth was read from its cache: the
    bytes are then taken at ``ASSUMED_READ`` of the bandwidth.
    """
    least = NS_PER_S * moved_bytes / bandwidth_bytes_per_s
    return ns if ns >= least else least / ASSUMED_READ


class Rising:
    """A piecewise-linear, non-decreasing time over a measured quantity.

    Args:
        points: where it was measured, ascending.
        ns: the times there.
    """

    def __init__(self, points: Sequence[float], ns: Sequence[float]) -> None:
        self.points = [float(x) for x in points]
        self.ns = rising(undisturbed(np.array(ns, dtype=float)).tolist())

    def __call__(self, x: float) -> float:
        """Linear in between, the first value below, in proportion beyond the last."""
        points, ns = self.points, self.ns
        if x >= points[-1]:
            return ns[-1] * x / points[-1]
        index = bisect_right(points, x) - 1
        if index < 0:
            return ns[0]
        share = (x - points[index]) / (points[index + 1] - points[index])
        return ns[index] + share * (ns[index + 1] - ns[index])
