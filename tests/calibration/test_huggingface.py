"""The reader on family rules, quantisations, draft heads and foreign files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.huggingface import spec_from_config
from kvsim.calibration.huggingface.quantization import checkpoint_kv_dtype, role_bits
from kvsim.calibration.memory import plan_memory
from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import known_models, load_model
from support.command import loaded, run


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


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (
            {},
            "a file without model_type is no architecture that kvsim knows, and it has no num_hid",
        ),
        (
            {"hello": 1},
            "needs num_hidden_layers, hidden_size, num_attention_heads, vocab_size, max_",
        ),
        (
            {"model_type": "mpt", "d_model": 4096, "n_layers": 32},
            r"model_type\(='mpt'\) is no arch",
        ),
        (
            {"model_type": "rwkv", "hidden_size": 8},
            "it has no num_hidden_layers, num_attention_heads",
        ),
    ],
)
def test_an_unknown_architecture_says_what_it_needs(raw: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        spec_from_config(raw, name="x", source="test", where="config.json")
    assert str(error.value).startswith("config.json: ")
    assert str(error.value).count(". ") == 0


@pytest.mark.parametrize(
    "foreign",
    [
        {"model_type": "falcon", "multi_query": True},
        {"model_type": "jamba", "attn_layer_period": 8, "mamba_d_state": 16},
        {"model_type": "chatglm2", "multi_query_group_num": 2},
        {"model_type": "mllama_text_model", "cross_attention_layers": [3, 8]},
        {"model_type": "ernie4_5_moe", "moe_num_experts": 64},
    ],
)
def test_fields_that_kvsim_does_not_know_are_not_read_past(foreign: dict[str, Any]) -> None:
    """Without them the KV heads would come out wrong by a factor."""
    with pytest.raises(ValueError, match="may change what it takes") as error:
        read(**foreign)
    assert next(name for name in foreign if name != "model_type") in str(error.value)


def test_lightning_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="attn_type_list has layers of lightning attention"):
        read(model_type="minimax_text_01", attn_type_list=[0] * 11 + [1])
    assert kinds(read(model_type="minimax_m2", attn_type_list=[1] * 12)) == {"full": 12}


def test_an_unknown_name_of_a_known_shape_reads() -> None:
    assert kinds(read(model_type="brand_new")) == {"full": 12}


def test_recurrent_state_dtypes() -> None:
    """Absent: fp32 for Mamba-2, the model's dtype for a gated delta net."""
    net = {
        "model_type": "qwen3_next",
        "linear_num_value_heads": 32,
        "linear_num_key_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
    }
    conv = (2 * 16 * 128 + 32 * 128) * 3 * 2
    assert state_bytes(read(**net)) == conv + 32 * 128 * 128 * 2
    assert state_bytes(read(**net, mamba_ssm_dtype="float32")) == conv + 32 * 128 * 128 * 4
    assert state_bytes(load_model("nemotron-h-56b")) == (16_384 + 4096) * 3 * 2 + 16_384 * 256 * 4


def state_bytes(model: ModelSpec) -> int:
    return next(group.state_bytes for group in model.layers if group.kind == "recurrent")


def test_exclusions_by_layer() -> None:
    layers = {"attention": frozenset(range(4)), "mlp": frozenset({0}), "experts": frozenset({1, 2})}
    base = {"quant_algo": "NVFP4"}

    def bits(*names: str) -> dict[str, float]:
        return role_bits({**base, "exclude_modules": list(names)}, layers)

    assert bits("model.layers.0*", "model.layers.3.self_attn*")["attention"] == (16 + 4.5) / 2
    assert "mlp" not in bits("model.layers.0*")  # the only dense layer stays wide
    assert bits("model.layers.9*")["attention"] == 4.5
    small = (
        "model.layers.1.self_attn.k_norm",
        "model.layers.1.mlp.gate",
        "model.layers.1.mixer.conv1d",
    )
    assert bits(*small) == bits()


def test_eagle3_head() -> None:
    """The published head of Llama-3.1-8B: 425 million parameters, 850 MB."""
    head = load_model("eagle3-llama-3.1-8b")
    fc, query, key_value, output = 3 * 4096**2, 8192 * 4096, 2 * 8192 * 1024, 4096**2
    mlp, lm_head, norms = 3 * 4096 * 14_336, 32_000 * 4096, 4 * 4096
    assert head.num_parameters == fc + query + key_value + output + mlp + lm_head + norms
    assert head.draft_method == "eagle3"


def test_heads_in_wrappings() -> None:
    shape = {
        "num_hidden_layers": 1,
        "hidden_size": 1024,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "intermediate_size": 4096,
        "vocab_size": 32_000,
        "max_position_embeddings": 2048,
        "model_type": "llama",
    }
    speculators = {"speculators_model_type": "eagle3", "draft_vocab_size": 8000}
    raw = {**speculators, "transformer_layer_config": shape}
    wrapped = spec_from_config(raw, name="x", source="t", where="w")
    plain = spec_from_config({**speculators, **shape}, name="x", source="t", where="w")
    assert wrapped == plain
    assert wrapped.draft_method == "eagle3"
    first = spec_from_config(
        {"model_type": "eagle", "model": shape}, name="x", source="t", where="w"
    )
    assert first.draft_method == "eagle"
    assert not first.parameters_of("embedding", "lm_head")


PLAIN = {
    "architectures": ["FooBarForCausalLM"],
    "model_type": "foobar",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}


def test_an_unknown_architecture_that_reads_as_a_plain_decoder(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    said = "architecture FooBarForCausalLM is not known; read as a plain decoder"
    path.write_text(json.dumps(PLAIN))
    model = load_model(str(path))
    assert model.source.endswith(said)
    assert said in plan_memory(model=model, gpu=load_gpu("a100")).notes[0]
    step = loaded("cost", "--model", str(path), "--batch", "1x100")
    assert any(said in note for note in step["notes"])
    several = run("memory", "--model", f"{path},llama-3.1-8b")
    assert said in " ".join(several.stdout.split())
    path.write_text(json.dumps({**PLAIN, "model_type": "llama"}))
    assert load_model(str(path)).architecture_note is None


def test_no_model_of_the_catalogue_is_in_doubt() -> None:
    assert [m.name for m in known_models() if m.architecture_note] == []


def test_one_missing_field_of_an_unknown_architecture() -> None:
    raw = {name: value for name, value in PLAIN.items() if name != "max_position_embeddings"}
    sentence = (
        r"model_type\(='foobar'\) \(architecture FooBarForCausalLM\) is no architecture that kvsim "
        "knows, and it has no max_position_embeddings; a decoder's config.json needs"
    )
    with pytest.raises(ValueError, match=sentence):
        spec_from_config(raw, name="x", source="test", where="config.json")
