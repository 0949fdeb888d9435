"""Writes new keys and values into their slots, rotated and quantised on the way if wanted.

A slot is ``block * block_size + offset``, as the engine maps a token's place; -1 writes nothing (a
row that fills up a captured graph). With a rotary embedding the key is rotated before it is stored,
and the query, where given, in place: one launch instead of three.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .launch import padded_dim, power_of_two
from .operands import QUANTISED, on_device_scale

HEADS_PER_PROGRAM = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rope:
    """A rotary embedding: the first ``rotary_dim`` lanes of a head turn by its position."""

    positions: torch.Tensor
    """``[num_tokens]`` int64 (or int32)."""
    cos: torch.Tensor
    """``[max_positions, rotary_dim / 2]`` fp32."""
    sin: torch.Tensor
    interleaved: bool = False
    """Even lanes turn with odd ones (GPT-J); else lane i with lane i + rotary_dim / 2 (NeoX)."""


def write_kv(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    *,
    rope: Rope | None = None,
    query: torch.Tensor | None = None,
    k_scale: float | torch.Tensor = 1.0,
    v_scale: float | torch.Tensor = 1.0,
) -> None:
    """Store ``key`` and ``value`` in the cache; rotate ``query`` in place where there is a rope.

    Args:
        key: ``[num_tokens, kv_heads, head_dim]``, unchanged.
        value: likewise.
        key_cache: ``[num_blocks, block_size, kv_heads, head_dim]``; fp8 and int8 store
            ``key / k_scale``, clamped to their range.
        value_cache: likewise.
        slot_mapping: ``[num_tokens]`` int64.
        rope: the embedding; None stores keys as they are.
        query: ``[num_tokens, heads, head_dim]``.
        k_scale: one for all or ``[kv_heads]`` fp32; read where the cache is fp8 or int8, and best a
            tensor there: a number becomes one in each call.
        v_scale: likewise.

    Raises:
        ValueError: shapes that do not go together, or a query without a rope.
    """
    _check(key, value, key_cache, value_cache, slot_mapping, rope, query)
    tokens, kv_heads, head_dim = key.shape
    if not tokens:
        return
    heads = 0 if query is None else query.shape[1]
    per_program = min(HEADS_PER_PROGRAM, power_of_two(max(kv_heads, heads)))
    turned = key if query is None else query
    kv_programs = triton.cdiv(kv_heads, per_program)
    stored = key_cache.dtype
    quantised = stored in QUANTISED
    most = torch.finfo(stored).max if stored in QUANTISED[:2] else 127.0
    _write[(tokens, kv_programs + triton.cdiv(heads, per_program))](
        key,
        value,
        turned,
        key_cache,
        value_cache,
        slot_mapping,
        slot_mapping if rope is None else rope.positions,
        key if rope is None else rope.cos,
        key if rope is None else rope.sin,
        on_device_scale(k_scale, key, kv_heads) if quantised else key,
        on_device_scale(v_scale, key, kv_heads) if quantised else key,
        kv_heads,
        heads,
        *key.stride()[:2],
        *value.stride()[:2],
        *turned.stride()[:2],
        *key_cache.stride()[:3],
        *value_cache.stride()[:3],
        0 if rope is None else rope.cos.stride(0),
        KV_PROGRAMS=kv_programs,
        HEADS=per_program,
        HEAD_DIM=head_dim,
        LANES=padded_dim(head_dim),
        BLOCK_SIZE=key_cache.shape[1],
        ROTARY=0 if rope is None else 2 * rope.cos.shape[1],
        INTERLEAVED=rope is not None and rope.interleaved,
        QUANTISED=quantised,
        WHOLE=stored == torch.int8,
        MOST=most,
        num_warps=4 if per_program > 2 else 1,
    )


def _check(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    rope: Rope | None,
    query: torch.Tensor | None,
) -> None:
    if key.shape != value.shape or key.shape[1:] != key_cache.shape[2:]:
        raise ValueError(
            f"key(={tuple(key.shape)}) and value(={tuple(value.shape)}) must have the heads and "
            f"dimension of key_cache(={tuple(key_cache.shape)})."
        )
    if value_cache.shape != key_cache.shape or value_cache.dtype != key_cache.dtype:
        raise ValueError(f"value_cache(={tuple(value_cache.shape)}) must be as key_cache.")
    if slot_mapping.shape != key.shape[:1] or slot_mapping.dtype != torch.int64:
        raise ValueError(
            f"slot_mapping(={tuple(slot_mapping.shape)}, {slot_mapping.dtype}) must be int64, one "
            f"for each of {key.shape[0]} tokens."
        )
    if rope is None and query is not None:
        raise ValueError("query must be None without a rope: there is nothing to do to it.")
    if rope is not None and 2 * rope.cos.shape[1] > key.shape[2]:
        raise ValueError(
            f"rope.cos(={tuple(rope.cos.shape)}) must turn at most head_dim(={key.shape[2]}) lanes."
        )


@triton.jit
def _rotated(
    base,
    mask,
    lane,
    position,
    cos,
    sin,
    rope_stride,
    HEAD_DIM: tl.constexpr,
    ROTARY: tl.constexpr,
    INTERLEAVED: tl.constexpr,
):
    """fp32 rows at ``base [heads, 1]``, turned."""
    x = tl.load(base + lane[None, :], mask=mask, other=0.0).to(tl.float32)
    if ROTARY == 0:
        return x
    half: tl.constexpr = ROTARY // 2
    turns = lane < ROTARY
    if INTERLEAVED:
        partner = lane ^ 1
        angle = lane // 2
        sign = tl.where(lane % 2 == 0, -1.0, 1.0)
    else:
        partner = tl.where(lane < half, lane + half, lane - half)
        angle = lane % half
        sign = tl.where(lane < half, -1.0, 1.0)
    other = tl.load(base + partner[None, :], mask=mask & turns[None, :], other=0.0).to(tl.float32)
    at = position.to(tl.int64) * rope_stride + angle
    c = tl.load(cos + at, mask=turns, other=1.0).to(tl.float32)
    s = tl.load(sin + at, mask=turns, other=0.0).to(tl.float32)
    return x * c[None, :] + other * (s * sign)[None, :]


@triton.jit
def _stored(
    x, scale, head, kv_heads, pointer, mask, QUANTISED: tl.constexpr, WHOLE: tl.constexpr, MOST
):
    if QUANTISED:
        x = x / tl.load(scale + head, mask=head < kv_heads, other=1.0)[:, None]
        if WHOLE:
            x = tl.floor(x + 0.5)
            x = tl.minimum(tl.maximum(x, -128.0), MOST)
        else:
            x = tl.minimum(tl.maximum(x, -MOST), MOST)
    tl.store(pointer, x.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def _write(
    key,
    value,
    query,
    key_cache,
    value_cache,
    slot_mapping,
    positions,
    cos,
    sin,
    k_scale,
    v_scale,
    kv_heads,
    heads,
    k_stride_token,
    k_stride_head,
    v_stride_token,
    v_stride_head,
    q_stride_token,
    q_stride_head,
    kc_stride_block,
    kc_stride_token,
    kc_stride_head,
    vc_stride_block,
    vc_stride_token,
    vc_stride_head,
    rope_stride,
    KV_PROGRAMS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    ROTARY: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    QUANTISED: tl.constexpr,
    WHOLE: tl.constexpr,
    MOST: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_mapping + token)
    lane = tl.arange(0, LANES)
    position = tl.load(positions + token)
    if tl.program_id(1) >= KV_PROGRAMS:
        head = (tl.program_id(1) - KV_PROGRAMS) * HEADS + tl.arange(0, HEADS)
        mask = (head < heads)[:, None] & (lane < HEAD_DIM)[None, :]
        base = query + token * q_stride_token + head[:, None] * q_stride_head
        x = _rotated(
            base, mask, lane, position, cos, sin, rope_stride, HEAD_DIM, ROTARY, INTERLEAVED
        )
        tl.debug_barrier()  # every lane has read its partner before any is overwritten
        tl.store(base + lane[None, :], x.to(query.dtype.element_ty), mask=mask)
        return
    if slot < 0:
        return
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    mask = (head < kv_heads)[:, None] & (lane < HEAD_DIM)[None, :]
    base = key + token * k_stride_token + head[:, None] * k_stride_head
    k = _rotated(base, mask, lane, position, cos, sin, rope_stride, HEAD_DIM, ROTARY, INTERLEAVED)
    v_at = value + token * v_stride_token + head[:, None] * v_stride_head + lane[None, :]
    v = tl.load(v_at, mask=mask, other=0.0).to(tl.float32)
    block, offset = slot // BLOCK_SIZE, slot % BLOCK_SIZE
    k_to = key_cache + block * kc_stride_block + offset * kc_stride_token
    v_to = value_cache + block * vc_stride_block + offset * vc_stride_token
    k_to += head[:, None] * kc_stride_head + lane[None, :]
    v_to += head[:, None] * vc_stride_head + lane[None, :]
    _stored(k, k_scale, head, kv_heads, k_to, mask, QUANTISED, WHOLE, MOST)
    _stored(v, v_scale, head, kv_heads, v_to, mask, QUANTISED, WHOLE, MOST)
