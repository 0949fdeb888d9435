"""Blocks copied, gathered and scattered, byte for byte."""

from __future__ import annotations

import pytest
import torch

from kvsim.kernels.block_move import copy_blocks, gather_blocks, scatter_blocks
from support.paged import DEVICE


def cache_of(*shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    """Random bytes."""
    draw = torch.Generator().manual_seed(1)
    count = torch.Size(shape).numel() * dtype.itemsize
    raw = torch.randint(0, 255, (count,), generator=draw, dtype=torch.uint8)
    return raw.view(dtype).view(shape).to(DEVICE)


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """For comparison: NaN equals itself."""
    return tensor.cpu().contiguous().view(-1).view(torch.uint8)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((6, 16, 2, 64), torch.float16),
        ((6, 1, 1, 3), torch.int8),  # 3 bytes: no word divides it
        ((6, 33, 2, 80), torch.bfloat16),
    ],
)
def test_copies(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    cache = cache_of(*shape, dtype=dtype)
    before = cache.clone()
    copy_blocks(cache, torch.tensor([[0, 5], [3, 1]], device=DEVICE))
    for block, source in enumerate((0, 3, 2, 3, 4, 0)):
        assert torch.equal(bytes_of(cache[block]), bytes_of(before[source])), block


def test_a_swap_brings_back_what_it_took() -> None:
    cache = cache_of(9, 16, 2, 64)
    ids = torch.tensor([7, 0, 4], device=DEVICE)
    staging = gather_blocks(cache, ids)
    assert torch.equal(bytes_of(staging), bytes_of(cache[ids]))
    other = torch.zeros_like(cache)
    to = torch.tensor([2, 3, 8], device=DEVICE)
    scatter_blocks(staging, other, to)
    assert torch.equal(bytes_of(other[to]), bytes_of(staging))
    assert other[[0, 1, 4, 5, 6, 7]].count_nonzero() == 0


def test_nothing_to_move() -> None:
    cache = cache_of(2, 4)
    before = cache.clone()
    copy_blocks(cache, torch.empty(0, 2, dtype=torch.int64, device=DEVICE))
    assert torch.equal(bytes_of(cache), bytes_of(before))


def test_wrong_input_is_one_sentence() -> None:
    cache = cache_of(4, 8)
    with pytest.raises(ValueError, match=r"pairs\(=\(2,\)\) must be \[num_pairs, 2\]\."):
        copy_blocks(cache, torch.zeros(2, dtype=torch.int64, device=DEVICE))
    with pytest.raises(ValueError, match=r"block_ids.dtype\(=torch.int32\) must be torch.int64\."):
        gather_blocks(cache, torch.zeros(2, dtype=torch.int32, device=DEVICE))
    with pytest.raises(ValueError, match="must be contiguous"):
        gather_blocks(cache.t(), torch.zeros(2, dtype=torch.int64, device=DEVICE))
    with pytest.raises(ValueError, match="blocks of 1 words cannot go where 2 fit"):
        scatter_blocks(
            cache[:, :4].contiguous(), cache, torch.zeros(1, dtype=torch.int64).to(DEVICE)
        )
