"""A server or a trace with one input changed: the clock, the pool, lengths, the rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration.varied import ScaledCost
from ..traces import Trace
from .server import Server

Ids = NDArray[np.uint64]
Ints = NDArray[np.int64]

LEAST_BLOCKS = 2
"""The null block and one to use."""


def with_clock(server: Server, factor: float) -> Server:
    """The same server, every step ``factor`` times as long."""
    if factor == 1.0:
        return server
    return replace(server, cost=ScaledCost(cost=server.cost, factor=factor))


def with_blocks(server: Server, num_gpu_blocks: int) -> Server:
    """The same server with so many blocks, the null block included; at least two.

    Only the pool is changed: limits that follow from the memory stay as they are.
    """
    blocks = max(num_gpu_blocks, LEAST_BLOCKS)
    if blocks == server.num_gpu_blocks:
        return server
    return replace(server, budget=replace(server.budget, num_gpu_blocks=blocks))


def blocks_of_bytes(server: Server, pool_bytes: int) -> int:
    """Blocks of a pool of so many bytes, the null block included; at least two."""
    return max(LEAST_BLOCKS, pool_bytes // server.budget.block_bytes)


def with_outputs(trace: Trace, factor: float, *, max_model_len: int) -> Trace:
    """The same requests with outputs ``factor`` times as long.

    Lengths are rounded up and end at ``max_model_len``. Prompts stay, also those of later turns;
    where they repeat an answer, they repeat at most what is left of it.

    Raises:
        ValueError: a factor that is not positive.
    """
    if not factor > 0:
        raise ValueError(f"factor(={factor}) must be > 0.")
    if factor == 1.0:
        return trace
    wanted = np.ceil(np.round(trace.output_tokens * factor, 6)).astype(np.int64)
    room = np.maximum(max_model_len - trace.prompt_tokens, 1)
    outputs = np.minimum(wanted, room)
    if trace.prefix_row is None or trace.prefix_tokens is None:
        return replace(trace, output_tokens=outputs)
    row = trace.prefix_row
    known = np.where(row < 0, 0, trace.prompt_tokens[row] + outputs[row])
    shared = np.minimum(trace.prefix_tokens, known)
    return replace(trace, output_tokens=outputs, prefix_tokens=shared)


def with_prompts(trace: Trace, factor: float, *, max_model_len: int) -> Trace:
    """The same requests with prompts ``factor`` times as long, what they have in common, too.

    Lengths are rounded up; one that grows ends where its output still fits ``max_model_len``.

    Raises:
        ValueError: a factor that is not positive.
    """
    if not factor > 0:
        raise ValueError(f"factor(={factor}) must be > 0.")
    if factor == 1.0:
        return trace
    wanted = np.ceil(np.round(trace.prompt_tokens * factor, 6)).astype(np.int64)
    room = np.maximum(max_model_len - trace.output_tokens, np.minimum(wanted, trace.prompt_tokens))
    prompts = np.minimum(wanted, room)
    columns: dict[str, Any] = {"prompt_tokens": prompts}
    if trace.hash_ids is not None and trace.hash_offsets is not None and trace.hash_block_size:
        size = max(1, int(trace.hash_block_size * factor))
        counts = np.minimum(np.diff(trace.hash_offsets), -(-prompts // size))
        ids, offsets = _cut_chains(trace.hash_ids, trace.hash_offsets, counts)
        columns |= {"hash_ids": ids, "hash_offsets": offsets, "hash_block_size": size}
    if trace.prefix_row is not None and trace.prefix_tokens is not None:
        row = trace.prefix_row
        known = np.where(row < 0, 0, prompts[row] + trace.output_tokens[row])
        shared = np.floor(np.round(trace.prefix_tokens * factor, 6)).astype(np.int64)
        columns["prefix_tokens"] = np.minimum(np.minimum(shared, known), prompts)
    return replace(trace, **columns)


def _cut_chains(ids: Ids, offsets: Ints, counts: Ints) -> tuple[Ids, Ints]:
    """The first so many ids of each chain."""
    ends = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    shift = np.repeat(offsets[:-1] - ends[:-1], counts)
    return ids[shift + np.arange(ends[-1])], ends
