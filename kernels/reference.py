"""The definitions: what each kernel must give, in plain torch and in float64 wherever it counts.

Slow, one sequence and one head at a time, without a block that is not in its sequence's table: the
kernels are compared with this, and this with nothing but the formulas.

    score_j = scale k_scale q.k_j           (softcap tanh(score_j / softcap) where there is one)
              + slope (j - i)               ALiBi, query at position i
    visible : j <= i and j > i - window
    out     = v_scale sum_j e^score_j v_j / (sum_j e^score_j + e^sink)
"""

from __future__ import annotations

import torch

from .operands import Variant


def attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, variant: Variant
) -> torch.Tensor:
    """The last ``len(query)`` positions of one sequence.

    Args:
        query: ``[new, heads, head_dim]``.
        keys: ``[seq_len, kv_heads, head_dim]``, as stored.
        values: ``[seq_len, kv_heads, value_dim]``.
        variant: everything else.

    Returns:
        ``[new, heads, value_dim]`` in float64; zeros where there are no keys.
    """
    new, heads, head_dim = query.shape
    length, kv_heads = keys.shape[:2]
    group = heads // kv_heads
    k = keys.double().repeat_interleave(group, dim=1)
    v = values.double().repeat_interleave(group, dim=1)
    k_scale, v_scale = (_by_head(scale, heads) for scale in (variant.k_scale, variant.v_scale))
    score = torch.einsum("qhd,khd->hqk", query.double(), k)
    score = score * variant.scale_of(head_dim) * k_scale[:, None, None]
    if variant.softcap:
        score = variant.softcap * torch.tanh(score / variant.softcap)
    at = torch.arange(length - new, length)[:, None]
    key = torch.arange(length)[None, :]
    if variant.alibi_slopes is not None:
        score = score + variant.alibi_slopes.double()[:, None, None] * (key - at)
    hidden = key > at
    if variant.sliding_window:
        hidden = hidden | (key <= at - variant.sliding_window)
    score = score.masked_fill(hidden, float("-inf"))
    if variant.sinks is not None:
        sink = variant.sinks.double()[:, None, None].expand(heads, new, 1)
        score = torch.cat([score, sink], dim=2)
    if not score.shape[2]:
        return torch.zeros(new, heads, values.shape[2], dtype=torch.float64)
    weight = torch.softmax(score, dim=2)[:, :, :length]
    return torch.einsum("hqk,khd->qhd", weight, v) * v_scale[:, None]


def paged_attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_table: torch.Tensor,
    query_start_loc: torch.Tensor,
    seq_lens: torch.Tensor,
    variant: Variant,
) -> torch.Tensor:
    """A batch of chunks (decodes are chunks of one): ``[num_tokens, heads, value_dim]`` float64."""
    outs, starts = [], query_start_loc.tolist()
    for row, length in enumerate(seq_lens.tolist()):
        keys, values = (
            in_order(cache, block_table[row], length) for cache in (key_cache, value_cache)
        )
        outs.append(attention(query[starts[row] : starts[row + 1]], keys, values, variant))
    return torch.cat(outs)


def in_order(cache: torch.Tensor, blocks: torch.Tensor, length: int) -> torch.Tensor:
    """One sequence's stored keys or values, ``[length, kv_heads, dim]``."""
    block_size = cache.shape[1]
    at = torch.arange(length)
    return cache[blocks[at // block_size].long(), at % block_size]


def rotate(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, interleaved: bool
) -> torch.Tensor:
    """Rotary embedding of ``x [tokens, heads, dim]`` by ``cos, sin [tokens, rotary_dim / 2]``.

    The first ``rotary_dim`` lanes turn: lane ``i`` with lane ``i + rotary_dim / 2``, or even lanes
    with odd ones where ``interleaved``.
    """
    half = cos.shape[1]
    turned, rest = x[..., : 2 * half].double(), x[..., 2 * half :].double()
    pairs = turned.unflatten(-1, (half, 2)) if interleaved else turned.unflatten(-1, (2, half))
    a, b = (pairs[..., 0], pairs[..., 1]) if interleaved else (pairs[..., 0, :], pairs[..., 1, :])
    c, s = cos.double()[:, None], sin.double()[:, None]
    first, second = a * c - b * s, b * c + a * s
    together = torch.stack([first, second], dim=-1 if interleaved else -2)
    return torch.cat([together.flatten(-2), rest], dim=-1)


def write_kv(
    new: torch.Tensor, cache: torch.Tensor, slot_mapping: torch.Tensor, scale: float = 1.0
) -> torch.Tensor:
    """A copy of ``cache`` with ``new [tokens, kv_heads, dim]`` in its slots; -1 writes nothing."""
    written = cache.clone()
    block_size = cache.shape[1]
    for token, slot in enumerate(slot_mapping.tolist()):
        if slot >= 0:
            stored = quantise(new[token].double() / scale, cache.dtype)
            written[slot // block_size, slot % block_size] = stored
    return written


def quantise(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """To the cache's dtype: clamped to its range, to the nearest."""
    if dtype == torch.int8:
        return torch.floor(x + 0.5).clamp(-128, 127).to(dtype)
    if dtype.itemsize == 1:
        most = torch.finfo(dtype).max
        return x.clamp(-most, most).float().to(dtype)
    return x.to(dtype)


def _by_head(scale: float | torch.Tensor, heads: int) -> torch.Tensor:
    values = torch.as_tensor(scale, dtype=torch.float64).flatten()
    return (
        values.repeat_interleave(heads // len(values)) if len(values) > 1 else values.expand(heads)
    )
