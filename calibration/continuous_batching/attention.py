"""kvsim's kernels in the place of flash-attn's two functions that transformers 5.23 calls.

Without flash-attn the library reads the cache through a dense mask. Given a function with a block
table it decodes through that (its *decode fast path*) and needs no mask anywhere, so that CUDA
graphs and asynchronous batches are possible. Its contract, from ``modeling_flash_attention_utils``
and ``continuous_batching/cache.py``:

- ``flash_attn_with_kvcache``: one query for each sequence; the new key and value are written behind
  ``cache_seqlens`` cached ones and attended to; rows that only pad a graph have -1 cached ones;
- ``flash_attn_varlen_func``: ragged queries, and for each sequence all keys in one piece, which the
  library has gathered from the cache before (a copy of all KV in every layer).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.nn import functional
from transformers import modeling_flash_attention_utils as flash
from transformers.generation.continuous_batching import initialization

from ...kernels.kv_write import write_kv
from ...kernels.operands import Variant
from ...kernels.paged_decode import paged_decode
from ...kernels.paged_prefill import paged_prefill

IMPLEMENTATION = "flash_attention_2"
"""The name under which the library takes a block table."""
RAGGED_BLOCK = 16
"""Tokens that the prefill kernel reads behind one another; any power of two."""


def flash_attn_with_kvcache(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    cache_seqlens: torch.Tensor,
    block_table: torch.Tensor,
    softmax_scale: float | None = None,
    causal: bool = True,
) -> torch.Tensor:
    """One new token for each sequence, written to the cache and attending to all before it.

    Args:
        q: ``[num_seqs, 1, heads, head_dim]``.
        k_cache: ``[num_pages, page_size, kv_heads, head_dim]``.
        v_cache: likewise.
        k: ``[num_seqs, 1, kv_heads, head_dim]``.
        v: likewise.
        cache_seqlens: ``[num_seqs]``, cached tokens; -1 in a row that is padding.
        block_table: ``[num_seqs, max_pages]``; -1 behind the last.
        softmax_scale: of the logits.
        causal: one query sees every key either way.
    """
    page_size = k_cache.shape[1]
    seq_lens = (cache_seqlens + 1).to(torch.int32)
    place = cache_seqlens.clamp(min=0)
    page = block_table.gather(1, (place // page_size).long()[:, None])[:, 0]
    slots = page.long() * page_size + place % page_size
    slots = torch.where(seq_lens > 0, slots, -1)
    write_kv(k[:, 0], v[:, 0], k_cache, v_cache, slots)
    out = paged_decode(
        q[:, 0], k_cache, v_cache, block_table, seq_lens, variant=Variant(scale=softmax_scale)
    )
    return out[:, None]


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    softmax_scale: float | None = None,
    causal: bool = True,
) -> torch.Tensor:
    """The newest tokens of each sequence over all of its keys, which lie behind one another.

    The keys are looked at as blocks that begin at every token, so that a sequence may begin
    anywhere: nothing is copied.

    Args:
        q: ``[num_tokens, heads, head_dim]``.
        k: ``[num_keys, kv_heads, head_dim]``.
        v: likewise.
        cu_seqlens_q: ``[num_seqs + 1]``, where each sequence's queries begin.
        cu_seqlens_k: ``[num_seqs + 1]``, where its keys begin.
        max_seqlen_q: of any sequence.
        max_seqlen_k: likewise.
        softmax_scale: of the logits.
        causal: must be True.

    Raises:
        ValueError: attention that is not causal.
    """
    if not causal:
        raise ValueError(f"causal(={causal}) must be True.")
    first, seq_lens = cu_seqlens_k[:-1], cu_seqlens_k.diff().to(torch.int32)
    blocks = -(-int(max_seqlen_k) // RAGGED_BLOCK)
    steps = RAGGED_BLOCK * torch.arange(blocks, device=q.device, dtype=torch.int32)
    return paged_prefill(
        q,
        _blocks_from_everywhere(k),
        _blocks_from_everywhere(v),
        first[:, None].to(torch.int32) + steps,
        cu_seqlens_q.to(torch.int32),
        seq_lens,
        variant=Variant(scale=softmax_scale),
    )


def _blocks_from_everywhere(rows: torch.Tensor) -> torch.Tensor:
    """``[num_blocks, RAGGED_BLOCK, kv_heads, head_dim]``: block i begins at row i."""
    rows = rows.contiguous()
    if rows.shape[0] < RAGGED_BLOCK:
        rows = functional.pad(rows, (0, 0, 0, 0, 0, RAGGED_BLOCK - rows.shape[0]))
    step, *inner = rows.stride()
    num_blocks = rows.shape[0] - RAGGED_BLOCK + 1  # of the later ones only the beginning is read
    return rows.as_strided((num_blocks, RAGGED_BLOCK, *rows.shape[1:]), (step, step, *inner))


@contextmanager
def injected(model: Any) -> Iterator[None]:
    """Let a model attend through kvsim's kernels while the context is open.

    On a machine without a GPU the library would not try a block table: it is told to.
    """
    process = flash._lazy_define_process_function
    functions = {
        "_loaded_implementation": IMPLEMENTATION,
        "_flash_fn": None,
        "_flash_varlen_fn": flash_attn_varlen_func,
        "_flash_with_kvcache_fn": flash_attn_with_kvcache,
        "_pad_fn": flash._pad_input,
        "_unpad_fn": flash._unpad_input,
        "_process_flash_kwargs_fn": process(flash_attn_varlen_func),
        "_process_with_kvcache_kwargs_fn": process(flash_attn_with_kvcache),
    }
    before = model.config._attn_implementation_internal
    model.config._attn_implementation_internal = IMPLEMENTATION
    with mock.patch.multiple(flash, **functions):
        try:
            if torch.cuda.is_available():
                yield
            else:
                with mock.patch.object(initialization, "ensure_decode_fast_path_is_available"):
                    yield
        finally:
            model.config._attn_implementation_internal = before
