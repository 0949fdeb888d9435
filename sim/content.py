"""Which requests' KV is equal: the tokens of all requests as one tree, cut at block boundaries.

Two blocks hold the same KV if and only if all tokens up to their last are the same. So a block is a
place in the tree of all token sequences. Requests that begin alike share the first *segments* of
their paths through it; a segment is a run of blocks in which nobody branches off. Trace ids of any
block size give the same tree: a block of another size ends somewhere within an id's tokens.

What begins alike is read from hash ids, from ``prefix_row`` and ``prefix_tokens``, and from
sessions: a prompt that begins with the previous turn's prompt and is long enough to hold its answer
repeats that answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Contents(Protocol):
    """The columns of a trace that say which prompts begin alike (see ``kvsim.traces.Trace``)."""

    @property
    def prompt_tokens(self) -> NDArray[np.int64]: ...
    @property
    def output_tokens(self) -> NDArray[np.int64]: ...
    @property
    def parent(self) -> NDArray[np.int64] | None: ...
    @property
    def hash_ids(self) -> NDArray[np.uint64] | None: ...
    @property
    def hash_offsets(self) -> NDArray[np.int64] | None: ...
    @property
    def hash_block_size(self) -> int | None: ...
    @property
    def prefix_row(self) -> NDArray[np.int64] | None: ...
    @property
    def prefix_tokens(self) -> NDArray[np.int64] | None: ...


class Segment:
    """Blocks ``first`` to ``stop`` of every sequence that passes through here.

    The allocator of one simulation keeps in it what it has cached of these blocks.
    """

    __slots__ = ("below", "first", "number", "runs", "shared", "stop")

    def __init__(self, first: int, stop: int, *, shared: bool, number: int = 0) -> None:
        self.first = first
        self.stop = stop
        self.number = number
        """With a block's place added, the number of its content."""
        self.shared = shared
        """More than one request passes through."""
        self.runs: list[Any] = []
        self.below: Any = ()
        """Pieces in tiers below the GPU, in order; a list where there ever were some."""

    def __repr__(self) -> str:
        return f"Segment({self.first}, {self.stop}, shared={self.shared})"


Path = tuple[Segment, ...]


def content_paths(
    trace: Contents, block_size: int, copies: Sequence[int] | None = None
) -> list[Path]:
    """For each request its way through the tree, from its first block to its last full one.

    Args:
        trace: what begins alike.
        block_size: tokens per block.
        copies: sequences of each request, which have the prompt in common; by default one. Their
            paths follow one another.
    """
    row, tokens = shared_prefixes(trace)
    total = trace.prompt_tokens + trace.output_tokens
    if copies is not None:
        row, tokens = _fanned_out(row, tokens, trace.prompt_tokens, np.asarray(copies))
        total = np.repeat(total, copies)
    num_blocks = (total // block_size).tolist()
    if (row < 0).all():
        numbers = accumulate(num_blocks, initial=0)
        pairs = zip(num_blocks, numbers, strict=False)
        return [(Segment(0, stop, shared=False, number=n),) if stop else () for stop, n in pairs]
    return _Tree(row.tolist(), (tokens // block_size).tolist(), num_blocks).paths()


def _fanned_out(row: Ints, tokens: Ints, prompt_tokens: Ints, copies: Ints) -> tuple[Ints, Ints]:
    """What the first copy of each row shares with others, and the later ones with the first."""
    first = np.cumsum(copies) - copies
    rows = np.repeat(first, copies)
    shared = np.repeat(prompt_tokens, copies)
    rows[first] = np.where(row >= 0, first[row], -1)
    shared[first] = tokens
    return rows, shared


def shared_prefixes(trace: Contents) -> tuple[Ints, Ints]:
    """For each row the earlier row with which it has most in common, and how many tokens.

    Row -1 where it has nothing in common with an earlier one. The tokens count from the beginning
    of that row's prompt and may reach into its output.
    """
    row, tokens = _by_hash_ids(trace)
    if trace.prefix_row is not None and trace.prefix_tokens is not None:
        more = trace.prefix_tokens > tokens
        row, tokens = np.where(more, trace.prefix_row, row), np.maximum(trace.prefix_tokens, tokens)
    return np.where(tokens > 0, row, -1).astype(np.int64), tokens.astype(np.int64)


def _by_hash_ids(trace: Contents) -> tuple[Ints, Ints]:
    """By ids, each introduced by the first row that has it and standing for all before it."""
    num = len(trace.prompt_tokens)
    row, tokens = np.full(num, -1), np.zeros(num, dtype=np.int64)
    ids, offsets, size = trace.hash_ids, trace.hash_offsets, trace.hash_block_size
    if ids is None or offsets is None or size is None or not len(ids):
        return row, tokens
    counts = np.diff(offsets)
    row_of = np.repeat(np.arange(num), counts)
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    owner = row_of[first][inverse]
    place = np.arange(len(ids)) - offsets[row_of]
    last = np.iinfo(np.int64).max
    new_at = np.where(owner == row_of, place, last)
    known = counts.copy()
    filled = np.flatnonzero(counts)
    lead = np.minimum.reduceat(new_at, offsets[filled])
    known[filled] = np.minimum(lead, counts[filled])
    some = np.flatnonzero(known)
    row[some] = owner[offsets[some] + known[some] - 1]
    most = np.minimum(trace.prompt_tokens[some], trace.prompt_tokens[row[some]])
    tokens[some] = np.minimum(known[some] * size, most)
    _repeat_answers(trace, row, tokens, known)
    return row, tokens


def _repeat_answers(trace: Contents, row: Ints, tokens: Ints, known: Ints) -> None:
    """Later turns hold what was answered: extend what they share by the answer."""
    if trace.parent is None:
        return
    ids, offsets, size = trace.hash_ids, trace.hash_offsets, trace.hash_block_size
    assert ids is not None, "the caller has looked"
    assert offsets is not None, "the caller has looked"
    assert size is not None, "the caller has looked"
    session = roots(trace.parent, len(trace.parent))
    total = (trace.prompt_tokens + trace.output_tokens).tolist()
    full, prompts = (trace.prompt_tokens // size).tolist(), trace.prompt_tokens.tolist()
    starts, parents = offsets.tolist(), trace.parent.tolist()
    for child in np.flatnonzero(trace.parent >= 0).tolist():
        for before in (parents[child], int(row[child])):
            if before < 0 or session[before] != session[child] or full[before] > known[child]:
                continue
            if prompts[child] < total[before] or total[before] <= tokens[child]:
                continue
            count = min(full[before], starts[before + 1] - starts[before])
            mine = ids[starts[child] : starts[child] + count]
            if np.array_equal(mine, ids[starts[before] : starts[before] + count]):
                row[child], tokens[child] = before, total[before]
                break


def roots(parent: Ints | None, num_rows: int) -> list[int]:
    """The first turn of each row's session."""
    if parent is None:
        return list(range(num_rows))
    found: list[int] = []
    for row, before in enumerate(parent.tolist()):
        found.append(found[before] if before >= 0 else row)
    return found


class _Tree:
    """Builds the segments: row i's own blocks begin where it leaves the row it shares with."""

    def __init__(self, row: Sequence[int], shared: Sequence[int], num_blocks: Sequence[int]):
        self.num_blocks = num_blocks
        self.host: list[int] = []
        """The row in whose own blocks a row's path leaves what was there before it."""
        self.begin: list[int] = []
        """Its first own block."""
        self.cuts: dict[int, set[int]] = {}
        self.shared_until: dict[int, int] = {}
        for mine, (host, depth) in enumerate(zip(row, shared, strict=True)):
            depth = min(depth, num_blocks[mine], num_blocks[host] if host >= 0 else 0)
            while host >= 0 and depth <= self.begin[host]:
                host = self.host[host]
            self.host.append(host)
            self.begin.append(depth if host >= 0 else 0)
            if host >= 0:
                self._branch(host, depth)

    def _branch(self, host: int, depth: int) -> None:
        if depth < self.num_blocks[host]:
            self.cuts.setdefault(host, set()).add(depth)
        self.shared_until[host] = max(depth, self.shared_until.get(host, 0))

    def paths(self) -> list[Path]:
        paths: list[Path] = []
        number = 0
        for mine, stop in enumerate(self.num_blocks):
            host, begin = self.host[mine], self.begin[mine]
            before: Path = ()
            if host >= 0:
                whole = paths[host]
                before = whole[: bisect_left(whole, begin, key=lambda segment: segment.stop) + 1]
            if begin >= stop:
                paths.append(before)
                continue
            shared_until = self.shared_until.get(mine, 0)
            bounds = [begin, *sorted(self.cuts.get(mine, ())), stop]
            own = [
                Segment(a, b, shared=b <= shared_until, number=number - begin)
                for a, b in pairwise(bounds)
            ]
            number += stop - begin
            paths.append((*before, *own))
        return paths
