"""Paged decode attention against its definition, on batches that poison what it must not read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kvsim.kernels.launch import Launch
from kvsim.kernels.operands import Variant
from kvsim.kernels.paged_decode import contiguous_decode, paged_decode, plan_decode_for
from kvsim.kernels.work_list import plan_decode
from support.paged import DEVICE, TOLERANCE, make_batch, relative_error

RAGGED = (1, 0, 300, 47, 130)
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
E4M3, E5M2, INT8 = torch.float8_e4m3fn, torch.float8_e5m2, torch.int8
SLOPES = torch.tensor([0.5, 0.25, 0.125, 0.06], device=DEVICE)
SINKS = torch.tensor([0.5, -1.0, 3.0, 0.0], device=DEVICE)

CASES: dict[str, tuple[dict[str, Any], Variant]] = {
    "fp32": ({}, Variant()),
    "fp16": ({"dtype": FP16}, Variant()),
    "bf16": ({"dtype": BF16}, Variant()),
    "block 1": ({"block_size": 1, "dtype": BF16}, Variant()),
    "block 24": ({"block_size": 24, "dtype": FP16}, Variant()),
    "block 48": ({"block_size": 48}, Variant()),
    "block 96": ({"block_size": 96, "dtype": FP16}, Variant()),  # not a multiple of a tile
    "block 128": ({"block_size": 128, "dtype": BF16}, Variant()),
    "block 256": ({"block_size": 256}, Variant()),
    "dim 80": ({"head_dim": 80, "dtype": FP16}, Variant()),
    "dim 96": ({"head_dim": 96}, Variant()),
    "dim 128": ({"head_dim": 128, "dtype": BF16}, Variant()),
    "dim 256": ({"head_dim": 256, "dtype": BF16}, Variant()),
    "MHA": ({"heads": 3, "kv_heads": 3}, Variant()),
    "MQA of 20": ({"heads": 20, "kv_heads": 1, "dtype": FP16}, Variant()),
    "MQA of 100": ({"heads": 100, "kv_heads": 1}, Variant()),
    "group of 5": ({"heads": 10, "kv_heads": 2, "dtype": BF16}, Variant()),
    "e4m3": ({"kv_dtype": E4M3, "dtype": BF16}, Variant(k_scale=0.5, v_scale=2.0)),
    "e5m2": ({"kv_dtype": E5M2, "dtype": FP16}, Variant(k_scale=0.5, v_scale=2.0)),
    "int8": ({"kv_dtype": INT8, "dtype": BF16}, Variant(k_scale=0.02, v_scale=0.03)),
    "scales by head": (
        {"kv_dtype": INT8},
        Variant(k_scale=torch.tensor([0.02, 0.01]), v_scale=torch.tensor([0.5, 2.0])),
    ),
    "window": ({"dtype": BF16}, Variant(sliding_window=50)),
    "window of 1": ({}, Variant(sliding_window=1)),
    "window, block 24": ({"block_size": 24}, Variant(sliding_window=100)),
    "softcap": ({"dtype": FP16}, Variant(softcap=5.0)),
    "ALiBi": ({"dtype": BF16}, Variant(alibi_slopes=SLOPES)),
    "sinks": ({}, Variant(sinks=SINKS)),
    "scale": ({}, Variant(scale=0.4)),
    "everything": (
        {"kv_dtype": E5M2, "block_size": 33},
        Variant(
            sliding_window=120,
            softcap=3.0,
            alibi_slopes=SLOPES,
            sinks=SINKS,
            k_scale=0.5,
            v_scale=2.0,
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_definition(name: str) -> None:
    shape, variant = CASES[name]
    batch = make_batch(RAGGED, **shape)
    out = paged_decode(
        batch.query,
        batch.key_cache,
        batch.value_cache,
        batch.block_table,
        batch.seq_lens,
        variant=variant,
    )
    error = relative_error(out, batch.expected(variant))
    assert error <= TOLERANCE[batch.query.dtype], error
    assert out[1].count_nonzero() == 0, "a sequence without keys"


@pytest.mark.parametrize("dtype", [BF16, FP32])
def test_contiguous_keys_give_the_same(dtype: torch.dtype) -> None:
    batch = make_batch(RAGGED, dtype=dtype, block_size=304)
    rows = torch.tensor([max(0, n) for n in batch.block_table[:, 0].tolist()])
    keys, values = (c.cpu()[rows].to(DEVICE) for c in (batch.key_cache, batch.value_cache))
    out = contiguous_decode(batch.query, keys, values, batch.seq_lens)
    assert relative_error(out, batch.expected(Variant())) <= TOLERANCE[dtype]


def test_one_plan_serves_all_layers() -> None:
    batch = make_batch(RAGGED)
    variant = Variant(sliding_window=64)
    work = plan_decode_for(batch.query, batch.key_cache, batch.seq_lens, sliding_window=64)
    tensors = (batch.key_cache, batch.value_cache, batch.block_table, batch.seq_lens)
    out = torch.full_like(batch.query, torch.nan)
    for query in (batch.query, -batch.query):
        found = paged_decode(query, *tensors, variant=variant, work=work, out=out)
        assert found is out
        fresh = paged_decode(query, *tensors, variant=variant)
        assert torch.equal(found, fresh)


def test_more_items_than_are_merged_at_once() -> None:
    batch = make_batch((700, 30), block_size=16)
    launch = Launch(rows=16, tile_tokens=16, num_warps=4, num_stages=1)
    work = plan_decode(batch.seq_lens, target=50, tile_tokens=16, min_chunk_tokens=16)
    assert work.seq_items.tolist() == [44, 2]
    tensors = (batch.key_cache, batch.value_cache, batch.block_table, batch.seq_lens)
    variant = Variant(sinks=SINKS)
    out = paged_decode(batch.query, *tensors, variant=variant, work=work, launch=launch)
    assert relative_error(out, batch.expected(variant)) <= TOLERANCE[FP32]


def test_lengths_may_change_after_the_plan_was_captured() -> None:
    """A plan is made on the device from the lengths there: no shape of it depends on them."""
    short, long = make_batch((3, 200)), make_batch((200, 3))
    plans = [plan_decode_for(b.query, b.key_cache, b.seq_lens) for b in (short, long)]
    assert plans[0].max_items == plans[1].max_items
    assert plans[0].item_seq.tolist() != plans[1].item_seq.tolist()


def test_strided_query_and_cache() -> None:
    batch = make_batch(RAGGED)
    wide = torch.full((*batch.query.shape[:2], 200), torch.nan, device=DEVICE)
    wide[..., 3:67] = batch.query
    both = torch.stack([batch.key_cache, batch.value_cache], dim=1)  # [blocks, 2, ...]
    out = paged_decode(wide[..., 3:67], both[:, 0], both[:, 1], batch.block_table, batch.seq_lens)
    assert relative_error(out, batch.expected(Variant())) <= TOLERANCE[FP32]


def test_no_sequences() -> None:
    batch = make_batch((5,))
    out = paged_decode(
        batch.query[:0],
        batch.key_cache,
        batch.value_cache,
        batch.block_table[:0],
        batch.seq_lens[:0],
    )
    assert out.shape == (0, 4, 64)


def refused(change: dict[str, Any], variant: Variant | None = None, **more: Any) -> str:
    """What a call says that differs in one tensor."""
    batch = make_batch(RAGGED)
    names = ("query", "key_cache", "value_cache", "block_table", "seq_lens")
    tensors = {name: getattr(batch, name) for name in names} | change
    with pytest.raises(ValueError, match=r"^[^\n]+\.$") as error:
        paged_decode(*tensors.values(), variant=variant, **more)
    return str(error.value)


def test_wrong_input_is_one_sentence() -> None:
    batch = make_batch(RAGGED)
    assert "heads(=3)" in refused({"query": batch.query[:, :3]})
    assert "head_dim(=32)" in refused({"query": batch.query[..., :32]})
    assert "torch.float64" in refused({"query": batch.query.double()})
    assert "key_cache.dtype" in refused({"key_cache": batch.key_cache.half()})
    assert "seq_lens.dtype(=torch.int64)" in refused({"seq_lens": batch.seq_lens.long()})
    assert "seq_lens(=(2,))" in refused({"seq_lens": batch.seq_lens[:2]})
    assert "query(=(4, 64))" in refused({"query": batch.query[0]})
    assert "sinks(=(2,))" in refused({}, Variant(sinks=torch.zeros(2)))
    flipped = batch.query.transpose(1, 2).contiguous().transpose(1, 2)
    assert "query.stride(-1)(=4)" in refused({"query": flipped})
    other = batch.value_cache.transpose(1, 2).contiguous().transpose(1, 2)
    assert "value_cache.stride()" in refused({"value_cache": other})
    work = plan_decode_for(batch.query, batch.key_cache, batch.seq_lens)
    assert "work.sliding_window(=0)" in refused({}, Variant(sliding_window=9), work=work)


@pytest.mark.parametrize("field", ["sliding_window", "softcap"])
def test_negative_variants_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=rf"{field}\(=-1\) must be >= 0\."):
        Variant(**{field: -1})  # type: ignore[arg-type]  # one of two numbers
