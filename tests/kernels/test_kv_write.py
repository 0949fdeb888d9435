"""New keys and values in their slots: rotated, quantised, and nothing else touched."""

from __future__ import annotations

import pytest
import torch

from kvsim.kernels import reference
from kvsim.kernels.kv_write import Rope, write_kv
from support.paged import DEVICE, TOLERANCE, relative_error

TOKENS, BLOCK = 5, 24
SLOTS = [7, -1, 2 * BLOCK + 3, 0, 4 * BLOCK - 1]


def drawn(kv_heads: int, head_dim: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Keys, values or queries."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(TOKENS, kv_heads, head_dim, generator=draw).to(dtype).to(DEVICE)


def empty(kv_heads: int, head_dim: int, dtype: torch.dtype) -> torch.Tensor:
    """A cache of four blocks full of sevens."""
    return torch.full((4, BLOCK, kv_heads, head_dim), 7.0).to(dtype).to(DEVICE)


def written(new: torch.Tensor, cache: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """By definition, as float64."""
    slots = torch.tensor(SLOTS)
    return reference.write_kv(new.cpu(), cache.cpu(), slots, scale).double()


@pytest.mark.parametrize(
    ("dtype", "stored", "kv_heads", "head_dim", "scale"),
    [
        (torch.float32, torch.float32, 3, 80, 1.0),
        (torch.bfloat16, torch.bfloat16, 8, 64, 1.0),
        (torch.float16, torch.float16, 20, 128, 1.0),
        (torch.float16, torch.float8_e5m2, 2, 64, 0.1),
        (torch.float32, torch.float8_e4m3fn, 2, 64, 0.001),
        (torch.float32, torch.int8, 2, 64, 0.02),
    ],
)
def test_slots(
    dtype: torch.dtype, stored: torch.dtype, kv_heads: int, head_dim: int, scale: float
) -> None:
    key, value = drawn(kv_heads, head_dim, dtype), drawn(kv_heads, head_dim, dtype, 1)
    caches = [empty(kv_heads, head_dim, stored) for _ in range(2)]
    expected = [written(new, cache, scale) for new, cache in zip((key, value), caches, strict=True)]
    slots = torch.tensor(SLOTS, device=DEVICE)
    write_kv(key, value, *caches, slots, k_scale=scale, v_scale=scale)
    quantised = stored.itemsize == 1
    for cache, should in zip(caches, expected, strict=True):
        # the interpreter rounds to fp8 differently from torch on a few values
        assert relative_error(cache, should) <= (3e-2 if quantised else TOLERANCE[stored])
        untouched = torch.ones(4 * BLOCK, dtype=torch.bool)
        untouched[[slot for slot in SLOTS if slot >= 0]] = False
        flat = cache.cpu().double().flatten(0, 1)[untouched]
        assert torch.equal(flat, torch.full_like(flat, 7.0)), "a slot that nobody named"
    if stored == torch.int8:
        assert torch.equal(caches[0].cpu().double(), expected[0]), "whole numbers are exact"


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rotary", [64, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rope(interleaved: bool, rotary: int, dtype: torch.dtype) -> None:
    key, value, query = drawn(2, 64, dtype), drawn(2, 64, dtype, 1), drawn(6, 64, dtype, 2)
    positions = torch.tensor([9, 3, 0, 11, 4], device=DEVICE)
    angle = torch.outer(torch.arange(12.0), 0.7 ** torch.arange(rotary / 2)).to(DEVICE)
    turn = (angle.cos(), angle.sin())
    here = [part.cpu()[positions.cpu()] for part in turn]
    turned = [
        reference.rotate(x.cpu(), *here, interleaved=interleaved).to(dtype) for x in (key, query)
    ]
    caches = [empty(2, 64, dtype) for _ in range(2)]
    expected = [written(new, cache) for new, cache in zip((turned[0], value), caches, strict=True)]
    before = key.clone()
    write_kv(
        key,
        value,
        *caches,
        torch.tensor(SLOTS, device=DEVICE),
        rope=Rope(positions=positions, cos=turn[0], sin=turn[1], interleaved=interleaved),
        query=query,
    )
    for cache, should in zip(caches, expected, strict=True):
        assert relative_error(cache, should) <= TOLERANCE[dtype]
    assert relative_error(query, turned[1].double()) <= TOLERANCE[dtype]
    assert torch.equal(key, before)


def test_wrong_input_is_one_sentence() -> None:
    key = drawn(2, 64, torch.float32)
    caches = [empty(2, 64, torch.float32) for _ in range(2)]
    slots = torch.tensor(SLOTS, device=DEVICE)
    with pytest.raises(ValueError, match=r"slot_mapping\(=\(5,\), torch.int32\) must be int64"):
        write_kv(key, key, *caches, slots.int())
    with pytest.raises(ValueError, match=r"key\(=\(5, 1, 64\)\)"):
        write_kv(key[:, :1], key[:, :1], *caches, slots)
    with pytest.raises(ValueError, match="query must be None without a rope"):
        write_kv(key, key, *caches, slots, query=key)
