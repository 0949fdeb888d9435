"""Elements past the 2**31st: 32-bit offsets would wrap around and read, or write, elsewhere.

The caches are larger than that but never touched except for a few blocks, so that the operating
system keeps no memory for the rest.
"""

from __future__ import annotations

import pytest
import torch

from kvsim.kernels.block_move import copy_blocks, gather_blocks
from kvsim.kernels.kv_write import write_kv
from kvsim.kernels.latent_decode import latent_decode
from kvsim.kernels.operands import Variant
from kvsim.kernels.paged_decode import paged_decode
from kvsim.kernels.paged_prefill import paged_prefill
from support.paged import DEVICE, make_batch, relative_error

BLOCK_ELEMENTS = 16 * 2 * 64
FAR = 2**31 // BLOCK_ELEMENTS
"""The first block past the 2**31st element."""


def far_cache(extra: int) -> torch.Tensor:
    """``[blocks, 16, 2, 64]`` int8, 2 GiB of addresses; not initialised."""
    return torch.empty(FAR + extra, 16, 2, 64, dtype=torch.int8, device=DEVICE)


@pytest.mark.parametrize("new", [1, 20])
def test_attention_reads_far_blocks(new: int) -> None:
    batch = make_batch((40,), new=(new,), kv_dtype=torch.int8)
    variant = Variant(k_scale=0.02)
    blocks = batch.key_cache.shape[0]
    keys, values = far_cache(blocks), far_cache(blocks)
    keys[FAR:], values[FAR:] = batch.key_cache, batch.value_cache
    table = torch.where(batch.block_table >= 0, batch.block_table + FAR, -1).to(torch.int32)
    if new == 1:
        out = paged_decode(batch.query, keys, values, table, batch.seq_lens, variant=variant)
    else:
        starts = batch.query_start_loc
        out = paged_prefill(
            batch.query, keys, values, table, starts, batch.seq_lens, variant=variant
        )
    assert relative_error(out, batch.expected(variant)) <= 1e-5


def test_latent_rows_are_read_far_away() -> None:
    batch = make_batch((40,), kv_heads=1, head_dim=576, kv_dtype=torch.int8)
    blocks, elements = batch.key_cache.shape[0], 16 * 576
    far = 2**31 // elements + 1
    cache = torch.empty(far + blocks, 16, 576, dtype=torch.int8, device=DEVICE)
    cache[far:] = batch.key_cache[:, :, 0]
    tables = (torch.where(batch.block_table >= 0, batch.block_table + far, -1), batch.block_table)
    near = batch.key_cache[:, :, 0].contiguous()
    outs = [
        latent_decode(batch.query, rows, table.to(torch.int32), batch.seq_lens, scale=0.001)
        for rows, table in zip((cache, near), tables, strict=True)
    ]
    assert torch.equal(*outs)


def test_keys_are_written_far_away() -> None:
    caches = [far_cache(2) for _ in range(2)]
    new = torch.arange(128.0, device=DEVICE).reshape(1, 2, 64) - 64
    slot = torch.tensor([(FAR + 1) * 16 + 5], device=DEVICE)
    write_kv(new, -new, *caches, slot)
    for cache, sign in zip(caches, (1, -1), strict=True):
        assert cache[FAR + 1, 5].tolist() == (sign * new[0]).to(torch.int8).tolist()


def test_blocks_are_moved_far_away() -> None:
    cache = torch.empty(2**31 // 8 + 2, 8, dtype=torch.int8, device=DEVICE)
    cache[0] = torch.arange(8)
    copy_blocks(cache, torch.tensor([[0, 2**31 // 8 + 1]], device=DEVICE))
    found = gather_blocks(cache, torch.tensor([2**31 // 8 + 1], device=DEVICE))
    assert found.tolist() == [list(range(8))]
