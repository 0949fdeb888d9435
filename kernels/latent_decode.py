"""Decode attention over compressed keys (MLA): one latent row per token, shared by all heads.

A row holds ``latent_dim`` values that serve as key and as value, and ``rope_dim`` more that carry
the position and belong to the key alone (512 + 64 in DeepSeek's models). The queries come absorbed:
multiplied by the key's up-projection, so that they live in the latent space as well.

    score = q[:latent].c + q[latent:].r,   out = sum p c        [heads, latent_dim]

The latent row is read once and used twice, as key and as value. Work items and merge are those of
``paged_decode``.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .launch import Launch, latent_launch, padded_dim
from .merge import Partials, merge
from .operands import Variant, check_latent, check_work, upcast, widen
from .scores import accumulate, logits, places
from .slots import slots_of
from .split import target_items
from .work_list import DecodeWork, plan_decode

LATENT_DIM = 512


def latent_decode(
    query: torch.Tensor,
    latent_cache: torch.Tensor,
    block_table: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    scale: float,
    latent_dim: int = LATENT_DIM,
    k_scale: float | torch.Tensor = 1.0,
    work: DecodeWork | None = None,
    launch: Launch | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of one new token per sequence over latent rows.

    Args:
        query: ``[num_seqs, heads, latent_dim + rope_dim]``, absorbed; fp16, bf16 or fp32.
        latent_cache: ``[num_blocks, block_size, latent_dim + rope_dim]``, of the query's dtype, fp8
            or int8.
        block_table: ``[num_seqs, max_blocks]`` int32.
        seq_lens: ``[num_seqs]`` int32, keys of each sequence, the new one included.
        scale: of the scores (that of the model's own head_dim, not of the latent one).
        latent_dim: how many values of a row are the value.
        k_scale: what a stored row is multiplied with.
        work: the plan of this batch, where other layers share it.
        launch: tiles, warps and stages.
        out: ``[num_seqs, heads, latent_dim]``, written where given.

    Raises:
        ValueError: shapes or dtypes that do not go together.
    """
    variant = Variant(scale=scale, k_scale=k_scale, v_scale=k_scale)
    check_latent(query, latent_cache, block_table, seq_lens, latent_dim, variant)
    num_seqs, heads, whole_dim = query.shape
    if out is None:
        out = query.new_empty(num_seqs, heads, latent_dim)
    if not num_seqs:
        return out
    launch = launch or latent_launch(heads=heads, value_bytes=query.element_size())
    work = work or plan_latent_for(query, seq_lens, launch=launch)
    check_work(work, launch, variant)
    partials = Partials.empty(work.max_items, heads, latent_dim, query.device)
    _, _, row_scale, _ = variant.tensors(query, 1)
    _latent_part[(triton.cdiv(heads, launch.rows), work.max_items)](
        out,
        partials.out,
        partials.weight,
        query,
        latent_cache,
        block_table,
        seq_lens,
        work.item_seq,
        work.seq_items,
        work.seq_first_item,
        work.seq_tiles,
        row_scale,
        scale,
        *query.stride()[:2],
        *out.stride()[:2],
        *latent_cache.stride()[:2],
        block_table.stride(0),
        **constants(
            heads=heads,
            latent_dim=latent_dim,
            rope_dim=whole_dim - latent_dim,
            block_size=latent_cache.shape[1],
            launch=launch,
            SCALED=variant.is_scaled,
            UPCAST=upcast(query),
            WIDEN=widen(query, latent_cache),
        ),
        **launch.options,
    )
    merge(out, partials, work)
    return out


def plan_latent_for(
    query: torch.Tensor, seq_lens: torch.Tensor, *, launch: Launch | None = None
) -> DecodeWork:
    """The plan of a batch for queries of this shape, on their device."""
    launch = launch or latent_launch(heads=query.shape[1], value_bytes=query.element_size())
    groups = triton.cdiv(query.shape[1], launch.rows)
    return plan_decode(
        seq_lens,
        target=target_items(slots_of(query.device, launch), groups),
        tile_tokens=launch.tile_tokens,
    )


def constants(
    *,
    heads: int,
    latent_dim: int,
    rope_dim: int,
    block_size: int,
    launch: Launch,
    **switches: bool,
) -> dict[str, Any]:
    """What the kernel is compiled for."""
    return {
        "HEADS": heads,
        "ROWS": launch.rows,
        "LATENT": latent_dim,
        "LATENT_LANES": padded_dim(latent_dim),
        "ROPE": rope_dim,
        "ROPE_LANES": padded_dim(rope_dim),
        "BLOCK_SIZE": block_size,
        "TILE": launch.tile_tokens,
        **switches,
    }


@triton.jit
def _latent_part(
    out,
    partial_out,
    partial_weight,
    query,
    latent_cache,
    block_table,
    seq_lens,
    item_seq,
    seq_items,
    seq_first_item,
    seq_tiles,
    row_scale,
    scale,
    q_stride_seq,
    q_stride_head,
    o_stride_seq,
    o_stride_head,
    stride_block,
    stride_token,
    table_stride,
    HEADS: tl.constexpr,
    ROWS: tl.constexpr,
    LATENT: tl.constexpr,
    LATENT_LANES: tl.constexpr,
    ROPE: tl.constexpr,
    ROPE_LANES: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    SCALED: tl.constexpr,
    UPCAST: tl.constexpr,
    WIDEN: tl.constexpr,
):
    item = tl.program_id(1)
    seq = tl.load(item_seq + item)
    if seq < 0:
        return
    head = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, LATENT_LANES)
    turn = tl.arange(0, ROPE_LANES)
    real = (head < HEADS)[:, None]
    q_at = query + seq.to(tl.int64) * q_stride_seq + head[:, None] * q_stride_head
    q = tl.load(q_at + lane[None, :], mask=real & (lane < LATENT)[None, :], other=0.0)
    q_rope = tl.load(q_at + LATENT + turn[None, :], mask=real & (turn < ROPE)[None, :], other=0.0)
    if UPCAST:
        q = q.to(tl.float32)
        q_rope = q_rope.to(tl.float32)

    length = tl.load(seq_lens + seq)
    items = tl.load(seq_items + seq)
    per_item = tl.load(seq_tiles + seq) * TILE
    begin = (item - tl.load(seq_first_item + seq)) * per_item
    end = tl.minimum(begin + per_item, length)
    table = block_table + seq.to(tl.int64) * table_stride
    if SCALED:
        scale = scale * tl.load(row_scale)

    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, LATENT_LANES], tl.float32)
    for first in range(begin, end, TILE):
        key = first + tl.arange(0, TILE)
        visible = key < end
        block, slot = places(key, end, table, first, True, BLOCK_SIZE, TILE)
        at_key = latent_cache + (block * stride_block + slot * stride_token)[:, None]
        row = tl.load(
            at_key + lane[None, :], mask=visible[:, None] & (lane < LATENT)[None, :], other=0.0
        )
        rope = tl.load(
            at_key + LATENT + turn[None, :],
            mask=visible[:, None] & (turn < ROPE)[None, :],
            other=0.0,
        )
        x = logits(q, row, scale, 0.0, False, UPCAST)
        x += logits(q_rope, rope, scale, 0.0, False, UPCAST)
        x = tl.where(visible[None, :], x, float("-inf"))
        acc, peak, total = accumulate(
            acc, peak, total, x, row, query.dtype.element_ty, UPCAST, WIDEN
        )

    acc = acc / total[:, None]
    if SCALED:
        acc = acc * tl.load(row_scale)
    store = real & (lane < LATENT)[None, :]
    if items == 1:
        o_at = out + seq.to(tl.int64) * o_stride_seq + head[:, None] * o_stride_head
        tl.store(o_at + lane[None, :], acc.to(out.dtype.element_ty), mask=store)
    else:
        at = item.to(tl.int64) * HEADS + head
        tl.store(partial_out + at[:, None] * LATENT + lane[None, :], acc, mask=store)
        tl.store(partial_weight + at, peak + tl.log2(total), mask=head < HEADS)
