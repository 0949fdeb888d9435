"""Decode attention over a paged KV cache: every sequence has one query, its newest token's.

A step of decodes reads the whole KV cache once and does next to nothing with it, so what counts is
that every key and value is read once, in long rows, by enough programs at a time. One program takes
one work item (``work_list``: a range of one sequence's keys) for all query heads of one KV head,
whose rows share the keys in one matrix product. A sequence of several items leaves partial sums,
which a second kernel adds up:

    part    out_i = sum_j p_ij v_j / sum_j p_ij,   weight_i = log2 sum_j 2^x_ij   over its keys j
    merge   out   = sum_i 2^weight_i out_i / sum_i 2^weight_i

``contiguous_decode`` is the same kernel on a cache without blocks: what paging costs is the
difference of the two.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .launch import Launch, decode_launch, padded_dim
from .merge import Partials, merge
from .operands import Variant, check_decode, check_work, upcast, widen
from .scores import LOG2E, accumulate, logits, places
from .slots import slots_of
from .split import target_items
from .work_list import DecodeWork, plan_decode


def paged_decode(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_table: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    variant: Variant | None = None,
    work: DecodeWork | None = None,
    launch: Launch | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of one new token per sequence.

    Args:
        query: ``[num_seqs, heads, head_dim]``, fp16, bf16 or fp32.
        key_cache: ``[num_blocks, block_size, kv_heads, head_dim]``, of the query's dtype, fp8 or
            int8; any strides but the last, which is 1. Unused slots are never read.
        value_cache: as ``key_cache``, strides included.
        block_table: ``[num_seqs, max_blocks]`` int32; entries past a sequence's end are not read.
        seq_lens: ``[num_seqs]`` int32, keys of each sequence, the new one included; 0 gives zeros.
        variant: softmax scale, window, soft cap, ALiBi, sinks, KV scales.
        work: the plan of this batch, where other layers share it (``plan_decode_for``).
        launch: tiles, warps and stages.
        out: written where given.

    Raises:
        ValueError: shapes or dtypes that do not go together.
    """
    block_size = key_cache.shape[1]
    return _decode(
        query, key_cache, value_cache, block_table, seq_lens, block_size, variant, work, launch, out
    )


def contiguous_decode(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    variant: Variant | None = None,
    work: DecodeWork | None = None,
    launch: Launch | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """The same over contiguous keys and values, ``[num_seqs, max_len, kv_heads, head_dim]``."""
    return _decode(query, keys, values, None, seq_lens, 0, variant, work, launch, out)


def plan_decode_for(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    sliding_window: int = 0,
    launch: Launch | None = None,
) -> DecodeWork:
    """The plan of a batch for tensors of these shapes, on their device."""
    launch = launch or decode_launch_for(query, key_cache)
    groups = head_groups(heads=query.shape[1], kv_heads=key_cache.shape[2], launch=launch)
    return plan_decode(
        seq_lens,
        target=target_items(slots_of(query.device, launch), groups),
        tile_tokens=launch.tile_tokens,
        sliding_window=sliding_window,
    )


def decode_launch_for(
    query: torch.Tensor, cache: torch.Tensor, *, contiguous: bool = False
) -> Launch:
    """The table's launch for tensors of these shapes."""
    return decode_launch(
        group=query.shape[1] // cache.shape[2],
        head_dim=query.shape[2],
        value_bytes=cache.element_size(),
        contiguous=contiguous,
    )


def head_groups(*, heads: int, kv_heads: int, launch: Launch) -> int:
    """Programs of one work item: KV heads, and more where one's queries do not fit its rows."""
    return kv_heads * -(-(heads // kv_heads) // launch.rows)


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
    """What the kernel is compiled for; ``block_size`` 0 is a cache without blocks."""
    return {
        "HEADS": heads,
        "GROUP": heads // kv_heads,
        "ROWS": launch.rows,
        "HEAD_DIM": head_dim,
        "LANES": padded_dim(head_dim),
        "BLOCK_SIZE": block_size,
        "TILE": launch.tile_tokens,
        "WINDOW": sliding_window,
        "PAGED": block_size > 0,
        **switches,
    }


def _decode(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    block_table: torch.Tensor | None,
    seq_lens: torch.Tensor,
    block_size: int,
    variant: Variant | None,
    work: DecodeWork | None,
    launch: Launch | None,
    out: torch.Tensor | None,
) -> torch.Tensor:
    variant = variant or Variant()
    check_decode(query, keys, values, block_table, seq_lens, variant)
    num_seqs, heads, head_dim = query.shape
    out = torch.empty_like(query) if out is None else out
    if not num_seqs:
        return out
    launch = launch or decode_launch_for(query, keys, contiguous=block_table is None)
    work = work or plan_decode_for(
        query, keys, seq_lens, sliding_window=variant.sliding_window, launch=launch
    )
    check_work(work, launch, variant)
    partials = Partials.empty(work.max_items, heads, head_dim, query.device)
    kv_heads = keys.shape[2]
    groups = head_groups(heads=heads, kv_heads=kv_heads, launch=launch)
    table = seq_lens if block_table is None else block_table
    _part[(groups, work.max_items)](
        out,
        partials.out,
        partials.weight,
        query,
        keys,
        values,
        table,
        seq_lens,
        work.item_seq,
        work.seq_items,
        work.seq_first_item,
        work.seq_tiles,
        *variant.tensors(query, kv_heads),
        variant.scale_of(head_dim),
        variant.softcap,
        *query.stride()[:2],
        *out.stride()[:2],
        *keys.stride()[:3],
        0 if block_table is None else block_table.stride(0),
        **constants(
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            block_size=block_size,
            launch=launch,
            sliding_window=variant.sliding_window,
            UPCAST=upcast(query),
            WIDEN=widen(query, keys),
            **variant.switches(),
        ),
        **launch.options,
    )
    merge(out, partials, work, sinks=variant.sinks)
    return out


@triton.jit
def _part(
    out,
    partial_out,
    partial_weight,
    query,
    key_cache,
    value_cache,
    block_table,
    seq_lens,
    item_seq,
    seq_items,
    seq_first_item,
    seq_tiles,
    alibi_slopes,
    sinks,
    k_scale,
    v_scale,
    scale,
    softcap,
    q_stride_seq,
    q_stride_head,
    o_stride_seq,
    o_stride_head,
    stride_block,
    stride_token,
    stride_head,
    table_stride,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    WINDOW: tl.constexpr,
    PAGED: tl.constexpr,
    SOFTCAP: tl.constexpr,
    ALIBI: tl.constexpr,
    SINKS: tl.constexpr,
    SCALED: tl.constexpr,
    UPCAST: tl.constexpr,
    WIDEN: tl.constexpr,
):
    item = tl.program_id(1)
    seq = tl.load(item_seq + item)
    if seq < 0:
        return
    row_blocks: tl.constexpr = (GROUP + ROWS - 1) // ROWS
    kv_head = tl.program_id(0) // row_blocks
    in_group = tl.program_id(0) % row_blocks * ROWS + tl.arange(0, ROWS)
    head = kv_head * GROUP + in_group
    lane = tl.arange(0, LANES)
    real = (in_group < GROUP)[:, None] & (lane < HEAD_DIM)[None, :]
    q_at = query + seq.to(tl.int64) * q_stride_seq + head[:, None] * q_stride_head + lane[None, :]
    q = tl.load(q_at, mask=real, other=0.0)
    if UPCAST:
        q = q.to(tl.float32)

    length = tl.load(seq_lens + seq)
    items = tl.load(seq_items + seq)
    per_item = tl.load(seq_tiles + seq) * TILE
    begin = 0
    if WINDOW > 0:
        begin = tl.maximum(length - WINDOW, 0) // TILE * TILE
    begin += (item - tl.load(seq_first_item + seq)) * per_item
    end = tl.minimum(begin + per_item, length)

    table = block_table + seq.to(tl.int64) * table_stride if PAGED else seq
    if SCALED:
        scale = scale * tl.load(k_scale + kv_head)
    if ALIBI:
        slope = tl.load(alibi_slopes + head, mask=in_group < GROUP, other=0.0) * LOG2E

    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    if SINKS:
        alone = items == 1
        sink = tl.load(sinks + head, mask=in_group < GROUP, other=0.0).to(tl.float32)
        peak = tl.where(alone, sink * LOG2E, peak)
        total = tl.where(alone, 1.0, total)
    acc = tl.zeros([ROWS, LANES], tl.float32)
    keys_of_head = key_cache + kv_head.to(tl.int64) * stride_head
    values_of_head = value_cache + kv_head.to(tl.int64) * stride_head

    for first in range(begin, end, TILE):
        key = first + tl.arange(0, TILE)
        visible = key < end
        block, slot = places(key, end, table, first, PAGED, BLOCK_SIZE, TILE)
        inside = visible[:, None] & (lane < HEAD_DIM)[None, :]
        at = (block * stride_block + slot * stride_token)[:, None] + lane[None, :]
        k = tl.load(keys_of_head + at, mask=inside, other=0.0)
        v = tl.load(values_of_head + at, mask=inside, other=0.0)
        x = logits(q, k, scale, softcap, SOFTCAP, UPCAST)
        if ALIBI:
            x += slope[:, None] * (key - (length - 1))[None, :].to(tl.float32)
        if WINDOW > 0:
            visible &= key >= length - WINDOW
        x = tl.where(visible[None, :], x, float("-inf"))
        acc, peak, total = accumulate(acc, peak, total, x, v, query.dtype.element_ty, UPCAST, WIDEN)

    acc = acc / total[:, None]
    if SCALED:
        acc = acc * tl.load(v_scale + kv_head)
    if items == 1:
        o_at = out + seq.to(tl.int64) * o_stride_seq + head[:, None] * o_stride_head
        tl.store(o_at + lane[None, :], acc.to(out.dtype.element_ty), mask=real)
    else:
        at = item.to(tl.int64) * HEADS + head
        tl.store(partial_out + at[:, None] * HEAD_DIM + lane[None, :], acc, mask=real)
        tl.store(partial_weight + at, peak + tl.log2(total), mask=in_group < GROUP)
