"""Decode attention over latent rows: the definition is plain attention with one shared key head."""

from __future__ import annotations

import pytest
import torch

from kvsim.kernels import reference
from kvsim.kernels.latent_decode import latent_decode
from kvsim.kernels.operands import Variant
from support.paged import DEVICE, TOLERANCE, make_batch, relative_error

SCALE = 192**-0.5


@pytest.mark.parametrize(
    ("dtype", "kv_dtype", "heads", "block_size", "k_scale"),
    [
        (torch.bfloat16, None, 16, 64, 1.0),
        (torch.float16, None, 20, 24, 1.0),
        (torch.float32, None, 3, 16, 1.0),
        (torch.bfloat16, torch.float8_e4m3fn, 16, 64, 0.5),
        (torch.float32, torch.int8, 16, 1, 0.02),
    ],
)
def test_definition(
    dtype: torch.dtype,
    kv_dtype: torch.dtype | None,
    heads: int,
    block_size: int,
    k_scale: float,
) -> None:
    batch = make_batch(
        (1, 0, 150, 47),
        heads=heads,
        kv_heads=1,
        head_dim=576,
        block_size=block_size,
        dtype=dtype,
        kv_dtype=kv_dtype,
    )
    rows = batch.key_cache[:, :, 0]
    out = latent_decode(
        batch.query, rows, batch.block_table, batch.seq_lens, scale=SCALE, k_scale=k_scale
    )
    starts, lens = batch.query_start_loc.cpu(), batch.seq_lens.cpu()
    cache = batch.key_cache.cpu()
    expected = reference.paged_attention(
        batch.query.cpu(),
        cache,
        cache[..., :512],
        batch.block_table.cpu(),
        starts,
        lens,
        Variant(scale=SCALE, k_scale=k_scale, v_scale=k_scale),
    )
    assert out.shape == (4, heads, 512)
    assert relative_error(out, expected) <= TOLERANCE[dtype]


def test_wrong_input_is_one_sentence() -> None:
    query = torch.zeros(1, 4, 576, device=DEVICE)
    table = torch.zeros(1, 1, dtype=torch.int32, device=DEVICE)
    lens = torch.ones(1, dtype=torch.int32, device=DEVICE)
    with pytest.raises(ValueError, match=r"latent_cache\(=\(2, 16, 512\)\) must have 3"):
        latent_decode(query, torch.zeros(2, 16, 512, device=DEVICE), table, lens, scale=1.0)
    rows = torch.zeros(2, 16, 576, device=DEVICE)
    with pytest.raises(ValueError, match=r"latent_dim\(=576\) must be in 1 \.\. 575\."):
        latent_decode(query, rows, table, lens, scale=1.0, latent_dim=576)
