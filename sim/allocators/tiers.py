"""Memory below the GPU for the prefix cache: host DRAM, and below it NVMe or a network.

A tier holds contents, not blocks with addresses: *pieces* of segments (see ``content``), least
recently arrived first. What leaves the GPU enters the first tier, what a tier has no room for
enters the next, what the last has no room for is lost. A hit moves up: it leaves its tier. So a
content is in one place only, and of every tier, in blocks,

    resident = in - up - down - lost - superseded

``superseded`` was computed again on the GPU while the tier still had it. A piece arrives tail
first, as it left the GPU, and so its tail is the first of it to go. All tiers together with the
GPU are thus one LRU list, cut where each memory ends.

vLLM's CPU tier differs: it keeps a copy of what it loads, and gets its copy when a block is full,
not when the GPU evicts it. At equal size it hits less: what the GPU holds is in it twice.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from ..content import Segment

HOST, SECONDARY = "host", "secondary"
TIERS = (HOST, SECONDARY)
"""From the GPU down, under vLLM's word for what lies below the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSpec:
    """One tier of a server.

    Raises:
        ValueError: no bytes in a block, a negative size or latency, no bandwidth.
    """

    name: str
    size_bytes: int
    block_bytes: int
    """Of one block, all of the server's GPUs together."""
    bytes_per_s: float
    """Of the link up, over all of the server's GPUs."""
    latency_s: float = 0.0
    """Before the first byte of a load."""

    def __post_init__(self) -> None:
        for name in ("size_bytes", "latency_s"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name}(={getattr(self, name)}) must be >= 0.")
        for name in ("block_bytes", "bytes_per_s"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name}(={getattr(self, name)}) must be > 0.")

    @property
    def num_blocks(self) -> int:
        """Blocks that it holds."""
        return self.size_bytes // self.block_bytes


class Load:
    """What an admitted request waits for: blocks on their way up, its own and others'."""

    __slots__ = ("after", "blocks", "done", "end_ns")

    def __init__(self, blocks: Sequence[int], after: Sequence[Load]) -> None:
        self.blocks = blocks
        """Of each tier, how many this request brings up."""
        self.after = after
        """Loads of other requests whose blocks it shares."""
        self.end_ns = 0.0
        """Known once the links have taken it."""
        self.done = False


class Piece:
    """Blocks ``first`` to ``stop`` of a segment, in one tier; its tail is the next to go."""

    __slots__ = ("after", "before", "first", "segment", "stop", "tier")

    before: Piece
    after: Piece

    def __init__(self, segment: Segment, first: int, stop: int, tier: Tier) -> None:
        self.segment = segment
        self.first = first
        self.stop = stop
        self.tier = tier

    def __repr__(self) -> str:
        return f"Piece({self.first}, {self.stop}, {self.tier.name})"


class Tier:
    """An LRU list of pieces with room for ``num_blocks`` blocks; ``below`` takes what must go."""

    def __init__(self, name: str, num_blocks: int, below: Tier | None = None) -> None:
        self.name = name
        self.num_blocks = num_blocks
        self.below = below
        self.num_resident = 0
        self.peak_resident = 0
        self.num_in = 0
        self.num_up = 0
        self.num_down = 0
        self.num_lost = 0
        self.num_superseded = 0
        self._list = Piece(Segment(0, 0, shared=False), 0, 0, self)
        self._list.before = self._list.after = self._list

    def push(self, segment: Segment, first: int, stop: int) -> None:
        """Blocks ``first`` to ``stop`` arrive, the last of them first; the oldest make room."""
        newest, count = self._list.before, stop - first
        self.num_in += count
        self.num_resident += count
        if newest.segment is segment and newest.first == stop:
            newest.first = first
        else:
            self._enter(Piece(segment, first, stop, self), self._list)
        if self.num_resident > self.num_blocks:
            self._shrink(self.num_resident - self.num_blocks)
        self.peak_resident = max(self.peak_resident, self.num_resident)

    def lift(self, piece: Piece, first: int, stop: int) -> None:
        """A hit: these blocks of a piece move up."""
        self.num_up += stop - first
        self._cut(piece, first, stop)

    def supersede(self, piece: Piece, first: int, stop: int) -> None:
        """The GPU has computed these blocks again."""
        self.num_superseded += stop - first
        self._cut(piece, first, stop)

    def clear(self) -> None:
        """Lose everything."""
        while (piece := self._list.after) is not self._list:
            self.num_lost += piece.stop - piece.first
            self._cut(piece, piece.first, piece.stop)

    def pieces(self) -> list[Piece]:
        """All pieces, the next to go first."""
        found, piece = [], self._list.after
        while piece is not self._list:
            found.append(piece)
            piece = piece.after
        return found

    def check(self) -> None:
        """Raise AssertionError with the numbers where the ledger is wrong."""
        held = 0
        for piece in self.pieces():
            segment = piece.segment
            held += piece.stop - piece.first
            inside = segment.first <= piece.first < piece.stop <= segment.stop
            assert inside, f"{piece} lies outside {segment}"
            assert piece.tier is self, f"{piece} is in the list of {self.name}"
            assert segment.below.count(piece) == 1, f"{piece} cannot be found"
            at = segment.below.index(piece)
            if at:
                before = segment.below[at - 1]
                assert before.stop <= piece.first, f"{before} and {piece} hold the same block"
            for run in segment.runs:
                apart = run.stop <= piece.first or piece.stop <= run.first
                assert apart, f"{piece} is on the GPU, too"
        assert held == self.num_resident, f"{held} blocks held, {self.num_resident} counted"
        assert held <= self.num_blocks, f"{held} blocks in {self.num_blocks} of {self.name}"
        gone = self.num_up + self.num_down + self.num_lost + self.num_superseded
        assert self.num_in - gone == held, f"{self.num_in} in - {gone} out != {held} held"

    def _shrink(self, count: int) -> None:
        while count:
            piece = self._list.after
            first = max(piece.first, piece.stop - count)
            segment, stop = piece.segment, piece.stop
            count -= stop - first
            self._cut(piece, first, stop)
            if self.below is None:
                self.num_lost += stop - first
            else:
                self.num_down += stop - first
                self.below.push(segment, first, stop)

    def _cut(self, piece: Piece, first: int, stop: int) -> None:
        """Take blocks out of a piece; what is left of it keeps its place."""
        self.num_resident -= stop - first
        if stop < piece.stop:  # the tail goes before the head
            self._enter(Piece(piece.segment, stop, piece.stop, self), piece)
        piece.stop = first
        if piece.first == first:
            piece.before.after, piece.after.before = piece.after, piece.before
            piece.segment.below.remove(piece)

    def _enter(self, piece: Piece, place: Piece) -> None:
        """Enter the list just before ``place``, and the pieces of the segment in order."""
        piece.before, piece.after = place.before, place
        place.before.after = piece
        place.before = piece
        if not piece.segment.below:
            piece.segment.below = []
        insort(piece.segment.below, piece, key=_first)


def make_tiers(specs: Sequence[TierSpec]) -> tuple[Tier, ...]:
    """Empty tiers, from the GPU down."""
    tiers: list[Tier] = []
    for spec in reversed(specs):
        tiers.append(Tier(spec.name, spec.num_blocks, tiers[-1] if tiers else None))
    return tuple(reversed(tiers))


def piece_at(segment: Segment, depth: int) -> Piece | None:
    """The piece of whatever tier that holds block ``depth``."""
    pieces: Sequence[Piece] = segment.below
    place = bisect_right(pieces, depth, key=_first) - 1
    if place >= 0 and depth < pieces[place].stop:
        return pieces[place]
    return None


def _first(piece: Piece) -> int:
    return piece.first
