"""Decode times on a grid of batch and context, as a server sees them: read from memory.

A benchmark repeats one launch, so a KV cache that fits the L2 cache (up to twice that: part of it
stays) is read from there; in a server the other layers have evicted it. Such a point is believed
only as a lower bound, and no point is below one with less to do:

    t = max(measured, floor(B) + bytes / cold rate, t of fewer sequences or shorter ones)

``floor(B)`` is the least time of that batch, the cold rate the median over the same kernel's points
that read more than twice the L2 cache.
"""

from __future__ import annotations

from math import log2
from typing import NamedTuple

import numpy as np

from ..gpus import GPUSpec
from ..step_cost import NS_PER_S
from .monotone import ASSUMED_READ, undisturbed

COLD = 2.0
"""Times the L2 cache: what is read at least, for a measurement to count as cold."""
TINY = 1 / 16
"""Of the L2 cache: so little is read that warm and cold hardly differ."""
FLOOR_COLUMNS = 4
"""The shortest contexts, of 2 to 16 tokens: next to nothing is read."""


class At(NamedTuple):
    """One batch size of a cold grid."""

    ns: list[float]
    """At each of the grid's contexts."""
    distance: float
    """Octaves to the nearest measured batch size."""
    measured_context: float
    """Longest context that was measured with about so many sequences."""
    beyond: bool
    """More sequences than were measured."""


class ColdGrid:
    """Cold times over measured batches and contexts.

    Args:
        gpu: the card.
        batch: sequences of each row.
        context: tokens that each sequence attends to.
        ns: measured times.
        bytes_per_token: of keys and values that the kernel reads.
        window: tokens of the sliding window that bounds the reading; 0 without.
    """

    def __init__(
        self,
        gpu: GPUSpec,
        *,
        batch: np.ndarray,
        context: np.ndarray,
        ns: np.ndarray,
        bytes_per_token: float,
        window: int = 0,
    ) -> None:
        self.batches: list[float] = np.unique(batch).astype(float).tolist()
        self.contexts: list[float] = np.unique(context).astype(float).tolist()
        grid = np.full((len(self.batches), len(self.contexts)), np.nan)
        rows = np.searchsorted(self.batches, batch)
        grid[rows, np.searchsorted(self.contexts, context)] = ns
        grid = undisturbed(grid)
        self._measured = [
            max((c for c, value in zip(self.contexts, line, strict=True) if value == value))
            for line in grid
        ]
        seen = np.minimum(self.contexts, window) if window else np.array(self.contexts)
        size = np.outer(self.batches, seen) * bytes_per_token
        floors = np.nanmin(grid[:, :FLOOR_COLUMNS], axis=1)[:, None]
        l2 = gpu.l2_bytes or 0
        self.cold_ns_per_byte = _cold_ns_per_byte(grid - floors, size, COLD * l2, gpu)
        warm = (size > TINY * l2) & (size < COLD * l2)
        cold = floors + size * self.cold_ns_per_byte
        grid = _filled(np.where(warm, np.fmax(grid, cold), grid), size, self.cold_ns_per_byte)
        rising = np.maximum.accumulate(np.maximum.accumulate(grid, axis=1), axis=0)
        self._logs = np.log(rising)
        self._batch_logs = [log2(b) for b in self.batches]
        self._known: dict[float, At] = {}

    def at(self, batch: float) -> At:
        """Between measured batches the logarithm of the time is linear in that of the batch."""
        found = self._known.get(batch)
        if found is None:
            found = self._known[batch] = self._at(batch)
        return found

    def _at(self, batch: float) -> At:
        logs, x = self._batch_logs, log2(batch)
        if x >= logs[-1]:
            over = batch / self.batches[-1]
            ns = np.exp(self._logs[-1]) * over
            return At(ns.tolist(), x - logs[-1], self._measured[-1], over > 1)
        if x <= logs[0]:
            return At(np.exp(self._logs[0]).tolist(), logs[0] - x, self._measured[0], False)
        high = next(i for i, value in enumerate(logs) if value >= x)
        low = high - 1
        share = (x - logs[low]) / (logs[high] - logs[low])
        ns = np.exp((1 - share) * self._logs[low] + share * self._logs[high])
        nearer = high if share > 0.5 else low
        away = min(x - logs[low], logs[high] - x)
        return At(ns.tolist(), away, self._measured[nearer], False)


def _cold_ns_per_byte(
    above: np.ndarray, size: np.ndarray, least_bytes: float, gpu: GPUSpec
) -> float:
    """Median over the cold points, never faster than the peak."""
    peak = NS_PER_S / gpu.memory_bandwidth_bytes_per_s
    cold = (size >= least_bytes) & np.isfinite(above)
    if not cold.any():
        return peak / ASSUMED_READ
    return max(float(np.median(above[cold] / size[cold])), peak)


def _filled(grid: np.ndarray, size: np.ndarray, ns_per_byte: float) -> np.ndarray:
    """Unmeasured cells: what the last one to the left costs, and the rest at the cold rate."""
    out = grid.copy()
    for column in range(1, out.shape[1]):
        hole = np.isnan(out[:, column])
        more = size[:, column] - size[:, column - 1]
        out[hole, column] = (out[:, column - 1] + more * ns_per_byte)[hole]
    for column in range(out.shape[1] - 2, -1, -1):
        hole = np.isnan(out[:, column])
        out[hole, column] = out[hole, column + 1]
    return out
