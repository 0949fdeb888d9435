"""Occupancy over time on even bins: the time-weighted mean of each bin.

A segment holds ``value`` from ``start_s`` for ``duration_s``. Its integral up to time t,

    F(t) = sum over segments of value * (time of the segment before t)

is piecewise linear with knots at the segments' ends, so a bin's mean is ``(F(right) - F(left)) /
width``, and the bins' sum gives back F's end: nothing is lost, however short the segments are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HELD = ("token_states", "reserved", "internal", "external", "cached")
COUNTS = ("num_running", "num_waiting")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Binned:
    """Means over ``num_bins`` bins between ``edges_s`` (num_bins + 1 times, seconds)."""

    edges_s: Floats
    means: Mapping[str, Floats]
    """Slots by category and ``num_running``, ``num_waiting``: (num_bins,) each."""

    @property
    def centres_s(self) -> Floats:
        """Middles of the bins, seconds."""
        return (self.edges_s[1:] + self.edges_s[:-1]) / 2


def resample(
    segments: Mapping[str, NDArray[np.generic]], pool_slots: int, num_bins: int = 600
) -> Binned:
    """Bin the segments of a result; slots that no segment holds are free (idle time too).

    Args:
        segments: the columns of ``Result.segments``, in order of time, not overlapping.
        pool_slots: tokens that the pool holds.
        num_bins: bins between the first segment's start and the last one's end.

    Raises:
        ValueError: ``num_bins`` is not positive, or there are no segments.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins(={num_bins}) must be > 0.")
    starts = np.asarray(segments["start_s"], dtype=np.float64)
    durations = np.asarray(segments["duration_s"], dtype=np.float64)
    if not len(starts):
        raise ValueError("segments(=0 rows) must hold at least one.")
    edges = np.linspace(starts[0], max(starts[-1] + durations[-1], starts[0]), num_bins + 1)
    means = {
        name: bin_means(starts, durations, np.asarray(segments[name], dtype=np.float64), edges)
        for name in (*HELD, *COUNTS)
    }
    means["free"] = pool_slots - np.sum([means[name] for name in HELD], axis=0)
    return Binned(edges_s=edges, means=means)


def bin_means(starts_s: Floats, durations_s: Floats, values: Floats, edges_s: Floats) -> Floats:
    """Time-weighted mean of ``values`` in each bin; where no segment is, the value is 0."""
    knots = np.column_stack([starts_s, starts_s + durations_s]).ravel()
    knots = np.maximum.accumulate(knots)  # an end may pass the next start by a last bit
    integral = np.repeat(np.cumsum(values * durations_s), 2)
    integral[1::2], integral[2::2] = integral[1::2].copy(), integral[1:-1:2].copy()
    integral[0] = 0.0
    at_edges = np.interp(edges_s, knots, integral)
    widths = np.diff(edges_s)
    return np.divide(np.diff(at_edges), widths, out=np.zeros_like(widths), where=widths > 0)
