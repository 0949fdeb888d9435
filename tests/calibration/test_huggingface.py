"""The reader on every configuration that aiconfigurator-core ships, and on family rules."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kvsim.calibration.huggingface import spec_from_config
from kvsim.calibration.huggingface.quantization import checkpoint_kv_dtype, role_bits
from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import load_model

BILLIONS = re.compile(r"[-_](\d+(?:\.\d+)?)B(?:-|_|$)")
# Where the name does not say it, or says something else (Scout and Maverick name active ones).
NAMED_BILLIONS = {
    "DeepSeek-V3": 671,
    "DeepSeek-R1": 671,
    "DeepSeek-V4-Flash": 284,
    "Kimi-K2-Instruct": 1026,
    "Kimi-K2.5": 1026,
    "GLM-5": 744,
    "Llama-4-Scout-17B-16E-Instruct": 108,
    "Llama-4-Maverick-17B-128E-Instruct": 401,
    "Mixtral-8x7B-v0.1": 46.7,
    "Mixtral-8x22B-v0.1": 140.6,
    "MiniMax-M2.5": 229,
    "MiMo-V2-Flash": 309,
}


def shipped(folder: Path) -> list[ModelSpec]:
    files = [f for f in sorted(folder.glob("*_config.json")) if "hf_quant" not in f.name]
    return [load_model(str(file)) for file in files]


def test_every_shipped_config_reads(shipped_configs: Path) -> None:
    models = shipped(shipped_configs)
    assert len(models) >= 80
    for model in models:
        assert model.kv_bytes_per_token("bfloat16") > 0, model.name
        assert 0.25 < model.weight_bytes / model.num_parameters <= 2.0, model.name


def test_parameters_fit_the_names(shipped_configs: Path) -> None:
    checked = 0
    for model in shipped(shipped_configs):
        named = BILLIONS.search(model.name)
        expected = NAMED_BILLIONS.get(model.name) or (float(named[1]) if named else None)
        if expected is None or (model.name.startswith("Llama-4") and named is None):
            continue
        assert model.num_parameters / 1e9 == pytest.approx(expected, rel=0.17), model.name
        checked += 1
    assert checked >= 40


def read(**config: Any) -> ModelSpec:
    base = {
        "num_hidden_layers": 12,
        "hidden_size": 1024,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "intermediate_size": 4096,
        "vocab_size": 32000,
        "max_position_embeddings": 32768,
    }
    return spec_from_config({**base, **config}, name="m", source="test", where="config.json")


def kinds(model: ModelSpec) -> dict[str, int]:
    return {group.kind: group.num_layers for group in model.layers}


def test_window_rules() -> None:
    assert kinds(read(model_type="mistral", sliding_window=4096)) == {"sliding_window": 12}
    assert kinds(read(model_type="mistral", sliding_window=None)) == {"full": 12}
    assert kinds(read(model_type="mistral", sliding_window=32768)) == {"full": 12}
    assert kinds(read(model_type="gemma2")) == {"sliding_window": 6, "full": 6}
    assert kinds(read(model_type="gemma3_text")) == {"sliding_window": 10, "full": 2}
    gemma = read(model_type="gemma3_text", sliding_window_pattern=4)
    assert kinds(gemma) == {"sliding_window": 9, "full": 3}
    assert kinds(read(model_type="llama4_text")) == {"chunked_local": 9, "full": 3}


def test_qwen2_needs_its_switch() -> None:
    off = read(model_type="qwen2", sliding_window=4096)
    on = read(model_type="qwen2", sliding_window=4096, use_sliding_window=True, max_window_layers=8)
    assert kinds(off) == {"full": 12}
    assert kinds(on) == {"full": 8, "sliding_window": 4}


def test_nested_text_config() -> None:
    inner = {"num_hidden_layers": 4, "model_type": "gemma3_text"}
    model = read(model_type="gemma3", text_config={**inner, "hidden_size": 512})
    assert model.num_layers == 4
    assert model.tied_embeddings


def test_shared_kv_layers_hold_none() -> None:
    assert kinds(read(model_type="gemma4_text", num_kv_shared_layers=4)) == {"full": 8}


def test_recurrent_state() -> None:
    model = load_model("qwen3.5-27b")
    state = next(group for group in model.layers if group.kind == "recurrent")
    conv = (2 * 16 * 128 + 48 * 128) * 3 * 2
    assert state.state_bytes == conv + 48 * 128 * 128 * 4
    assert state.num_layers == 48


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [
        (None, 16),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2),
        ({"quant_method": "fp8"}, 8),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8),
        ({"quantization": {"quant_algo": "NVFP4"}}, 4.5),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}}},
            },
            8,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "g": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 32}}
                },
            },
            4.5,
        ),
    ],
)
def test_bits_of_mlp_weights(quantization: dict[str, Any] | None, bits: float) -> None:
    assert role_bits(quantization).get("mlp", 16) == pytest.approx(bits)


def test_mxfp4_is_for_experts_only() -> None:
    assert role_bits({"quant_method": "mxfp4"}) == {"experts": 4.25}


def test_excluded_roles_stay_wide() -> None:
    bits = role_bits({"quant_method": "fp8", "ignore": ["re:.*self_attn.*", "lm_head"]})
    assert "attention" not in bits
    assert bits["mlp"] == 8
    one_layer = role_bits({"quant_method": "fp8", "ignore": ["model.layers.0.self_attn.q_proj"]})
    assert one_layer["attention"] == 8


def test_checkpoint_asks_for_fp8_kv(tmp_path: Path) -> None:
    assert checkpoint_kv_dtype({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}) == "fp8"
    assert checkpoint_kv_dtype({"quantization": {"kv_cache_quant_algo": None}}) == "bfloat16"
    config = {
        "num_hidden_layers": 2,
        "hidden_size": 1024,
        "num_attention_heads": 8,
        "vocab_size": 1000,
        "max_position_embeddings": 2048,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    quantization = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quantization))
    model = load_model(str(tmp_path))
    assert model.checkpoint_kv_dtype == "fp8"
    assert model.kv_bytes_per_token() == model.kv_bytes_per_token("bfloat16") // 2


@pytest.mark.parametrize(
    "raw", [{"model_type": "bert"}, {"model_type": "t5", "is_encoder_decoder": True}]
)
def test_an_encoder_is_no_decoder(raw: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is no decoder-only language model"):
        spec_from_config(raw, name="x", source="test", where="config.json")


def test_an_unknown_weight_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"quant_method\(='weird'\)"):
        role_bits({"quant_method": "weird"})
