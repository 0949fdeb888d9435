"""Shapes of Llama-3.1-8B by hand: hidden 4096, 32 heads on 8 of 128, MLP 14336, 128256 tokens."""

from __future__ import annotations

import pytest

from kvsim.calibration.measure.model_shapes import (
    attention_shapes,
    dtype_of,
    linears,
    not_measured,
    windows,
)
from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import load_model


def test_heads_of_every_shard_and_full_heads(llama: ModelSpec) -> None:
    shapes = [(s.kind, s.heads, s.kv_heads, s.head_dim) for s in attention_shapes(llama)]
    shards = [("paged", 32, 8, 128), ("paged", 16, 4, 128), ("paged", 8, 2, 128)]
    assert shapes == [*shards, ("paged", 4, 1, 128), ("paged", 32, 32, 128)]
    assert attention_shapes(llama)[0].values_per_token == 2 * 8 * 128


def test_linear_layers_of_every_shard(llama: ModelSpec) -> None:
    found = {(one.layer, one.tensor_parallel_size): (one.n, one.k) for one in linears(llama)}
    assert len(found) == 20
    assert found["qkv", 1] == ((32 + 2 * 8) * 128, 4096) == (6144, 4096)
    assert found["gate_up", 1] == (2 * 14336, 4096)
    assert found["o", 8] == (4096, 4 * 128)
    assert found["down", 4] == (4096, 14336 // 4)
    assert found["lm_head", 2] == (64128, 4096)
    assert dtype_of(llama) == "bf16"


def test_a_size_that_does_not_divide_the_heads_is_left_out() -> None:
    sizes = {one.tensor_parallel_size for one in linears(load_model("qwen2-7b"))}  # 28 heads
    assert sizes == {1, 2, 4}


def test_a_shape_that_two_shards_share_is_measured_once() -> None:
    found = linears(load_model("qwen3-8b"))  # qkv of two shards, k 4096
    assert len({(one.n, one.k) for one in found}) == len(found) < 20


def test_latent_attention_is_one_row_of_576() -> None:
    model = load_model("deepseek-v3")
    shapes = attention_shapes(model)
    assert [(s.kind, s.heads, s.kv_heads, s.head_dim) for s in shapes] == [
        ("latent", heads, 1, 576) for heads in (128, 64, 32, 16)
    ]
    assert shapes[0].values_per_token == 576
    assert {one.layer for one in linears(model)} == {"gate_up", "down", "lm_head"}
    assert not_measured(model) == (
        "gemm: projections of latent attention",
        "gemm: expert layers",
        "gemm: quantised weights (measured in 16 bits)",
    )


def test_windows_come_with_the_unsharded_shape(llama: ModelSpec) -> None:
    ((shape, window),) = windows(load_model("gemma-3-27b"))
    assert (shape.heads, shape.kv_heads, window) == (32, 16, 1024)
    assert windows(llama) == ()


def test_a_plain_model_leaves_nothing_out(llama: ModelSpec) -> None:
    assert not_measured(llama) == ()


def test_keys_and_values_of_two_sizes_have_no_kernel() -> None:
    with pytest.raises(ValueError, match=r"model\(='mimo-v2-flash'\) has no attention layer that"):
        attention_shapes(load_model("mimo-v2-flash"))
