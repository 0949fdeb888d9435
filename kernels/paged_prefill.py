"""Attention of chunks over a paged KV cache: prompts, later chunks of prompts, mixed batches.

Every sequence brings some new tokens, whose keys are in its blocks already, after any number of
cached ones. One program takes a tile of queries of one sequence, for all query heads of one KV head
(``rows`` = queries x group), and walks over the keys that any of them sees:

    keys that the window of some row has left behind     masked
    keys that every row sees                             no mask
    the rest, up to the last query                       masked: causal

Tiles are started from the last on, since under the causal mask the last ones have most to do.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .launch import HOPPER, Launch, padded_dim, prefill_launch
from .operands import Variant, check_prefill, upcast, widen
from .scores import LOG2E, accumulate, logits, places
from .slots import compute_capability
from .work_list import PrefillWork, plan_prefill

MAX_TILES = 65_535
"""Programs along the second axis of a grid, by CUDA."""


def paged_prefill(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_table: torch.Tensor,
    query_start_loc: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    variant: Variant | None = None,
    work: PrefillWork | None = None,
    launch: Launch | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of the newest tokens of each sequence.

    Args:
        query: ``[num_tokens, heads, head_dim]``, sequence after sequence.
        key_cache: as ``paged_decode`` takes it; the new tokens' keys are in it.
        value_cache: as ``key_cache``, strides included.
        block_table: ``[num_seqs, max_blocks]`` int32.
        query_start_loc: ``[num_seqs + 1]`` int32, where each sequence's queries begin.
        seq_lens: ``[num_seqs]`` int32, cached and new tokens.
        variant: softmax scale, window, soft cap, ALiBi, sinks, KV scales.
        work: the plan of this batch, where other layers share it (``plan_prefill_for``).
        launch: tiles, warps and stages.
        out: written where given.

    Raises:
        ValueError: shapes or dtypes that do not go together.
    """
    variant = variant or Variant()
    check_prefill(query, key_cache, value_cache, block_table, query_start_loc, seq_lens, variant)
    launch = launch or prefill_launch_for(query, key_cache)
    out = torch.empty_like(query) if out is None else out
    if not query.shape[0]:
        return out
    work = work or plan_prefill_for(query, key_cache, query_start_loc, launch=launch)
    if work.query_tokens != (tile := launch.rows // (query.shape[1] // key_cache.shape[2])):
        raise ValueError(f"work.query_tokens(={work.query_tokens}) must be the launch's, {tile}.")
    if work.max_tiles > MAX_TILES:
        raise ValueError(
            f"query(={tuple(query.shape)}) has over {MAX_TILES} tiles: send it in parts."
        )
    heads, head_dim = query.shape[1:]
    block_size, kv_heads = key_cache.shape[1:3]
    _prefill[(kv_heads, work.max_tiles)](
        out,
        query,
        key_cache,
        value_cache,
        block_table,
        query_start_loc,
        seq_lens,
        work.tile_seq,
        work.tile_first,
        *variant.tensors(query, kv_heads),
        variant.scale_of(head_dim),
        variant.softcap,
        *query.stride()[:2],
        *out.stride()[:2],
        *key_cache.stride()[:3],
        block_table.stride(0),
        **constants(
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            block_size=block_size,
            launch=launch,
            sliding_window=variant.sliding_window,
            UPCAST=upcast(query),
            WIDEN=widen(query, key_cache) and compute_capability(query.device) < HOPPER,
            **variant.switches(),
        ),
        **launch.options,
    )
    return out


def prefill_launch_for(query: torch.Tensor, key_cache: torch.Tensor) -> Launch:
    """The table's launch for tensors of these shapes."""
    return prefill_launch(
        group=query.shape[1] // key_cache.shape[2],
        head_dim=query.shape[2],
        value_bytes=query.element_size(),
        compute_capability=compute_capability(query.device),
    )


def plan_prefill_for(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    query_start_loc: torch.Tensor,
    *,
    launch: Launch | None = None,
) -> PrefillWork:
    """The plan of a batch for tensors of these shapes, on their device."""
    launch = launch or prefill_launch_for(query, key_cache)
    group = query.shape[1] // key_cache.shape[2]
    return plan_prefill(
        query_start_loc, query_tokens=launch.rows // group, num_tokens=query.shape[0]
    )


def constants(
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    block_size: int,
    launch: Launch,
    sliding_window: int = 0,
    **switches: bool,
) -> dict[str, Any]:
    """What the kernel is compiled for."""
    group = heads // kv_heads
    return {
        "GROUP": group,
        "ROWS": launch.rows,
        "QUERIES": launch.rows // group,
        "HEAD_DIM": head_dim,
        "LANES": padded_dim(head_dim),
        "BLOCK_SIZE": block_size,
        "TILE": launch.tile_tokens,
        "WINDOW": sliding_window,
        **switches,
    }


@triton.jit
def _prefill(
    out,
    query,
    key_cache,
    value_cache,
    block_table,
    query_start_loc,
    seq_lens,
    tile_seq,
    tile_first,
    alibi_slopes,
    sinks,
    k_scale,
    v_scale,
    scale,
    softcap,
    q_stride_token,
    q_stride_head,
    o_stride_token,
    o_stride_head,
    stride_block,
    stride_token,
    stride_head,
    table_stride,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    QUERIES: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    ALIBI: tl.constexpr,
    SINKS: tl.constexpr,
    SCALED: tl.constexpr,
    UPCAST: tl.constexpr,
    WIDEN: tl.constexpr,
):
    kv_head = tl.program_id(0)
    tile = tl.num_programs(1) - 1 - tl.program_id(1)
    seq = tl.load(tile_seq + tile)
    if seq < 0:
        return
    start = tl.load(query_start_loc + seq)
    new = tl.load(query_start_loc + seq + 1) - start
    length = tl.load(seq_lens + seq)
    first_query = tl.load(tile_first + tile)

    row = tl.arange(0, ROWS)
    token = first_query + row // GROUP
    head = kv_head * GROUP + row % GROUP
    lane = tl.arange(0, LANES)
    real_row = (row // GROUP < QUERIES) & (token < new)
    real = real_row[:, None] & (lane < HEAD_DIM)[None, :]
    at_row = (start + token).to(tl.int64)
    q = tl.load(
        query + (at_row * q_stride_token + head * q_stride_head)[:, None] + lane[None, :],
        mask=real,
        other=0.0,
    )
    if UPCAST:
        q = q.to(tl.float32)
    position = length - new + token
    first_position = length - new + first_query
    end = tl.minimum(first_position + QUERIES, length)
    begin, inner = 0, 0
    if WINDOW > 0:
        begin = tl.maximum(first_position - WINDOW + 1, 0) // TILE * TILE
        inner = tl.cdiv(tl.maximum(end - WINDOW, 0), TILE) * TILE
    diagonal = tl.maximum(inner, (first_position + 1) // TILE * TILE)

    table = block_table + seq.to(tl.int64) * table_stride
    if SCALED:
        scale = scale * tl.load(k_scale + kv_head)
    slope = tl.zeros([ROWS], tl.float32)
    if ALIBI:
        slope = tl.load(alibi_slopes + head, mask=real_row, other=0.0) * LOG2E
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    if SINKS:
        peak = tl.load(sinks + head, mask=real_row, other=0.0).to(tl.float32) * LOG2E
        total = tl.full([ROWS], 1.0, tl.float32)
    acc = tl.zeros([ROWS, LANES], tl.float32)
    keys_of_head = key_cache + kv_head.to(tl.int64) * stride_head
    values_of_head = value_cache + kv_head.to(tl.int64) * stride_head

    for PART in tl.static_range(0 if WINDOW > 0 else 1, 3):
        lowest = begin if PART == 0 else inner if PART == 1 else diagonal
        highest = tl.minimum(inner, end) if PART == 0 else diagonal if PART == 1 else end
        for first in range(lowest, highest, TILE):
            key = first + tl.arange(0, TILE)
            block, slot = places(key, end, table, first, True, BLOCK_SIZE, TILE)
            inside = (lane < HEAD_DIM)[None, :]
            if PART != 1:
                inside &= (key < end)[:, None]
            at = (block * stride_block + slot * stride_token)[:, None] + lane[None, :]
            k = tl.load(keys_of_head + at, mask=inside, other=0.0)
            v = tl.load(values_of_head + at, mask=inside, other=0.0)
            x = logits(q, k, scale, softcap, SOFTCAP, UPCAST)
            if ALIBI:
                x += slope[:, None] * (key[None, :] - position[:, None]).to(tl.float32)
            if PART != 1:
                visible = key[None, :] <= position[:, None]
                if WINDOW > 0:
                    visible &= key[None, :] > position[:, None] - WINDOW
                x = tl.where(visible, x, float("-inf"))
            acc, peak, total = accumulate(
                acc, peak, total, x, v, query.dtype.element_ty, UPCAST, WIDEN
            )

    acc = acc / tl.where(total > 0, total, 1.0)[:, None]  # rows that fill up a tile see no key
    if SCALED:
        acc = acc * tl.load(v_scale + kv_head)
    o_at = out + (at_row * o_stride_token + head * o_stride_head)[:, None] + lane[None, :]
    tl.store(o_at, acc.to(out.dtype.element_ty), mask=real)
