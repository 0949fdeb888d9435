"""Quantiles of any number of times in bounded memory: a DDSketch.

A positive value x is counted in bucket ``i = ceil(log(x) / log(g))``, ``g = (1 + a) / (1 - a)``,
whose middle ``2 g^i / (g + 1)`` is within the relative accuracy ``a`` of every value in it. So
every quantile is, too, and two sketches merge by adding their counts. Values below a nanosecond
count as zero. Source: Masson, Rim, Lee, "DDSketch", VLDB 2019.
"""

from __future__ import annotations

from math import ceil, floor, log, log1p

import numpy as np
from numpy.typing import ArrayLike, NDArray

ACCURACY = 0.0005
"""Relative; of a sketch's buckets."""
_SMALLEST_S, _LARGEST_S = 1e-9, 1e9


class Sketch:
    """Counts of times (s) by bucket, their exact sum and number."""

    def __init__(self, accuracy: float = ACCURACY) -> None:
        self.accuracy = accuracy
        self._log_base = log1p(accuracy) - log1p(-accuracy)
        self._first = floor(log(_SMALLEST_S) / self._log_base)
        buckets = ceil(log(_LARGEST_S) / self._log_base) - self._first + 1
        self.counts = np.zeros(buckets, dtype=np.int64)
        self.num_zeros = 0
        self.total_s = 0.0

    @property
    def num(self) -> int:
        """Values counted."""
        return self.num_zeros + int(self.counts.sum())

    def add(self, values_s: NDArray[np.float64], weights: ArrayLike | None = None) -> None:
        """Count times, each as often as its weight says (whole numbers; once by default)."""
        often = np.ones(len(values_s)) if weights is None else np.asarray(weights, np.float64)
        self.total_s += float(values_s @ often)
        some = values_s >= _SMALLEST_S
        self.num_zeros += int(often[~some].sum())
        place = np.ceil(np.log(values_s[some]) / self._log_base).astype(np.int64) - self._first
        place = np.clip(place, 0, len(self.counts) - 1)
        added = np.bincount(place, weights=often[some], minlength=len(self.counts))
        self.counts += added.astype(np.int64)

    def merge(self, other: Sketch) -> None:
        """Add what another sketch of the same accuracy has counted."""
        assert other.accuracy == self.accuracy, "buckets are alike"
        self.counts += other.counts
        self.num_zeros += other.num_zeros
        self.total_s += other.total_s

    def at_rank(self, rank: int) -> float:
        """About the value that has so many at or below it, ``rank`` from 1."""
        if rank <= self.num_zeros:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self.counts), rank - self.num_zeros))
        base = np.exp(self._log_base)
        return float(2.0 * np.exp((place + self._first) * self._log_base) / (base + 1.0))

    def quantile(self, q: float, *, linear: bool) -> float:
        """numpy's linear quantile, or the smallest value with a share ``q`` at or below it."""
        num = self.num
        if not num:
            return float("nan")
        if not linear:
            return self.at_rank(max(1, ceil(q * num)))
        place = q * (num - 1)
        below = self.at_rank(1 + floor(place))
        above = self.at_rank(min(2 + floor(place), num))
        return below + (above - below) * (place - floor(place))

    def mean(self) -> float:
        """Exact; NaN of nothing."""
        num = self.num
        return self.total_s / num if num else float("nan")
