"""Other libraries on the same batches: what our kernels are compared with, in the same run.

    kvsim            our kernel on blocks
    contiguous       our kernel without blocks: the difference is what paging costs
    sdpa             torch's scaled_dot_product_attention on contiguous KV, its own choice of kernel
    sdpa_cudnn       the same by cuDNN
    flex_paged       FlexAttention over torch's experimental PagedAttention, compiled
    xformers_splitk  xFormers' Triton split-K kernel over a block table

What a library cannot do, or is not installed, raises; the session keeps the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from math import prod
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from ..batches import lengths_of
from ..bench import Bench, rotating
from ..card import Work
from . import attention

XFORMERS_BLOCK_N = 64
FLEX_QUERY_BLOCK = 128
"""Its decode kernel wants a multiple of 16 query rows."""


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """One library's operands for one case."""
    return PREPARE[x["name"]](x, bench)


def _contiguous(x: Mapping[str, Any], bench: Bench) -> Work:
    work = attention.prepare({**x, "kind": "contiguous"}, bench)
    return Work(call=work.call, x={**work.x, "kind": x["kind"]}, num_sets=work.num_sets)


def _sdpa(x: Mapping[str, Any], bench: Bench) -> Work:
    """``[num_seqs, heads, tokens, head_dim]``; every sequence of the same length."""
    if "chunks" in x:
        ((tokens, past),) = x["chunks"]
        if past:
            raise ValueError("its causal mask starts at the first query.")
        num_seqs, length = 1, tokens
    else:
        ((length, num_seqs),) = x["seq_lens"]
        tokens = 1
    keys, values = attention.contiguous_kv(x, bench, num_seqs, length)
    shape = (num_seqs, x["kv_heads"], length, x["head_dim"])
    operands = [(k.reshape(shape), v.reshape(shape)) for k, v in zip(keys, values, strict=True)]
    query = bench.normal(num_seqs, x["heads"], tokens, x["head_dim"], dtype=x["dtype"])
    call = partial(_attend, query, causal=tokens > 1)
    return Work(call=rotating(call, operands), x=x, num_sets=len(operands))


def _attend(
    query: torch.Tensor, kv: tuple[torch.Tensor, torch.Tensor], *, causal: bool
) -> torch.Tensor:
    return scaled_dot_product_attention(query, *kv, is_causal=causal, enable_gqa=True)


def _sdpa_cudnn(x: Mapping[str, Any], bench: Bench) -> Work:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    work = _sdpa(x, bench)

    def call() -> object:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return work.call()

    return Work(call=call, x=x, num_sets=work.num_sets)


def _flex_paged(x: Mapping[str, Any], bench: Bench) -> Work:
    """Pages as torch's own example has them: ``[1, kv_heads, num_pages * page_size, head_dim]``."""
    from torch.nn.attention.experimental._paged_attention import PagedAttention
    from torch.nn.attention.flex_attention import (
        create_block_mask,
        flex_attention,
        noop_mask,
    )

    lengths, page, device = lengths_of(x["seq_lens"]), x["block_size"], bench.device
    num_pages = sum(-(-length // page) for length in lengths)
    pages = PagedAttention(num_pages, page, len(lengths), device=str(device))
    for i, length in enumerate(lengths):
        pages.reserve(torch.tensor(i, device=device), torch.tensor(length, device=device))
    blocks = (FLEX_QUERY_BLOCK, page)
    logical = create_block_mask(
        noop_mask, len(lengths), None, 1, max(lengths), device=device.type, BLOCK_SIZE=blocks
    )
    kv_len = torch.tensor(lengths, device=device)
    mask = pages.convert_logical_block_mask(logical, kv_len=kv_len)
    shape = (1, x["kv_heads"], num_pages * page, x["head_dim"])
    keys, values = bench.pool(2 * prod(shape), x["dtype"]).view(2, *shape)
    query = bench.normal(len(lengths), x["heads"], 1, x["head_dim"], dtype=x["dtype"])
    compiled = torch.compile(flex_attention, dynamic=False) if bench.is_cuda else flex_attention
    call = partial(compiled, query, keys, values, block_mask=mask, enable_gqa=True)
    return Work(call=call, x=x)


def _xformers_splitk(x: Mapping[str, Any], bench: Bench) -> Work:
    """``[1, tokens, kv_heads, group, head_dim]``; a page holds a multiple of the kernel's tile."""
    fmha = import_module("xformers.ops.fmha")
    lengths, page = lengths_of(x["seq_lens"]), x["block_size"]
    kv = attention.paged_kv(x, bench, lengths)
    group, dim = x["heads"] // x["kv_heads"], x["head_dim"]
    flat = (1, -1, x["kv_heads"], 1, dim)
    keys, values = (
        side.reshape(flat).expand(1, -1, x["kv_heads"], group, dim) for side in (kv.keys, kv.values)
    )
    query = bench.normal(1, len(lengths), x["kv_heads"], group, dim, dtype=x["dtype"])
    operator = type("SplitK", (fmha.triton_splitk.FwOp,), {"BLOCK_N": min(XFORMERS_BLOCK_N, page)})
    biases = [
        fmha.attn_bias.PagedBlockDiagonalPaddedKeysMask.from_seqlens(
            q_seqlen=[1] * len(lengths),
            kv_seqlen=lengths,
            block_tables=table.clamp(min=0),
            page_size=page,
            device=bench.device,
        )
        for table in kv.tables
    ]

    def call(bias: object) -> object:
        return fmha.memory_efficient_attention_forward(
            query, keys, values, attn_bias=bias, op=operator
        )

    return Work(call=rotating(call, biases), x=x, num_sets=len(biases))


PREPARE = {
    "kvsim": attention.prepare,
    "contiguous": _contiguous,
    "sdpa": _sdpa,
    "sdpa_cudnn": _sdpa_cudnn,
    "flex_paged": _flex_paged,
    "xformers_splitk": _xformers_splitk,
}
