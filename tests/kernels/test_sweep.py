"""Every combination that a model may ask for: minutes under the interpreter, so not every time."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from kvsim.kernels.operands import Variant
from kvsim.kernels.paged_decode import paged_decode
from kvsim.kernels.paged_prefill import paged_prefill
from support.paged import DEVICE, TOLERANCE, make_batch, relative_error

pytestmark = pytest.mark.slow

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
KV_DTYPES = (None, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)
BLOCK_SIZES = (1, 8, 16, 24, 32, 48, 64, 128, 256, 544)
HEAD_DIMS = (64, 80, 96, 128, 256)
GROUPS = (1, 2, 4, 5, 8, 16, 40)
VARIANTS = ("plain", "window", "softcap", "alibi", "sinks", "everything")


def variant_of(name: str, heads: int, quantised: bool, draw: torch.Generator) -> Variant:
    """Drawn where there is something to draw."""
    slopes = torch.rand(heads, generator=draw).to(DEVICE)
    sinks = torch.randn(heads, generator=draw).to(DEVICE)
    scales = {"k_scale": 0.03, "v_scale": 0.5} if quantised else {}
    return {
        "plain": Variant(**scales),
        "window": Variant(sliding_window=33, **scales),
        "softcap": Variant(softcap=4.0, **scales),
        "alibi": Variant(alibi_slopes=slopes, **scales),
        "sinks": Variant(sinks=sinks, **scales),
        "everything": Variant(
            sliding_window=70, softcap=9.0, alibi_slopes=slopes, sinks=sinks, **scales
        ),
    }[name]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kv_dtype", KV_DTYPES, ids=str)
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_decode_and_prefill(
    dtype: torch.dtype, kv_dtype: torch.dtype | None, block_size: int
) -> None:
    seed = 1000 * block_size
    draw = torch.Generator().manual_seed(block_size)
    shapes = list(product(HEAD_DIMS, GROUPS, VARIANTS))
    chosen = torch.randperm(len(shapes), generator=draw)[:3].tolist()
    for number in chosen:
        head_dim, group, name = shapes[number]
        kv_heads = 1 if group > 8 else 2
        lens = torch.randint(0, 320, (5,), generator=draw).tolist()
        new = [min(n, m) for n, m in zip((1, 1, 7, 60, 320), lens, strict=True)]
        variant = variant_of(name, group * kv_heads, kv_dtype is not None, draw)
        for queries, call in ((None, paged_decode), (new, paged_prefill)):
            batch = make_batch(
                lens,
                new=queries,
                heads=group * kv_heads,
                kv_heads=kv_heads,
                head_dim=head_dim,
                block_size=block_size,
                dtype=dtype,
                kv_dtype=kv_dtype,
                seed=seed + number,
            )
            tensors = [batch.query, batch.key_cache, batch.value_cache, batch.block_table]
            if call is paged_prefill:
                tensors.append(batch.query_start_loc)
            out = call(*tensors, batch.seq_lens, variant=variant)
            error = relative_error(out, batch.expected(variant))
            assert error <= TOLERANCE[dtype], (head_dim, group, name, lens, error)
