"""Small traces with prefix ids, by hand."""

from __future__ import annotations

import numpy as np

from kvsim.traces import Trace


def trace_of(
    chains: list[list[int]],
    prompts: list[int],
    outputs: list[int],
    *,
    size: int,
    gap_s: float = 10.0,
    parent: list[int] | None = None,
) -> Trace:
    """Requests with prefix ids of ``size`` tokens, so far apart that each ends before the next."""
    return Trace(
        name="by hand",
        prompt_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
        arrival_s=np.arange(len(prompts)) * gap_s,
        hash_ids=np.array([i for chain in chains for i in chain], dtype=np.uint64),
        hash_offsets=np.cumsum([0, *map(len, chains)]),
        hash_block_size=size,
        parent=None if parent is None else np.array(parent),
    )
