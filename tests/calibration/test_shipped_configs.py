"""Every ``config.json`` that aiconfigurator-core ships: kinds, KV bytes, parameters, weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import load_model

TOTAL = re.compile(r"[-_](\d+(?:\.\d+)?)B(?:-|_|$)")
ACTIVE = re.compile(r"-A(\d+)B")
# Billions where the name does not say it, says the active ones, or counts the vision tower.
NAMED_BILLIONS = {
    "DeepSeek-V3": 671,
    "DeepSeek-R1": 671,
    "DeepSeek-V4-Flash": 284,
    "DeepSeek-V4-Pro": 1600,
    "Kimi-K2-Instruct": 1026,
    "Kimi-K2.5": 1026,
    "GLM-5": 744,
    "Llama-4-Scout-17B-16E-Instruct": 108,
    "Llama-4-Maverick-17B-128E-Instruct": 401,
    "Mixtral-8x7B-v0.1": 46.7,
    "Mixtral-8x22B-v0.1": 140.6,
    "MiniMax-M2.5": 229,
    "MiniMax-M3": 428,
    "MiMo-V2-Flash": 309,
    "MiMo-7B-Base": 7.6,
    "Step-3.7-Flash": 196,
    "Qwen3-VL-2B-Instruct": 1.72,
    "Qwen3-VL-4B-Instruct": 4.02,
}
# name: layer kinds, bytes per token in 16 bit
READ: dict[str, tuple[dict[str, int], int]] = {
    "MiniMax-M2.5": ({"full": 62}, 253_952),
    "MiniMax-M3": ({"full": 60}, 122_880),
    "Qwen3-Coder-480B-A35B-Instruct": ({"full": 62}, 253_952),
    "Qwen3-VL-235B-A22B-Instruct": ({"full": 94}, 192_512),
    "Qwen3-VL-8B-Instruct": ({"full": 36}, 147_456),
    "Qwen3.5-397B-A17B": ({"recurrent": 45, "full": 15}, 30_720),
    "Qwen3.6-27B-NVFP4": ({"recurrent": 48, "full": 16}, 65_536),
    "MiMo-7B-Base": ({"full": 36}, 147_456),
    "MiMo-V2-Flash": ({"full": 9, "sliding_window": 39}, (9 * 4 + 39 * 8) * 320 * 2),
    "DeepSeek-V3": ({"mla": 61}, 70_272),
    "DeepSeek-V3.2": ({"mla": 61}, 70_272),
    "Kimi-K2-Instruct": ({"mla": 61}, 70_272),
    "Kimi-K2.5": ({"mla": 61}, 70_272),
    "Kimi-K3": ({"recurrent": 69, "mla": 24}, 24 * 576 * 2),
    "GLM-5": ({"mla": 78}, 89_856),
    "GLM-5.2": ({"mla": 78}, 89_856),
    "gemma-4-26B-A4B": ({"sliding_window": 25, "full": 5}, 225_280),
    "Gemma-4-31B-IT-NVFP4": ({"sliding_window": 50, "full": 10}, 901_120),
    "Llama-4-Scout-17B-16E-Instruct": ({"chunked_local": 36, "full": 12}, 196_608),
    "Llama-3_3-Nemotron-Super-49B-v1": ({"full": 49}, 200_704),
    "Nemotron-H-56B-Base-8K": ({"recurrent": 54, "full": 10}, 40_960),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ({"recurrent": 23, "full": 6}, 6_144),
    "NVIDIA-Nemotron-3-Super-120B-A12B-FP8": ({"recurrent": 40, "full": 8}, 8_192),
    "NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16": ({"recurrent": 48, "full": 12}, 12_288),
    "Step-3.7-Flash": ({"full": 12, "sliding_window": 33}, 184_320),
    "gpt-oss-20b": ({"sliding_window": 12, "full": 12}, 49_152),
    "Mixtral-8x22B-v0.1": ({"full": 56}, 229_376),
}
# Bits per weight by role (absent: 16), and what ``auto`` means for the KV cache.
QUANTISED: dict[str, tuple[dict[str, float], str]] = {
    "GLM-5-FP8": (
        dict.fromkeys(("attention", "mlp", "experts", "shared_experts"), 8 + 32 / 128**2),
        "bfloat16",
    ),
    "Kimi-K2.5": ({"experts": 4.5}, "bfloat16"),
    # of its attention only the output projection is in four bits
    "DeepSeek-V3.1-NVFP4": (
        {
            **dict.fromkeys(("mlp", "experts", "shared_experts"), 4.5),
            "attention": 16 - 11.5 * 16_384 * 7168 / 187_107_328,
        },
        "fp8",
    ),
    "GLM-5.1-NVFP4": ({"experts": 4.5}, "fp8"),  # its dense layers are 0 to 2, excluded whole
    "Qwen3-235B-A22B-NVFP4": (dict.fromkeys(("attention", "experts"), 4.5), "fp8"),
    "Llama-3.1-70B-Instruct-FP8": (dict.fromkeys(("attention", "mlp"), 8.0), "fp8"),
    "gpt-oss-120b": ({"experts": 4.25}, "bfloat16"),
    "DeepSeek-V4-Flash": (
        {**dict.fromkeys(("attention", "shared_experts"), 8 + 32 / 128**2), "experts": 4.25},
        "bfloat16",
    ),
    "DeepSeek-V4-Flash-NVFP4": (
        {**dict.fromkeys(("attention", "shared_experts"), 8 + 32 / 128**2), "experts": 4.5},
        "bfloat16",
    ),
    "MiniMax-M3-NVFP4": (
        {**dict.fromkeys(("attention", "mlp", "shared_experts"), 8.25), "experts": 4.5},
        "bfloat16",
    ),
    # 6 of 23 Mamba layers and all 6 attention layers are left in 16 bits
    "NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4": (
        {"attention": (12 * 16 + 17 * 4.5) / 29, "experts": 4.5, "shared_experts": 4.5},
        "fp8",
    ),
    "Qwen3.6-27B-NVFP4": ({"attention": 8.0, "mlp": 4.5, "lm_head": 4.5}, "fp8"),
}


@pytest.fixture(scope="module")
def shipped(shipped_configs: Path) -> dict[str, ModelSpec]:
    files = [f for f in shipped_configs.glob("*_config.json") if "hf_quant" not in f.name]
    models = [load_model(str(file)) for file in sorted(files)]
    return {model.name: model for model in models}


def test_every_one_reads(shipped: dict[str, ModelSpec]) -> None:
    assert len(shipped) >= 80
    for model in shipped.values():
        assert model.kv_bytes_per_token("bfloat16") > 0, model.name
        assert 0.25 < model.weight_bytes / model.num_parameters <= 2.0, model.name


def test_parameters_fit_the_names(shipped: dict[str, ModelSpec]) -> None:
    checked = 0
    for name, model in shipped.items():
        named = TOTAL.search(name)
        expected = NAMED_BILLIONS.get(name) or (float(named[1]) if named else None)
        if expected is None or (name.startswith("Llama-4") and name not in NAMED_BILLIONS):
            continue
        tolerance = 0.13 if "Nano" in name or "Gemma" in name.title() else 0.06
        assert model.num_parameters / 1e9 == pytest.approx(expected, rel=tolerance), name
        checked += 1
    assert checked >= 60


def test_active_parameters_fit_the_names(shipped: dict[str, ModelSpec]) -> None:
    """Within 20 %: a name of A3B is 3.35 billion with the embedding table."""
    named = [(ACTIVE.search(name), model) for name, model in shipped.items()]
    found = [(int(match[1]), model) for match, model in named if match]
    assert len(found) >= 15
    for expected, model in found:
        assert model.num_active_parameters / 1e9 == pytest.approx(expected, rel=0.2), model.name


@pytest.mark.parametrize("name", READ)
def test_kinds_and_bytes(shipped: dict[str, ModelSpec], name: str) -> None:
    kinds: dict[str, int] = {}
    for group in shipped[name].layers:
        kinds[group.kind] = kinds.get(group.kind, 0) + group.num_layers
    assert (kinds, shipped[name].kv_bytes_per_token("bfloat16")) == READ[name]


@pytest.mark.parametrize("name", QUANTISED)
def test_weight_formats(shipped: dict[str, ModelSpec], name: str) -> None:
    model = shipped[name]
    bits = {g.role: g.bits_per_parameter for g in model.weights if g.bits_per_parameter != 16}
    expected, kv_dtype = QUANTISED[name]
    assert bits == pytest.approx(expected)
    assert model.checkpoint_kv_dtype == kv_dtype


def test_indexers(shipped: dict[str, ModelSpec]) -> None:
    """GLM-5.2 has one for 21 of its 78 layers, MiniMax-M3 for all but the first three."""
    assert indexed(shipped["GLM-5"]) == (78, 132)
    assert indexed(shipped["GLM-5.2"]) == (21, 132)
    assert indexed(shipped["MiniMax-M3"]) == (57, 256)


def indexed(model: ModelSpec) -> tuple[int, int]:
    """Layers with an indexer, bytes of a key."""
    groups = [group for group in model.layers if group.index_head_dim]
    (size,) = {group.index_bytes_per_token for group in groups}
    return sum(group.num_layers for group in groups), size


def test_deepseek_v4_keeps_a_window_and_compressed_latents(shipped: dict[str, ModelSpec]) -> None:
    window, dense, sparse = shipped["DeepSeek-V4-Flash"].layers
    assert (window.kind, window.num_layers, window.window_tokens) == ("sliding_window", 43, 128)
    assert window.state_bytes_per_token("bfloat16") == 1024  # one vector is key and value
    assert (dense.num_layers, dense.tokens_per_state, dense.index_head_dim) == (21, 4, 128)
    assert (sparse.num_layers, sparse.tokens_per_state, sparse.index_head_dim) == (20, 128, 0)
