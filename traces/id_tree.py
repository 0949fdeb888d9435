"""Prefix ids must form a tree: an id stands for its block and everything before it.

So an id has one position and one parent (the id before it) wherever it occurs; the same parent
throughout, down from those without one, means the same position. Sound files are told at numpy's
speed; only a file that has a contradiction is walked through, row by row, and each chain is then
cut before the first id that contradicts the rows above.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .columns import Ids, Ints, offsets_of

NO_PARENT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """Id number `position` of row `row` (both from 0) is not what it was in row `earlier`."""

    row: int
    position: int
    earlier: int
    hash_id: int

    def reason(self, earlier: str) -> str:
        """In words; `earlier` says which row that was."""
        name = f"hash_ids[{self.position}](={self.hash_id})"
        return f"{name} must have the position and the id before it that it has in {earlier}"


def numbered(hash_ids: Ids) -> tuple[Ints, int]:
    """The ids renumbered from 0, and how many there are."""
    if not len(hash_ids):
        return np.empty(0, dtype=np.int64), 0
    largest = int(hash_ids.max())
    if largest > 4 * len(hash_ids) + 1024:  # sparse: sorting beats a table
        unique, numbers = np.unique(hash_ids, return_inverse=True)
        return numbers.astype(np.int64), len(unique)
    ids = hash_ids.astype(np.int64)
    present = np.zeros(largest + 1, dtype=np.int64)
    present[ids] = 1
    return (np.cumsum(present) - 1)[ids], int(present.sum())


def contradictions(hash_ids: Ids, offsets: Ints) -> list[Contradiction]:
    """The first contradiction of each row that has one, in row order; rows above it are right."""
    numbers, num_ids = numbered(hash_ids)
    before = _parents(numbers, offsets)
    first = np.zeros(num_ids, dtype=np.int64)
    first[numbers[::-1]] = np.arange(len(numbers) - 1, -1, -1)  # the last assignment stays
    if (before == before[first[numbers]]).all():
        return []
    return _walk(numbers, offsets, hash_ids)


def cut(hash_ids: Ids, offsets: Ints, found: list[Contradiction]) -> tuple[Ids, Ints]:
    """The chains, each cut before its contradiction."""
    counts = np.diff(offsets)
    keep: NDArray[np.bool_] = np.ones(len(hash_ids), dtype=np.bool_)
    for one in found:
        keep[offsets[one.row] + one.position : offsets[one.row + 1]] = False
        counts[one.row] = one.position
    return hash_ids[keep], offsets_of(counts)


def _parents(numbers: Ints, offsets: Ints) -> Ints:
    """The id before each id in its chain."""
    before = np.empty(len(numbers), dtype=np.int64)
    before[1:] = numbers[:-1]
    before[offsets[:-1][np.diff(offsets) > 0]] = NO_PARENT
    return before


def _walk(numbers: Ints, offsets: Ints, hash_ids: Ids) -> list[Contradiction]:
    found = []
    known: dict[int, tuple[int, int]] = {}  # id -> parent, row
    flat, bounds = numbers.tolist(), offsets.tolist()
    for row in range(len(bounds) - 1):
        parent = NO_PARENT
        for position, number in enumerate(flat[bounds[row] : bounds[row + 1]]):
            before, earlier = known.setdefault(number, (parent, row))
            if before != parent:
                found.append(
                    Contradiction(
                        row=row,
                        position=position,
                        earlier=earlier,
                        hash_id=int(hash_ids[bounds[row] + position]),
                    )
                )
                break
            parent = number
    return found
