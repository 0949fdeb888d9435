"""Prefix-cache hits of a trace replayed through one cache of prompt blocks, without any timing.

Requests come in order of arrival. A request hits its longest run of leading ids that are in the
cache: k ids hit min(k * block, prompt) tokens. Then all its ids are touched, deepest first (a
parent stays more recent than its children), and the least recent ids leave until at most N are
left. Outputs are never cached. The infinite cache is the bound that no eviction policy passes.
"""

from collections import OrderedDict
from collections.abc import Container, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .trace import Trace

DEFAULT_CAPACITIES = (1000, 3000, 10000, 30000, 50000, 100000)  # blocks


def prefix_stats(trace: Trace, capacities: Sequence[int] = DEFAULT_CAPACITIES) -> dict[str, Any]:
    """Block counts and the hits of an infinite cache and of LRU caches of `capacities` blocks.

    Raises ValueError where the trace has no hash ids or a capacity is < 1.
    """
    if trace.hash_ids is None or trace.hash_block_size is None:
        raise ValueError(f"trace {trace.name!r} has no hash_ids.")
    for capacity in capacities:
        if capacity < 1:
            raise ValueError(f"capacity(={capacity}) must be > 0.")
    chains = chains_of(trace)
    num_unique = len(np.unique(trace.hash_ids))
    return {
        "block_tokens": trace.hash_block_size,
        "requests": len(trace),
        "input_tokens": int(trace.prompt_tokens.sum()),
        "block_refs": len(trace.hash_ids),
        "unique_blocks": num_unique,
        "infinite": _hit_stats(trace, _lru_hits(chains, max(1, num_unique))),
        "lru": {str(n): _hit_stats(trace, _lru_hits(chains, n)) for n in capacities},
    }


def chains_of(trace: Trace) -> list[list[int]]:
    """Each request's ids, renumbered from 0 (small integers are cheap keys).

    Raises ValueError where the trace has no hash ids.
    """
    if trace.hash_ids is None or trace.hash_offsets is None or trace.hash_block_size is None:
        raise ValueError(f"trace {trace.name!r} has no hash_ids.")
    _, numbers = np.unique(trace.hash_ids, return_inverse=True)
    flat, bounds = numbers.tolist(), trace.hash_offsets.tolist()
    return [flat[a:b] for a, b in pairwise(bounds)]


def _lru_hits(chains: list[list[int]], capacity: int) -> list[int]:
    """Leading blocks in the cache, per request; the cache's order is that of recency."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = []
    for ids in chains:
        hits.append(_leading(ids, cache))
        for block in reversed(ids):
            cache[block] = None
            cache.move_to_end(block)
        for _ in range(len(cache) - capacity):
            cache.popitem(last=False)
    return hits


def _leading(ids: list[int], cache: Container[int]) -> int:
    for depth, block in enumerate(ids):
        if block not in cache:
            return depth
    return len(ids)


def _hit_stats(trace: Trace, hits: list[int]) -> dict[str, Any]:
    assert trace.hash_ids is not None
    assert trace.hash_block_size is not None
    hit_blocks = np.array(hits, dtype=np.int64)
    hit_tokens = np.minimum(hit_blocks * trace.hash_block_size, trace.prompt_tokens)
    blocks, tokens = int(hit_blocks.sum()), int(hit_tokens.sum())
    return {
        "hit_tokens": tokens,
        "hit_blocks": blocks,
        "token_ratio": round(tokens / int(trace.prompt_tokens.sum()), 6),
        "block_ratio": round(blocks / max(1, len(trace.hash_ids)), 6),
    }
