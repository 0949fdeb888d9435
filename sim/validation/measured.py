"""What was recorded of a real run: per-request times, a series over time, a server's histograms.

Each part is there or not, and within a part each column: NaN stands for what was not recorded.
Nothing is taken for 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requests:
    """Finished requests in the order of their file, (num_requests,) each, seconds.

    Raises:
        ValueError: no requests, or columns of different lengths.
    """

    arrival_s: Floats
    """From the first arrival on; NaN where no clock was recorded."""
    ttft_s: Floats
    e2e_s: Floats
    waited_s: Floats
    """In the queue before the first schedule; NaN where only the client was recorded."""
    prompt_tokens: Ints
    output_tokens: Ints
    itl_s: Floats = field(default_factory=lambda: np.empty(0))
    """Times between tokens of all requests, (num_tokens,); empty where not recorded."""
    rows: Ints | None = None
    """Rows of the trace that these requests are, where the file says so."""

    def __post_init__(self) -> None:
        columns = (self.ttft_s, self.e2e_s, self.waited_s, self.prompt_tokens, self.output_tokens)
        if any(len(column) != len(self.arrival_s) for column in columns):
            raise ValueError("columns of requests must have one length.")
        if not len(self.arrival_s):
            raise ValueError("requests(=0) must hold a finished one.")

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def tpot_s(self) -> Floats:
        """Of each request; NaN where fewer than two tokens came out."""
        later = self.output_tokens - 1
        times = np.full(len(later), np.nan)
        several = later > 0
        times[several] = (self.e2e_s - self.ttft_s)[several] / later[several]
        return times

    @property
    def makespan_s(self) -> float:
        """First arrival to last token; NaN without a clock."""
        if np.isnan(self.arrival_s).any():
            return float("nan")
        return float((self.arrival_s + self.e2e_s).max() - self.arrival_s.min())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """Samples of a server's state, (num_samples,) each; None or NaN: not recorded.

    Raises:
        ValueError: no samples, or times that go back.
    """

    time_s: Floats
    running: Floats | None = None
    waiting: Floats | None = None
    kv_share: Floats | None = None
    """Of the KV pool, 0 to 1: blocks that requests hold."""
    output_tokens_per_s: Floats | None = None

    def __post_init__(self) -> None:
        if not len(self.time_s):
            raise ValueError("samples(=0) must hold at least one.")
        if (np.diff(self.time_s) < 0).any():
            raise ValueError("times of samples must not go back.")

    @property
    def busy(self) -> slice:
        """From the first to the last sample in which anything runs or waits; all where none."""
        busy = np.zeros(len(self.time_s), dtype=np.bool_)
        for part in (self.running, self.waiting):
            busy |= False if part is None else part > 0
        at_work = np.flatnonzero(busy)
        if not len(at_work):
            return slice(0, len(self.time_s))
        return slice(int(at_work[0]), int(at_work[-1]) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure, and the bounds between which it is known to lie."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histogram:
    """Counts between edges, as Prometheus keeps them.

    Raises:
        ValueError: edges that do not grow, a negative count, or one count too few.
    """

    edges: Floats
    """Upper bounds of the finite buckets, (num_edges,); the first begins at 0."""
    counts: Floats
    """In each bucket, the last being above every edge: (num_edges + 1,)."""
    total: float
    """Sum of all values."""

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError("counts of a histogram must be one more than its edges.")
        if (np.diff(self.edges) <= 0).any():
            raise ValueError("edges of a histogram must grow.")
        if (self.counts < 0).any():
            raise ValueError("counts of a histogram must be >= 0.")

    @property
    def count(self) -> float:
        """Of all values."""
        return float(self.counts.sum())

    def quantile(self, share: float) -> Estimate:
        """Straight between a bucket's edges, as ``histogram_quantile``; above all: the last edge.

        Raises:
            ValueError: an empty histogram.
        """
        if not self.count:
            raise ValueError("count(=0) of a histogram must be > 0.")
        below = np.cumsum(self.counts)
        rank = share * below[-1]
        bucket = int(np.searchsorted(below, rank))
        if bucket == len(self.edges):
            last = float(self.edges[-1]) if len(self.edges) else 0.0
            return Estimate(value=last, low=last, high=float("inf"))
        low = float(self.edges[bucket - 1]) if bucket else 0.0
        high = float(self.edges[bucket])
        before = float(below[bucket - 1]) if bucket else 0.0
        part = (rank - before) / float(self.counts[bucket])
        return Estimate(value=low + (high - low) * part, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """One real run, put together from the files that recorded it."""

    sources: tuple[str, ...]
    """Each file and what it holds, in words."""
    notes: tuple[str, ...] = ()
    requests: Requests | None = None
    series: Series | None = None
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    """By the summary's names: ``ttft_s``, ``tpot_s``, ``itl_s``, ``e2e_s``."""
    totals: Mapping[str, float] = field(default_factory=dict)
    """Figures that a file gives as such, by the summary's paths."""
