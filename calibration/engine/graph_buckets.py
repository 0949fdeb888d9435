"""Batch sizes that decode graphs are captured for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def buckets_up_to(max_num_seqs: int) -> tuple[int, ...]:
    """The sizes that a server of so many seats needs."""
    return BUCKETS[: bisect_left(BUCKETS, max_num_seqs) + 1]


def bucket_of(num_rows: int, buckets: Sequence[int]) -> int:
    """The smallest that holds so many rows; 0 where none does."""
    place = bisect_left(buckets, num_rows)
    return buckets[place] if num_rows and place < len(buckets) else 0
