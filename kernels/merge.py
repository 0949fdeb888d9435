"""Adds up what the work items of one sequence left: the second half of a split decode.

    out = sum_i 2^weight_i out_i / (sum_i 2^weight_i + 2^sink)

A sequence of one item has written its output itself; one without keys gets zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .launch import padded_dim
from .scores import LOG2E
from .split import MERGED_AT_ONCE
from .work_list import DecodeWork


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Partials:
    """Of every work item and head."""

    out: torch.Tensor
    """``[max_items, heads, head_dim]`` fp32."""
    weight: torch.Tensor
    """``[max_items, heads]`` fp32, log2 of the softmax sum."""

    @classmethod
    def empty(cls, items: int, heads: int, head_dim: int, device: torch.device) -> Partials:
        """Room for a batch; nothing is read that was not written."""
        return cls(
            out=torch.empty(items, heads, head_dim, dtype=torch.float32, device=device),
            weight=torch.empty(items, heads, dtype=torch.float32, device=device),
        )


def merge(
    out: torch.Tensor, partials: Partials, work: DecodeWork, *, sinks: torch.Tensor | None = None
) -> None:
    """Write ``out [num_seqs, heads, head_dim]`` of the sequences with several items or none."""
    num_seqs, heads, head_dim = out.shape
    _merge[(heads, num_seqs)](
        out,
        partials.out,
        partials.weight,
        work.seq_items,
        work.seq_first_item,
        partials.weight if sinks is None else sinks,
        *out.stride()[:2],
        HEADS=heads,
        HEAD_DIM=head_dim,
        LANES=padded_dim(head_dim),
        SPLITS=MERGED_AT_ONCE,
        SINKS=sinks is not None,
        num_warps=4,
    )


@triton.jit
def _merge(
    out,
    partial_out,
    partial_weight,
    seq_items,
    seq_first_item,
    sinks,
    o_stride_seq,
    o_stride_head,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LANES: tl.constexpr,
    SPLITS: tl.constexpr,
    SINKS: tl.constexpr,
):
    head, seq = tl.program_id(0), tl.program_id(1)
    items = tl.load(seq_items + seq)
    if items == 1:
        return
    first = tl.load(seq_first_item + seq)
    lane = tl.arange(0, LANES)
    peak, total = float("-inf"), 0.0
    if SINKS:
        peak, total = tl.load(sinks + head).to(tl.float32) * LOG2E, 1.0
    acc = tl.zeros([LANES], tl.float32)
    for start in range(0, items, SPLITS):
        part = start + tl.arange(0, SPLITS)
        at = (first + part).to(tl.int64) * HEADS + head
        weight = tl.load(partial_weight + at, mask=part < items, other=float("-inf"))
        higher = tl.maximum(peak, tl.max(weight, 0))
        share = tl.exp2(weight - higher)
        shrink = tl.exp2(peak - higher)
        parts = tl.load(
            partial_out + at[:, None] * HEAD_DIM + lane[None, :],
            mask=(part < items)[:, None] & (lane < HEAD_DIM)[None, :],
            other=0.0,
        )
        acc = acc * shrink + tl.sum(parts * share[:, None], 0)
        total = total * shrink + tl.sum(share, 0)
        peak = higher
    acc = acc / tl.where(total > 0, total, 1.0)
    o_at = out + seq.to(tl.int64) * o_stride_seq + head * o_stride_head + lane
    tl.store(o_at, acc.to(out.dtype.element_ty), mask=lane < HEAD_DIM)
