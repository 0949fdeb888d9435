"""Chunks and mixed batches against their definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kvsim.kernels.launch import Launch
from kvsim.kernels.operands import Variant
from kvsim.kernels.paged_mixed import paged_attention
from kvsim.kernels.paged_prefill import paged_prefill, plan_prefill_for
from support.paged import DEVICE, TOLERANCE, make_batch, relative_error

LENGTHS, NEW = (1, 130, 300, 47), (1, 130, 40, 1)  # a first token, a prompt, a chunk, a decode
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
SLOPES = torch.tensor([0.5, 0.25, 0.125, 0.06], device=DEVICE)
SINKS = torch.tensor([0.5, -1.0, 3.0, 0.0], device=DEVICE)

CASES: dict[str, tuple[dict[str, Any], Variant]] = {
    "fp32": ({}, Variant()),
    "fp16": ({"dtype": FP16}, Variant()),
    "bf16": ({"dtype": BF16}, Variant()),
    "block 1": ({"block_size": 1, "dtype": BF16}, Variant()),
    "block 24": ({"block_size": 24, "dtype": FP16}, Variant()),
    "block 96": ({"block_size": 96, "dtype": FP16}, Variant()),  # not a multiple of a tile
    "block 256": ({"block_size": 256, "dtype": BF16}, Variant()),
    "dim 80": ({"head_dim": 80, "dtype": FP16}, Variant()),
    "dim 256": ({"head_dim": 256, "dtype": BF16}, Variant()),
    "MHA": ({"heads": 3, "kv_heads": 3, "dtype": FP16}, Variant()),
    "MQA of 20": ({"heads": 20, "kv_heads": 1, "dtype": BF16}, Variant()),
    "group of 5": ({"heads": 10, "kv_heads": 2, "dtype": BF16}, Variant()),
    "e4m3": (
        {"kv_dtype": torch.float8_e4m3fn, "dtype": BF16},
        Variant(k_scale=0.5, v_scale=2.0),
    ),
    "int8": ({"kv_dtype": torch.int8, "dtype": FP16}, Variant(k_scale=0.02, v_scale=0.03)),
    "window": ({"dtype": BF16}, Variant(sliding_window=50)),
    "window of 1": ({"dtype": FP16}, Variant(sliding_window=1)),
    "long window": ({"dtype": FP16}, Variant(sliding_window=200)),
    "softcap": ({"dtype": FP16}, Variant(softcap=5.0)),
    "ALiBi and sinks": ({"dtype": FP16}, Variant(alibi_slopes=SLOPES, sinks=SINKS)),
}


def prefilled(shape: dict[str, Any], variant: Variant, **settings: Any) -> float:
    """The relative error of one batch."""
    batch = make_batch(LENGTHS, new=NEW, **shape)
    out = paged_prefill(
        batch.query,
        batch.key_cache,
        batch.value_cache,
        batch.block_table,
        batch.query_start_loc,
        batch.seq_lens,
        variant=variant,
        **settings,
    )
    return relative_error(out, batch.expected(variant))


@pytest.mark.parametrize("name", CASES)
def test_definition(name: str) -> None:
    shape, variant = CASES[name]
    assert prefilled(shape, variant) <= TOLERANCE[shape.get("dtype", FP32)]


@pytest.mark.parametrize("window", [0, 20, 120])
def test_masked_and_unmasked_tiles_meet(window: int) -> None:
    """Small tiles, so that every part of the walk over the keys has some."""
    launch = Launch(rows=32, tile_tokens=16, num_warps=4, num_stages=1)
    assert prefilled({}, Variant(sliding_window=window), launch=launch) <= TOLERANCE[FP32]


def test_mixed_batches_take_both_kernels() -> None:
    batch = make_batch((300, 1, 47, 130, 90), new=(1, 1, 1, 130, 20))
    out = paged_attention(
        batch.query,
        batch.key_cache,
        batch.value_cache,
        batch.block_table,
        batch.query_start_loc,
        batch.seq_lens,
        num_decodes=3,
    )
    assert relative_error(out, batch.expected(Variant())) <= TOLERANCE[FP32]


@pytest.mark.parametrize("num_decodes", [0, 2])
def test_mixed_batches_of_one_kind(num_decodes: int) -> None:
    batch = make_batch((30, 17), new=(1, 1))
    arguments = [
        getattr(batch, name)
        for name in (
            "query",
            "key_cache",
            "value_cache",
            "block_table",
            "query_start_loc",
            "seq_lens",
        )
    ]
    out = paged_attention(*arguments, num_decodes=num_decodes)
    assert relative_error(out, batch.expected(Variant())) <= TOLERANCE[FP32]
    with pytest.raises(ValueError, match=r"num_decodes\(=3\) must be in 0 \.\. 2\."):
        paged_attention(*arguments, num_decodes=3)


def test_wrong_input_is_one_sentence() -> None:
    batch = make_batch((30, 17), new=(1, 1))
    tensors = (batch.query, batch.key_cache, batch.value_cache, batch.block_table)
    with pytest.raises(ValueError, match=r"query_start_loc\(=\(2,\)\) one entry and one more"):
        paged_prefill(*tensors, batch.query_start_loc[:2], batch.seq_lens)
    work = plan_prefill_for(
        batch.query,
        batch.key_cache,
        batch.query_start_loc,
        launch=Launch(rows=32, tile_tokens=16, num_warps=4, num_stages=1),
    )
    with pytest.raises(ValueError, match=r"work.query_tokens\(=16\) must be the launch's"):
        paged_prefill(*tensors, batch.query_start_loc, batch.seq_lens, work=work)
