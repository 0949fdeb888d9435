"""Random batches in a paged cache with everything poisoned that no kernel may read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kvsim.kernels import reference
from kvsim.kernels.operands import Variant

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.float32: 1e-5}
NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Queries of some sequences and the cache that holds their keys."""

    query: torch.Tensor
    key_cache: torch.Tensor
    value_cache: torch.Tensor
    block_table: torch.Tensor
    query_start_loc: torch.Tensor
    seq_lens: torch.Tensor

    def expected(self, variant: Variant) -> torch.Tensor:
        """By definition, in float64, on the CPU."""
        tensors = (
            self.query,
            self.key_cache,
            self.value_cache,
            self.block_table,
            self.query_start_loc,
            self.seq_lens,
        )
        return reference.paged_attention(*(t.cpu() for t in tensors), on_cpu(variant))


def on_cpu(variant: Variant) -> Variant:
    """The same with its tensors on the CPU."""

    def moved(value: object) -> object:
        return value.cpu() if isinstance(value, torch.Tensor) else value

    names = ("scale", "sliding_window", "softcap", "alibi_slopes", "sinks", "k_scale", "v_scale")
    return Variant(**{name: moved(getattr(variant, name)) for name in names})


def make_batch(
    seq_lens: Sequence[int],
    *,
    new: Sequence[int] | None = None,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 64,
    block_size: int = 16,
    dtype: torch.dtype = torch.float32,
    kv_dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Batch:
    """Blocks in random order among unused ones; NaN in every slot that holds no key, -1 in every
    entry of a table that names no block. ``new`` are the queries of each sequence (1 each)."""
    draw = torch.Generator().manual_seed(seed)
    new = [1] * len(seq_lens) if new is None else list(new)
    blocks = [-(-n // block_size) for n in seq_lens]
    spare = 3
    order = torch.randperm(sum(blocks) + spare, generator=draw).tolist()
    stored = kv_dtype or dtype
    shape = (sum(blocks) + spare, block_size, kv_heads, head_dim)
    caches = [poisoned(shape, stored) for _ in range(2)]
    table = torch.full((len(seq_lens), max(blocks, default=0) + 2), -1, dtype=torch.int32)
    for row, (length, count) in enumerate(zip(seq_lens, blocks, strict=True)):
        mine = [order.pop() for _ in range(count)]
        table[row, :count] = torch.tensor(mine, dtype=torch.int32)
        at = torch.arange(length)
        where = (table[row][at // block_size].long(), at % block_size)
        for cache in caches:
            values = torch.randn(length, kv_heads, head_dim, generator=draw)
            if stored == torch.int8:
                values = values * 40
            cache[where] = reference.quantise(values, stored)
    query = torch.randn(sum(new), heads, head_dim, generator=draw).to(dtype)
    starts = torch.tensor([0, *new]).cumsum(0).to(torch.int32)
    lens = torch.tensor(seq_lens, dtype=torch.int32)
    tensors = (query, *caches, table, starts, lens)
    names = ("query", "key_cache", "value_cache", "block_table", "query_start_loc", "seq_lens")
    return Batch(**{n: t.to(DEVICE) for n, t in zip(names, tensors, strict=True)})


def poisoned(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """NaN everywhere; int8 has none and gets its largest value."""
    if dtype == torch.int8:
        return torch.full(shape, 127, dtype=dtype)
    return torch.full(shape, NAN, dtype=torch.float32).to(dtype)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """``|found - expected| / |expected|``; NaN counts as infinite."""
    difference = (found.cpu().double() - expected).norm() / expected.norm().clamp_min(1e-30)
    return float(torch.nan_to_num(difference, nan=torch.inf))
