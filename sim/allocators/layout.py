"""Where everything lies in the pool, by address.

Slots are counted from the pool's beginning. The pool is cut into *pieces*: a block, a reservation,
a hole. Within a piece the slots come in one order,

    token_states | reserved | internal | external | cached

(see ``Result``), most of them with nothing; what no piece covers is free. A block that several
requests share is one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ..request import Request

Ints = NDArray[np.int64]

KINDS = ("token_states", "reserved", "internal", "external", "cached")

TokensOf = Callable[[Sequence[Request]], list[int]]
"""Tokens of each request that hold KV, or will when the step that is scheduled has been run."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Pieces that do not overlap, in order of address."""

    starts: Ints
    """(num_pieces,) addresses."""
    slots: Ints
    """(len(KINDS), num_pieces)."""
    owners: Ints
    """(num_pieces,) places in ``holders``; -1 where nobody holds the piece."""
    holders: Sequence[Request]

    def __post_init__(self) -> None:
        count = len(self.starts)
        shapes = self.slots.shape, self.owners.shape
        assert shapes == ((len(KINDS), count), (count,)), f"{shapes} of {count} pieces"

    def in_rows(self, edges: Ints) -> Ints:
        """Slots of each kind and, last, free ones between neighbouring addresses.

        Args:
            edges: (num_rows + 1,) addresses, ascending.

        Returns:
            (len(KINDS) + 1, num_rows) slots; what lies outside the edges is left out.
        """
        rows = np.zeros((len(KINDS) + 1, len(edges) - 1), dtype=np.int64)
        begins = self.starts
        for row, slots in zip(rows, self.slots, strict=False):
            row[:] = np.diff(_slots_below(edges, begins, slots))
            begins = begins + slots
        rows[-1] = np.diff(edges) - rows.sum(axis=0)
        return rows


@dataclass(slots=True, kw_only=True, eq=False)
class Blocks:
    """What the first blocks of a pool are, by id: (num_blocks + 1,); block 0 is not used."""

    owners: Ints
    """Places in ``holders``; -1 where nobody holds the block."""
    places: Ints
    """In the table of its owner."""
    block_tokens: Ints
    holders: list[Request]

    def put(
        self,
        requests: Sequence[Request],
        tables: Sequence[list[int]],
        first: Sequence[int],
        block_tokens: int,
    ) -> None:
        """These requests hold these blocks, which lie in their tables from these places on."""
        counts = np.fromiter(map(len, tables), np.int64, len(tables))
        ids = np.fromiter(chain.from_iterable(tables), np.int64, int(counts.sum()))
        begins = np.array(first, dtype=np.int64) - np.cumsum(counts) + counts
        places = np.arange(len(ids)) + np.repeat(begins, counts)
        owners = np.repeat(len(self.holders) + np.arange(len(requests)), counts)
        near = ids < len(self.owners)
        ids = ids[near]
        self.owners[ids], self.places[ids] = owners[near], places[near]
        self.block_tokens[ids] = block_tokens
        self.holders += requests


def block_layout(
    blocks: Blocks, cached: Iterable[int], *, block_slots: int, tokens_of: TokensOf
) -> Layout:
    """Blocks that are held, and those that nobody holds but are cached; block 1 is at address 0.

    A request fills its blocks in order, each from its beginning on.
    """
    num_blocks = len(blocks.owners) - 1
    held = np.flatnonzero(blocks.owners >= 0)
    owners = blocks.owners[held]
    size = blocks.block_tokens[held]
    before = blocks.places[held] * size
    filled = np.array(tokens_of(blocks.holders), dtype=np.int64)[owners] - before
    final = np.array([one.kv_tokens for one in blocks.holders], dtype=np.int64)[owners] - before
    filled = np.minimum(np.maximum(filled, 0), size)
    final = np.minimum(np.maximum(final, filled), size)
    slots = np.zeros((len(KINDS), num_blocks + 1), dtype=np.int64)
    slots[:3, held] = np.stack([filled, final - filled, size - final]) * (block_slots // size)
    kept = np.fromiter(cached, np.int64)
    slots[KINDS.index("cached"), kept[kept <= num_blocks]] = block_slots
    used = np.flatnonzero(slots.any(axis=0))
    return Layout(
        starts=(used - 1) * block_slots,
        slots=slots[:, used],
        owners=blocks.owners[used],
        holders=blocks.holders,
    )


def tokens_there(tokens_of: TokensOf, block_size: int) -> TokensOf:
    """For groups that compute again what they had: less is there than their members say."""

    def there(requests: Sequence[Request]) -> list[int]:
        again: dict[Request, int] = {}
        for group in {request.group for request in requests}:
            if group is not None and group.recovering:
                found = group.recovered_tokens(block_size)
                again.update(zip(group.members, found, strict=True))
        tokens = tokens_of(requests)
        return [again.get(one, n) for one, n in zip(requests, tokens, strict=True)]

    return there


class BlockView:
    """Who holds which of the first blocks of a pool, kept up as they are taken and given back."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._owners: list[Request | None] = [None] * (num_blocks + 1)
        self._places = [0] * (num_blocks + 1)

    def take(self, request: Request, blocks: Sequence[int], first: int) -> None:
        """A request has these blocks, in its table from this place on."""
        for place, block in enumerate(blocks, first):
            if block <= self.num_blocks:
                self._owners[block], self._places[block] = request, place

    def grow(self, requests: Iterable[Request], blocks: Iterable[int]) -> None:
        """Each request has got one of these blocks, the last of its table."""
        for request, block in zip(requests, blocks, strict=True):
            if block <= self.num_blocks:
                self._owners[block] = request
                self._places[block] = request.run_blocks + len(request.blocks) - 1

    def give(self, blocks: Iterable[int]) -> None:
        """Nobody holds these blocks any more."""
        for block in blocks:
            if block <= self.num_blocks:
                self._owners[block] = None

    def blocks(self, num_blocks: int, block_tokens: int) -> Blocks:
        """As it is now, of the first blocks."""
        numbers: dict[Request | None, int] = {None: -1}
        owners = [
            numbers.setdefault(owner, len(numbers) - 1) for owner in self._owners[: num_blocks + 1]
        ]
        del numbers[None]
        return Blocks(
            owners=np.array(owners, dtype=np.int64),
            places=np.array(self._places[: num_blocks + 1], dtype=np.int64),
            block_tokens=np.full(num_blocks + 1, block_tokens),
            holders=[owner for owner in numbers if owner is not None],
        )


def areas(pieces: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring ``(address, slots)`` pieces joined, in order of address."""
    joined: list[tuple[int, int]] = []
    for address, slots in sorted(pieces):
        if joined and sum(joined[-1]) == address:
            joined[-1] = (joined[-1][0], joined[-1][1] + slots)
        else:
            joined.append((address, slots))
    return joined


def _slots_below(edges: Ints, begins: Ints, slots: Ints) -> Ints:
    """Of intervals that do not overlap, the slots below each edge."""
    some = np.flatnonzero(slots)
    if not len(some):
        return np.zeros(len(edges), dtype=np.int64)
    begins, slots = begins[some], slots[some]
    knots = np.stack([begins, begins + slots], axis=1).ravel()
    total = np.cumsum(slots)
    below = np.stack([total - slots, total], axis=1).ravel()
    return np.interp(edges, knots, below).astype(np.int64)
