"""Which request of a memory map is marked: one that shows how requests lie in the pool.

An *area* is a stretch of addresses whose pieces one request holds. At each look the areas in the
view are kept, and of a few requests, those in most areas, what they hold in the whole pool. At the
end one of these is marked: it was there in at least an eighth of the looks, came and left between
the first and the last look, and lay in most areas; among equals it is the nearest to the middle of
the map. Where no request is such a one, the conditions are dropped from the left to the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .allocators import Allocator, Layout, TokensOf, areas
from .allocators.layout import Ints
from .memory_map import Marked
from .request import Request

_MOST_FOLLOWED = 8
"""Requests whose pieces in the whole pool are counted at one look."""
_LEAST_SHARE = 1 / 8


class Areas(NamedTuple):
    """What requests hold of the view, in order of address: (num_areas,) each."""

    owners: Ints
    """Places in ``holders``."""
    starts: Ints
    stops: Ints
    """Slots; cut where the view ends."""
    holders: Sequence[Request]


def areas_in_view(layout: Layout, view_slots: int) -> Areas:
    """Neighbouring pieces of one request, joined."""
    held = np.flatnonzero((layout.owners >= 0) & (layout.starts < view_slots))
    owners, starts = layout.owners[held], layout.starts[held]
    stops = starts + layout.slots[:, held].sum(axis=0)
    begins = np.ones(len(held), dtype=np.bool_)
    begins[1:] = (owners[1:] != owners[:-1]) | (starts[1:] != stops[:-1])
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(held))[: len(first)] - 1
    return Areas(owners[first], starts[first], np.minimum(stops[last], view_slots), layout.holders)


class _Life(NamedTuple):
    """A request from one admission to its end, as far as it was seen."""

    first_look: int
    num_looks: int
    areas_at_a_look: float
    from_the_middle: float
    """In shares of the map's width and height, added."""


class Marker:
    """Remembers where requests lay.

    Args:
        allocator: whose pool is looked at.
        edges_slots: (num_rows + 1,) addresses between the rows of the view.
    """

    def __init__(self, allocator: Allocator, edges_slots: Ints) -> None:
        self._allocator, self._edges = allocator, edges_slots
        self._looks: list[tuple[Ints, Ints, Ints]] = []
        """Order of admission of the owner, first and last slot but one of each area."""
        self._followed: dict[int, tuple[Request, int, list[tuple[int, int]]]] = {}
        """By order of admission: the request, its tokens, its pieces of the whole pool."""

    def see(self, seen: Areas, tokens_of: TokensOf) -> None:
        """Take note of one look."""
        sequence = np.array([request.sequence for request in seen.holders], dtype=np.int64)
        self._looks.append((sequence[seen.owners], seen.starts, seen.stops))
        for owner in self._most_scattered(seen):
            request = seen.holders[owner]
            found = request, tokens_of([request])[0], self._allocator.pieces(request)
            self._followed[request.sequence] = found

    def thin_out(self) -> None:
        """Forget every second look."""
        del self._looks[1::2]

    def marked(self) -> Marked | None:
        """The request to be marked; None where nobody held anything of the view."""
        lives = {sequence: self._life(sequence) for sequence in self._followed}
        lives = {sequence: life for sequence, life in lives.items() if life.num_looks}
        if not lives:
            return None
        best = max(lives, key=lambda sequence: self._merit(lives[sequence]))
        request, tokens, pieces = self._followed[best]
        return Marked(
            index=request.index,
            cells=np.stack([self._column(look, best) for look in self._looks], axis=1),
            tokens=tokens,
            slots=sum(size for _, size in pieces),
            num_areas=len(areas(pieces)),
        )

    def _most_scattered(self, seen: Areas) -> list[int]:
        """Owners in most areas of the view; among equals those nearest to its middle."""
        owners, first, counts = np.unique(seen.owners, return_index=True, return_counts=True)
        away = np.abs(seen.starts[first] - self._edges[-1] // 2)
        order = np.lexsort((away, -counts))
        return [int(owner) for owner in owners[order[:_MOST_FOLLOWED]]]

    def _life(self, sequence: int) -> _Life:
        found = [np.flatnonzero(owners == sequence) for owners, _, _ in self._looks]
        looks = [number for number, places in enumerate(found) if len(places)]
        if not looks:
            return _Life(0, 0, 0.0, 0.0)
        middles = [self._looks[n][1][found[n]].mean() / self._edges[-1] for n in looks]
        time = (looks[0] + looks[-1] + 1) / 2 / len(self._looks)
        return _Life(
            looks[0],
            len(looks),
            sum(len(found[n]) for n in looks) / len(looks),
            float(abs(time - 0.5) + abs(np.mean(middles) - 0.5)),
        )

    def _merit(self, life: _Life) -> tuple[bool, bool, int, float]:
        last = len(self._looks) - 1
        inside = life.first_look > 0 and life.first_look + life.num_looks <= last
        long = life.num_looks >= _LEAST_SHARE * len(self._looks)
        return long, inside, round(life.areas_at_a_look), -life.from_the_middle

    def _column(self, look: tuple[Ints, Ints, Ints], sequence: int) -> NDArray[np.bool_]:
        owners, starts, stops = look
        column = np.zeros(len(self._edges) - 1, dtype=np.bool_)
        for area in np.flatnonzero(owners == sequence):
            low = np.searchsorted(self._edges, starts[area], side="right") - 1
            column[low : np.searchsorted(self._edges, stops[area])] = True
        return column
