"""Bytes to blocks: the engine's own results (``golden/kvblocks.json``), laws, hybrid models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.calibration.kv_blocks import BlockPlan, LayerCache, group_layers, plan_blocks
from kvsim.calibration.kv_groups import layer_caches
from kvsim.calibration.models import load_model

CASES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "golden" / "kvblocks.json").read_text(encoding="utf-8")
)
KINDS = {
    "FullAttentionSpec": "full",
    "SlidingWindowSpec": "sliding_window",
    "MLAAttentionSpec": "mla",
}
DTYPE_BYTES = {"bfloat16": 2, "uint8": 1}


def layers_of(case: dict[str, Any]) -> list[LayerCache]:
    return [layer_of(*entry) for entry in case["layer_specs"]]


def layer_of(count: int, spec: str, shape: dict[str, Any]) -> LayerCache:
    sides = 1 if spec == "MLAAttentionSpec" else 2
    token = sides * shape["num_kv_heads"] * shape["head_size"] * DTYPE_BYTES[shape["dtype"]]
    return LayerCache(
        kind=KINDS[spec],
        num_layers=count,
        block_size=shape["block_size"],
        page_bytes=(shape.get("state_content_bytes") or token) * shape["block_size"],
        window_tokens=shape.get("sliding_window"),
    )


def plan(case: dict[str, Any]) -> BlockPlan:
    return plan_blocks(
        layers_of(case),
        available_bytes=case["memory_bytes"],
        max_model_len=case["max_model_len"],
        max_in_flight_tokens=case["max_in_flight_tokens"],
        hybrid_kv_cache=not case["disable_hybrid_kv_cache_manager"],
        num_gpu_blocks_override=case["num_gpu_blocks_override"],
    )


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if "error" not in case])
def test_as_the_engine(name: str) -> None:
    case = CASES[name]
    found = plan(case)
    assert found.num_blocks == case["num_blocks"]
    assert found.usable_blocks == case["usable_blocks"]
    assert found.block_bytes == case["bytes_per_block"]
    assert found.scheduler_block_size == case["scheduler_block_size"]
    assert found.hash_block_size == case["hash_block_size"]
    assert found.capacity_tokens == case["capacity_tokens"]
    assert round(found.max_concurrency, 4) == case["max_concurrency"]
    if "fitted_max_model_len" in case:
        assert found.max_model_len == case["fitted_max_model_len"]


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if "error" not in case])
def test_groups_as_the_engine(name: str) -> None:
    expected = [
        (
            KINDS.get(group["kind"], "full"),
            group["layers"],
            group["block_size"],
            group["page_bytes_per_layer"]
            * (1 if group["kind"] == "UniformTypeKVCacheSpecs" else group["layers"]),
        )
        for group in CASES[name]["groups"]
    ]
    found = [(g.kind, g.num_layers, g.block_size, g.page_bytes) for g in plan(CASES[name]).groups]
    assert found == expected


def test_refusal_as_the_engine() -> None:
    case = CASES["llama3-8b one block short of that"]
    assert "estimated maximum model length is 8176" in case["error"]
    sentence = r"max_model_len\(=8192\) needs 513 KV blocks .* max_model_len <= 8176 would fit."
    with pytest.raises(ValueError, match=sentence):
        plan(case)


def test_nothing_fits_at_all() -> None:
    layer = LayerCache(kind="full", num_layers=1, block_size=16, page_bytes=1000)
    for length in (-1, 10):
        with pytest.raises(ValueError, match="KV"):
            plan_blocks([layer], available_bytes=1999, max_model_len=length, max_in_flight_tokens=1)


@given(
    full=st.integers(1, 60),
    window=st.integers(1, 60),
    ratio=st.sampled_from([1, 2, 3, 4]),
    pool=st.integers(0, 10**6),
)
def test_groups_hold_every_layer_and_overlay(full: int, window: int, ratio: int, pool: int) -> None:
    layers = [
        LayerCache(kind="full", num_layers=full, block_size=16, page_bytes=ratio * 100),
        LayerCache(
            kind="sliding_window",
            num_layers=window,
            block_size=16,
            page_bytes=300,
            window_tokens=64,
        ),
    ]
    groups = group_layers(layers)
    assert sum(g.num_layers for g in groups) == full + window
    largest = max(g.page_bytes for g in groups)
    try:
        found = plan_blocks(
            layers, available_bytes=pool, max_model_len=-1, max_in_flight_tokens=128
        )
    except ValueError:
        return
    assert found.num_blocks == pool // largest
    assert found.blocks_of(found.max_model_len) <= found.usable_blocks
    assert found.blocks_of(found.max_model_len + 1) > found.usable_blocks


def concurrency(name: str, tokens: int, hybrid: bool) -> float:
    found = plan_blocks(
        layer_caches(load_model(name).layers, block_size=16),
        available_bytes=700 << 30,
        max_model_len=tokens,
        max_in_flight_tokens=16_384,
        hybrid_kv_cache=hybrid,
    )
    return found.max_concurrency


def test_hybrid_manager_lengthens_llama4_four_times() -> None:
    """48 layers, 12 of them global: Jenga's 3.7 M -> 14.7 M tokens, ratio 3.97."""
    ratio = concurrency("llama-4-scout", 3_500_000, True) / concurrency(
        "llama-4-scout", 3_500_000, False
    )
    assert ratio == pytest.approx(3.97, rel=0.02)


def test_hybrid_manager_changes_nothing_for_full_attention() -> None:
    assert concurrency("llama-3.1-8b", 8192, True) == concurrency("llama-3.1-8b", 8192, False)


def test_recurrent_state_fits_one_page() -> None:
    caches = layer_caches(load_model("qwen3.5-27b").layers, block_size=16)
    state = next(c for c in caches if c.kind == "recurrent")
    attention = next(c for c in caches if c.kind == "full")
    assert attention.page_bytes >= state.page_bytes
    assert attention.block_size % 16 == 0
    groups = group_layers(caches)
    assert [g.num_layers for g in groups] == [16, 16, 16, 16]
    assert len({g.page_bytes for g in groups}) == 1
    assert sum(g.blocks_of(10_000, 0) for g in groups if g.kind == "recurrent") == 3


def test_compressed_attention_is_packed() -> None:
    """DeepSeek-V4: latents of every layer in one block of 256 tokens, windows beside them."""
    layers = load_model("deepseek-v4-flash").layers
    latents, *windows = group_layers(layer_caches(layers, block_size=16, kv_cache_dtype="fp8"))
    assert latents.block_size == 256
    assert latents.page_bytes == 21 * 64 * (584 + 132) + 20 * 2 * 584
    assert sum(group.num_layers for group in windows) == 43
    assert {group.block_size for group in windows} == {64}
    assert all(group.page_bytes <= latents.page_bytes for group in windows)


def test_the_indexer_is_part_of_a_block() -> None:
    caches = layer_caches(load_model("deepseek-v3.2").layers, block_size=64)
    (group,) = group_layers(caches)
    assert group.page_bytes == 61 * 64 * (576 * 2 + 132)
