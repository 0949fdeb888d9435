"""Prefix-cache hits of a trace replayed through one cache of prompt blocks, without any timing.

Requests come in order of arrival. A request hits its longest run of leading ids that are in the
cache: k ids hit min(k * block, prompt) tokens. Then all its ids are touched, deepest first (a
parent stays more recent than its children), and the least recent ids leave until at most N are
left. Outputs are never cached. The infinite cache is the bound that no eviction policy passes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Ints
from .id_tree import numbered
from .stack_distance import stack_distances
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
    distances, tokens, num_unique = stack_distances(trace)
    hits = {
        str(n): _hit_stats(trace, distances <= n, tokens) for n in (max(1, num_unique), *capacities)
    }
    return {
        "block_tokens": trace.hash_block_size,
        "requests": len(trace),
        "input_tokens": int(trace.prompt_tokens.sum()),
        "block_refs": len(trace.hash_ids),
        "unique_blocks": num_unique,
        "infinite": hits[str(max(1, num_unique))],
        "lru": {str(n): hits[str(n)] for n in capacities},
    }


def chains_of(trace: Trace) -> list[list[int]]:
    """Each request's ids, renumbered from 0 (small integers are cheap keys).

    Raises ValueError where the trace has no hash ids.
    """
    if trace.hash_ids is None or trace.hash_offsets is None or trace.hash_block_size is None:
        raise ValueError(f"trace {trace.name!r} has no hash_ids.")
    numbers, _ = numbered(trace.hash_ids)
    flat, bounds = numbers.tolist(), trace.hash_offsets.tolist()
    return [flat[a:b] for a, b in pairwise(bounds)]


def _hit_stats(trace: Trace, hit: NDArray[np.bool_], tokens: Ints) -> dict[str, Any]:
    assert trace.hash_ids is not None
    num_blocks, num_tokens = int(hit.sum()), int(tokens[hit].sum())
    return {
        "hit_tokens": num_tokens,
        "hit_blocks": num_blocks,
        "token_ratio": round(num_tokens / int(trace.prompt_tokens.sum()), 6),
        "block_ratio": round(num_blocks / max(1, len(trace.hash_ids)), 6),
    }
