"""Hit ratio against cache size in one pass over a trace (Mattson et al., 1970).

Under LRU the cache of N blocks holds the N most recently touched ids. So an id hits in every cache
of at least its *stack distance*: its rank by recency as its request arrives. One pass finds all
distances, and the curve is their running sum; nothing is replayed per size. Rules and counting are
those of ``prefix_stats``: leading ids hit, then all ids of the request are touched, deepest first,
so that a parent is always more recent than its children and distances grow along a chain.

The rank is counted, not kept: every touch takes the next place of a long row; a place stays set
while its id has not been touched again; the rank is the number of set places from an id's own on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from .columns import Ints
from .prefix_stats import chains_of
from .trace import Trace

_CHUNK = 4096  # places counted together


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCurve:
    """Hits of LRU caches of every size."""

    block_tokens: int
    convention: str
    """``ceil``: a last, partial block has an id; ``floor``: only full blocks have one."""
    input_tokens: int
    block_refs: int
    unique_blocks: int
    size_blocks: Ints
    """Ascending sizes at which the hits change."""
    hit_tokens: Ints
    """Tokens that a cache of this size, or up to the next one, hits."""
    hit_blocks: Ints

    def token_ratio(self, num_blocks: int | None) -> float:
        """Share of the input tokens that a cache of so many blocks hits; None = unlimited."""
        return self._at(self.hit_tokens, num_blocks) / self.input_tokens

    def block_ratio(self, num_blocks: int | None) -> float:
        """Share of the block references that hit."""
        return self._at(self.hit_blocks, num_blocks) / max(1, self.block_refs)

    def _at(self, hits: Ints, num_blocks: int | None) -> int:
        if num_blocks is not None and num_blocks < 1:
            raise ValueError(f"num_blocks(={num_blocks}) must be > 0.")
        if num_blocks is None:
            return int(hits[-1]) if len(hits) else 0
        place = int(np.searchsorted(self.size_blocks, num_blocks, side="right"))
        return int(hits[place - 1]) if place else 0


def cache_curve(trace: Trace) -> CacheCurve:
    """The curve of a trace with prefix ids.

    Raises:
        ValueError: the trace has no hash ids.
    """
    chains = chains_of(trace)
    distances, tokens = _stack_distances(chains, trace)
    size_blocks, where = np.unique(distances, return_inverse=True)
    return CacheCurve(
        block_tokens=_block(trace),
        convention=_convention(chains, trace),
        input_tokens=int(trace.prompt_tokens.sum()),
        block_refs=sum(map(len, chains)),
        unique_blocks=len({block for chain in chains for block in chain}),
        size_blocks=size_blocks,
        hit_tokens=np.cumsum(np.bincount(where, weights=tokens)).astype(np.int64),
        hit_blocks=np.cumsum(np.bincount(where)).astype(np.int64),
    )


def fifo_hit_blocks(trace: Trace, num_blocks: int) -> int:
    """Blocks that a first-in, first-out cache hits: a hit moves nothing; one replay per size.

    Raises:
        ValueError: the trace has no hash ids, or a size below 1.
    """
    if num_blocks < 1:
        raise ValueError(f"num_blocks(={num_blocks}) must be > 0.")
    queue: deque[int] = deque()
    cached: set[int] = set()
    hits = 0
    for chain in chains_of(trace):
        hits += next((d for d, block in enumerate(chain) if block not in cached), len(chain))
        fresh = [block for block in reversed(chain) if block not in cached]
        queue.extend(fresh)
        cached.update(fresh)
        while len(queue) > num_blocks:
            cached.discard(queue.popleft())
    return hits


def _block(trace: Trace) -> int:
    assert trace.hash_block_size is not None, "chains_of() has looked"
    return trace.hash_block_size


def _convention(chains: list[list[int]], trace: Trace) -> str:
    """Whether most prompts with a partial last block have an id for it."""
    block_tokens, votes = _block(trace), 0
    for chain, length in zip(chains, trace.prompt_tokens.tolist(), strict=True):
        if length % block_tokens:
            votes += 1 if len(chain) * block_tokens > length else -1
    return "ceil" if votes > 0 else "floor"


def _stack_distances(chains: list[list[int]], trace: Trace) -> tuple[Ints, Ints]:
    """Distance and tokens of every leading reference to an id seen before."""
    block_tokens, lengths = _block(trace), trace.prompt_tokens.tolist()
    row = _Row(sum(map(len, chains)))
    place_of: dict[int, int] = {}
    distances: list[int] = []
    tokens: list[int] = []
    for chain, length in zip(chains, lengths, strict=True):
        before, rank = -1, 0
        for depth, block in enumerate(chain):
            place = place_of.get(block, -1)
            if place < 0:
                break
            rank = rank + 1 if place == before - 1 else row.count_from(place)
            before = place
            distances.append(rank)
            tokens.append(min((depth + 1) * block_tokens, length) - depth * block_tokens)
        for block in reversed(chain):
            place_of[block] = row.touch(place_of.get(block, -1))
    return np.array(distances, dtype=np.int64), np.array(tokens, dtype=np.int64)


class _Row:
    """Places, one per touch; set while they are the last touch of their id."""

    def __init__(self, size: int) -> None:
        self._set = bytearray(size)
        self._counts = [0] * (size // _CHUNK + 1)
        self._next = 0

    def touch(self, old: int) -> int:
        """Take the next place, giving up the old one (-1: none)."""
        if old >= 0:
            self._set[old] = 0
            self._counts[old // _CHUNK] -= 1
        place = self._next
        self._set[place] = 1
        self._counts[place // _CHUNK] += 1
        self._next = place + 1
        return place

    def count_from(self, place: int) -> int:
        """Set places from this one on."""
        chunk = place // _CHUNK
        inside = self._set.count(1, place, (chunk + 1) * _CHUNK)
        return inside + sum(self._counts[chunk + 1 :])
