"""Hit ratio against cache size in one pass over a trace: the running sum of stack distances.

Rules and counting are those of ``prefix_stats``: leading ids hit, then all ids of the request are
touched, deepest first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from .columns import Ints
from .prefix_stats import chains_of
from .stack_distance import stack_distances
from .trace import Trace


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
    distances, tokens, num_ids = stack_distances(trace)
    size_blocks, where = np.unique(distances, return_inverse=True)
    assert trace.hash_ids is not None, "stack_distances() has looked"
    return CacheCurve(
        block_tokens=_block(trace),
        convention=_convention(trace),
        input_tokens=int(trace.prompt_tokens.sum()),
        block_refs=len(trace.hash_ids),
        unique_blocks=num_ids,
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


def _convention(trace: Trace) -> str:
    """Whether most prompts with a partial last block have an id for it."""
    assert trace.hash_offsets is not None, "stack_distances() has looked"
    block_tokens, lengths = _block(trace), trace.prompt_tokens
    covers = np.diff(trace.hash_offsets) * block_tokens > lengths
    partial = lengths % block_tokens > 0
    return "ceil" if (covers & partial).sum() > (~covers & partial).sum() else "floor"
