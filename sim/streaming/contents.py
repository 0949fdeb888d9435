"""Which requests' KV is equal, without the whole trace: the tree of ``content``, as it grows.

Who will share a block is not known yet, so a path is cut wherever a later prompt may branch off: at
the end of each prefix id. Segments are found by id; an id whose segments hold nothing, and that no
request in the server passes through, is forgotten: a later request with it finds nothing, as it
would if the id were remembered. So the memory is bounded by the pool and by who is in the server.

A later turn repeats the answer of the turn before, as in ``content``: paths that a row of the
chunks read so far follows are kept until it comes. Ids are learnt as requests arrive: that another
session's prompt holds that answer is known only once the later turn itself has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

from ..content import Path, Segment
from ..request import Request
from .feed import Feed, Row

_SWEEP_AT_LEAST = 16_384
"""Ids."""


class _Known(NamedTuple):
    """What an id stands for, behind the id before it."""

    segments: Path
    end_tokens: int
    """Tokens up to its end, in the longest prompt that has it."""


class _Turn(NamedTuple):
    """A request that a later turn may repeat, answer and all."""

    chain: tuple[int, ...]
    prompt_tokens: int
    total_tokens: int
    path: Path


class Contents:
    """Paths of requests as they arrive.

    Args:
        block_size: tokens per block that the cache tells apart.
        feed: tells who follows whom, and how many tokens a prefix id stands for.
        keeps: tells whether anything of a segment is cached.
    """

    def __init__(self, block_size: int, feed: Feed, keeps: Callable[[Segment], bool]) -> None:
        self._keeps = keeps
        self._block_size = block_size
        self._feed = feed
        self._known: dict[int, _Known] = {}
        self._turns: dict[int, _Turn] = {}
        self._sweep_at = _SWEEP_AT_LEAST
        self._number = 0
        """Of the next block's content."""
        self.num_cut = 0
        """Prompts that end within an id that another prompt fills."""

    def path(self, row: Row) -> Path:
        """The way of a request through the tree, from its first block to its last full one."""
        stop = (row.prompt_tokens + row.output_tokens) // self._block_size
        if not row.chain:
            self._number += stop
            if row.parent >= 0:
                self._forget_turn(row.parent)
            return (Segment(0, stop, shared=False, number=self._number - stop),) if stop else ()
        followed = row.number in self._feed.followers
        ends = self._ends(row)
        before, num_known = self._shared(row, ends)
        at = before[-1].stop if before else 0
        bounds = {at, stop}
        bounds.update(end for end in ends if at < end < stop)
        if followed:
            size, block = self._feed.hash_block_size or 1, self._block_size
            total = row.prompt_tokens + row.output_tokens
            grid = (tokens // block for tokens in range(size, total, size))
            bounds.update(end for end in grid if at < end < stop)
        own = [
            Segment(a, b, shared=followed or b <= ends[-1], number=self._number - at)
            for a, b in pairwise(sorted(bounds))
        ]
        self._number += max(0, stop - at)
        path = (*before, *own)
        self._learn(row, path, ends, num_known)
        if followed:
            total = row.prompt_tokens + row.output_tokens
            self._turns[row.number] = _Turn(row.chain, row.prompt_tokens, total, path)
        if row.parent >= 0:
            self._forget_turn(row.parent)
        return path

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know."""
        if not self.num_cut:
            return ()
        return (
            f"{self.num_cut} prompts end within a prefix id that another prompt fills: what they "
            "share of it is not found in a stream.",
        )

    def sweep(self, live: Iterable[Request]) -> None:
        """Forget ids without content, once there are twice as many as the last time."""
        if len(self._known) < self._sweep_at:
            return
        kept = {segment for request in live for segment in request.path}
        kept |= {segment for turn in self._turns.values() for segment in turn.path}
        self._known = {
            name: known
            for name, known in self._known.items()
            if any(one in kept or self._keeps(one) for one in known.segments)
        }
        self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._known))

    def _ends(self, row: Row) -> list[int]:
        """The block at which each id of a row's chain ends."""
        size, block = self._feed.hash_block_size or 1, self._block_size
        prompt = row.prompt_tokens
        return [min(place * size, prompt) // block for place in range(1, len(row.chain) + 1)]

    def _shared(self, row: Row, ends: list[int]) -> tuple[Path, int]:
        """The path as far as it is known, and how many ids of the row are."""
        size, block, prompt = self._feed.hash_block_size or 1, self._block_size, row.prompt_tokens
        path: list[Segment] = []
        num_known = tokens = 0
        for place, name in enumerate(row.chain, 1):
            known = self._known.get(name)
            if known is None:
                if ends[place - 1] == (ends[place - 2] if place > 1 else 0):
                    continue  # it ends no block, and may have been forgotten
                break
            num_known = place
            tokens = min(place * size, prompt, known.end_tokens)
            for segment in known.segments:
                if segment.stop <= tokens // block:
                    path.append(segment)
                elif segment.first < tokens // block:
                    self.num_cut += 1
            if tokens < min(place * size, prompt):
                break
        turn = self._turns.get(row.parent)
        if turn is not None and self._repeats(row, turn, num_known, tokens):
            return turn.path, num_known
        return tuple(path), num_known

    def _repeats(self, row: Row, turn: _Turn, num_known: int, tokens: int) -> bool:
        """Whether a prompt begins with a turn's prompt and is long enough to hold its answer."""
        num_full = turn.prompt_tokens // (self._feed.hash_block_size or 1)
        if not tokens < turn.total_tokens <= row.prompt_tokens:
            return False
        count = min(num_full, len(turn.chain))
        if num_full > max(count, num_known):  # the turn's ids end before its prompt does
            return False
        return row.chain[:count] == turn.chain[:count]

    def _learn(self, row: Row, path: Path, ends: list[int], num_known: int) -> None:
        """Find the segments of new ids, and of one that was known for a shorter prompt."""
        size = self._feed.hash_block_size or 1
        first = max(0, num_known - 1)
        at = ends[first - 1] if first else 0
        place = 0
        for number, name in enumerate(row.chain[first:], first):
            end_tokens = min((number + 1) * size, row.prompt_tokens)
            known = self._known.get(name)
            segments = []
            while place < len(path) and path[place].stop <= ends[number]:
                if path[place].first >= at:
                    segments.append(path[place])
                place += 1
            at = ends[number]
            if known is None or known.end_tokens < end_tokens:
                self._known[name] = _Known(tuple(segments), end_tokens)

    def _forget_turn(self, parent: int) -> None:
        followers = self._feed.followers
        if parent in followers:
            followers[parent] -= 1
            if not followers[parent]:
                del followers[parent]
                self._turns.pop(parent, None)
