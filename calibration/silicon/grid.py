"""Interpolation on a grid of measured points, in the logarithm of each axis.

What is interpolated is a ratio ``measured / bound`` of a time to its roofline bound, which changes
slowly with the shape; the caller multiplies by the bound of the shape asked for. Outside the grid
the edge's ratio is kept: the bound carries the shape there, and the answer is flagged.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import product
from math import log2
from typing import NamedTuple

import numpy as np


class Found(NamedTuple):
    """An interpolated value and how far it lies from what was measured."""

    value: float
    distance: float
    """Octaves to the nearest measured point, on the axis where that is largest."""
    outside: bool
    """Beyond the grid on some axis: extrapolated."""


class LogGrid:
    """Values on a full grid; holes are filled from the nearest measured neighbour.

    A point that was measured several times has the mean.

    Args:
        axes: one column per axis, as in the table's rows.
        values: one value per row.
    """

    def __init__(self, axes: Sequence[np.ndarray], values: np.ndarray) -> None:
        if not len(values):
            raise ValueError("a grid needs at least one measured point.")
        unique = [np.unique(column, return_inverse=True) for column in axes]
        self.axes = [points.astype(float).tolist() for points, _ in unique]
        grid = np.full([len(points) for points in self.axes], np.nan)
        place = tuple(inverse for _, inverse in unique)
        total, count = np.zeros(grid.shape), np.zeros(grid.shape)
        np.add.at(total, place, values)
        np.add.at(count, place, 1)
        grid[count > 0] = total[count > 0] / count[count > 0]
        self._logs = [[log2(x) for x in points] for points in self.axes]
        self._values = _without_holes(grid)
        self._lines = np.moveaxis(self._values, 0, -1)

    def cut(self, *rest: float) -> Cut:
        """The line through the grid at fixed values of every axis but the first."""
        cells, distance, outside = self._cells(rest, self._logs[1:])
        values = np.zeros(len(self.axes[0]))
        for corner in product(*cells):
            weight = 1.0
            for _, share in corner:
                weight *= share
            values += weight * self._lines[tuple(index for index, _ in corner)]
        return Cut(self._logs[0], values.tolist(), distance, outside)

    @staticmethod
    def _cells(
        point: Sequence[float], axes: Sequence[list[float]]
    ) -> tuple[list[tuple[tuple[int, float], ...]], float, bool]:
        cells, distance, outside = [], 0.0, False
        for logs, x in zip(axes, point, strict=True):
            cell, away, out = _cell(logs, log2(x))
            cells.append(cell)
            distance, outside = max(distance, away), outside or out
        return cells, distance, outside

    def __call__(self, *point: float) -> Found:
        """The value at a point (all coordinates > 0)."""
        cells, distance, outside = self._cells(point, self._logs)
        total = 0.0
        for corner in product(*cells):
            weight = 1.0
            for _, share in corner:
                weight *= share
            if weight:
                total += weight * float(self._values[tuple(index for index, _ in corner)])
        return Found(total, distance, outside)


class Cut:
    """One axis of a grid, the others fixed; answers are remembered."""

    def __init__(
        self, logs: list[float], values: list[float], distance: float, outside: bool
    ) -> None:
        self._logs, self._values = logs, values
        self._distance, self._outside = distance, outside
        self._known: dict[float, Found] = {}

    def __call__(self, x: float) -> Found:
        """The value at ``x`` (> 0)."""
        found = self._known.get(x)
        if found is None:
            cell, away, out = _cell(self._logs, log2(x))
            value = sum(share * self._values[index] for index, share in cell)
            found = Found(value, max(self._distance, away), self._outside or out)
            self._known[x] = found
        return found


def _cell(logs: list[float], x: float) -> tuple[tuple[tuple[int, float], ...], float, bool]:
    """The two neighbours with their shares, the distance to the nearer, and whether outside."""
    if x <= logs[0]:
        return ((0, 1.0),), logs[0] - x, x < logs[0]
    if x >= logs[-1]:
        return ((len(logs) - 1, 1.0),), x - logs[-1], x > logs[-1]
    right = bisect_right(logs, x)
    low, high = logs[right - 1], logs[right]
    share = (x - low) / (high - low)
    return ((right - 1, 1.0 - share), (right, share)), min(x - low, high - x), False


def _without_holes(grid: np.ndarray) -> np.ndarray:
    """Each unmeasured node takes the last measured value along an axis, the last axis first."""
    filled = grid.copy()
    for axis in reversed(range(grid.ndim)):
        for flip in (False, True):
            view = np.moveaxis(filled, axis, -1)
            view = view[..., ::-1] if flip else view
            for index in range(1, view.shape[-1]):
                hole = np.isnan(view[..., index])
                view[..., index][hole] = view[..., index - 1][hole]
    return filled
