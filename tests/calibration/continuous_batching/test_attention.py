"""The two functions that transformers calls, against their plain definitions."""

from __future__ import annotations

import pytest
import torch

from kvsim.calibration.continuous_batching.attention import (
    RAGGED_BLOCK,
    flash_attn_varlen_func,
    flash_attn_with_kvcache,
)

HEADS, KV_HEADS, DIM = 4, 2, 16


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The last ``len(q)`` queries over all keys, causally, one head at a time."""
    out = torch.empty_like(q)
    for head in range(HEADS):
        keys, values = k[:, head * KV_HEADS // HEADS], v[:, head * KV_HEADS // HEADS]
        for place in range(len(q)):
            seen = len(k) - len(q) + place + 1
            weights = (keys[:seen] @ q[place, head] * DIM**-0.5).softmax(0)
            out[place, head] = weights @ values[:seen]
    return out


@pytest.mark.parametrize(
    ("queries", "keys"),
    [([3], [3]), ([1, 5], [9, 5]), ([2, 1, 7, 4], [2, 40, 23, 17]), ([4, 0], [20, 0])],
    ids=["short", "later chunk", "mixed", "padding"],
)
def test_ragged_queries(queries: list[int], keys: list[int]) -> None:
    torch.manual_seed(0)
    q = torch.randn(sum(queries), HEADS, DIM)
    k, v = (torch.randn(sum(keys), KV_HEADS, DIM) for _ in range(2))
    starts_q, starts_k = (
        torch.tensor([0, *lengths]).cumsum(0).to(torch.int32) for lengths in (queries, keys)
    )
    out = flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens_q=starts_q,
        cu_seqlens_k=starts_k,
        max_seqlen_q=max(queries),
        max_seqlen_k=max(keys),
    )
    expected = [
        _attend(*parts)
        for *parts, used in zip(
            q.split(queries), k.split(keys), v.split(keys), queries, strict=True
        )
        if used
    ]
    torch.testing.assert_close(out, torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert sum(keys) < RAGGED_BLOCK or sum(keys) % RAGGED_BLOCK, "no size fits by accident"


def test_attention_that_looks_ahead_is_refused() -> None:
    q, k = torch.zeros(1, HEADS, DIM), torch.zeros(1, KV_HEADS, DIM)
    starts = torch.tensor([0, 1], dtype=torch.int32)
    with pytest.raises(ValueError, match=r"causal\(=False\) must be True"):
        flash_attn_varlen_func(
            q,
            k,
            k,
            cu_seqlens_q=starts,
            cu_seqlens_k=starts,
            max_seqlen_q=1,
            max_seqlen_k=1,
            causal=False,
        )


def test_new_tokens_are_written_and_seen() -> None:
    """Three sequences of 0, 4 and 6 cached tokens, and a row that only pads a graph."""
    torch.manual_seed(0)
    page_size, cached = 4, [0, 4, 6]
    keys, values = (torch.randn(8, page_size, KV_HEADS, DIM) for _ in range(2))
    before = keys.clone(), values.clone()
    table = torch.tensor([[2, -1], [5, 1], [7, 3], [-1, -1]], dtype=torch.int32)
    q = torch.randn(4, 1, HEADS, DIM)
    k, v = (torch.randn(4, 1, KV_HEADS, DIM) for _ in range(2))
    seqlens = torch.tensor([*cached, -1], dtype=torch.int32)
    out = flash_attn_with_kvcache(q, keys, values, k, v, cache_seqlens=seqlens, block_table=table)
    for row, count in enumerate(cached):
        pages = table[row, : count // page_size + 1].long()
        for stored, old, new in ((keys, before[0], k), (values, before[1], v)):
            flat = old[pages].flatten(0, 1)[:count]
            whole = torch.cat([flat, new[row]])
            assert torch.equal(stored[pages].flatten(0, 1)[: count + 1], whole)
            old[pages[-1], count % page_size] = new[row, 0]
        k_all, v_all = (cache[pages].flatten(0, 1)[: count + 1] for cache in (keys, values))
        torch.testing.assert_close(out[row], _attend(q[row], k_all, v_all), rtol=1e-4, atol=1e-5)
    assert torch.equal(keys, before[0]), "a slot was written that nobody asked for"
    assert torch.equal(values, before[1])
