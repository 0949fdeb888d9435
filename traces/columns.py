"""Operations on a trace's columns: nothing here knows what a request means.

Prefix-block ids are ragged, one chain per request, and are held flat with offsets (CSR): the ids of
row i are `hash_ids[offsets[i]:offsets[i + 1]]`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NS_PER_S = 1_000_000_000

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Ids = NDArray[np.uint64]


def read_only(column: NDArray[Any]) -> NDArray[Any]:
    """A view of `column` that cannot be written to."""
    view = column.view()
    view.flags.writeable = False
    return view


def offsets_of(counts: Ints | Sequence[int]) -> Ints:
    """CSR offsets (n+1,) of chains with these lengths (n,)."""
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64)


def take_chains(hash_ids: Ids, offsets: Ints, rows: Ints) -> tuple[Ids, Ints]:
    """The chains of `rows`, in that order, flat with their own offsets."""
    counts = np.diff(offsets)[rows]
    new_offsets = offsets_of(counts)
    shift = np.repeat(offsets[rows] - new_offsets[:-1], counts)
    return hash_ids[shift + np.arange(new_offsets[-1])], new_offsets


def relink(parent: Ints, rows: Ints) -> Ints:
    """Parents of the kept `rows`, in their order, as places in it; -1 where it was dropped."""
    new_index = np.full(len(parent) + 1, -1, dtype=np.int64)  # the last entry answers parent -1
    new_index[rows] = np.arange(len(rows))
    return new_index[parent[rows]]


def session_numbers(parent: Ints | None, num_rows: int) -> Ints:
    """(n,) session of each row, numbered from 0 by their first rows."""
    number = np.arange(num_rows, dtype=np.int64)
    if parent is None:
        return number
    number[parent < 0] = np.arange(int((parent < 0).sum()))
    for row in np.flatnonzero(parent >= 0).tolist():
        number[row] = number[parent[row]]
    return number


def whole_ns(seconds: Floats) -> Floats:
    """Seconds rounded to whole nanoseconds, so that a last-bit difference does not show."""
    return np.asarray(np.rint(seconds * NS_PER_S) / NS_PER_S, dtype=np.float64)


def inherited_start_s(arrival_s: Floats, parent: Ints | None) -> Floats:
    """Arrival of each row, or of its nearest ancestor that has one (NaN: it follows its parent)."""
    start_s = arrival_s.copy()
    if parent is not None:
        for row in np.flatnonzero(np.isnan(arrival_s)):
            start_s[row] = start_s[parent[row]]
    return start_s
