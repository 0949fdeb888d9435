"""Models: bytes per token, parameters and weights against published figures; names; bad files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.calibration.models import ModelSpec, known_models, load_model

BYTES_PER_TOKEN = {
    "opt-13b": 819_200,
    "opt-66b": 2_359_296,
    "opt-175b": 4_718_592,
    "llama-2-7b": 524_288,
    "llama-2-13b": 819_200,
    "llama-2-70b": 327_680,
    "llama-3.1-8b": 131_072,
    "llama-3.1-70b": 327_680,
    "llama-3.1-405b": 516_096,
    "llama-3.2-1b": 32_768,
    "llama-4-scout": 196_608,
    "llama-4-maverick": 196_608,
    "mistral-7b": 131_072,
    "mistral-7b-v0.1": 131_072,
    "mixtral-8x7b": 131_072,
    "mixtral-8x22b": 229_376,
    "mistral-small-24b": 163_840,
    "mistral-nemo-12b": 163_840,
    "yi-6b": 65_536,
    "yi-34b": 245_760,
    "qwen2.5-1.5b": 28_672,
    "qwen2.5-3b": 36_864,
    "qwen2.5-7b": 57_344,
    "qwen2.5-14b": 196_608,
    "qwen2.5-32b": 262_144,
    "qwen2.5-72b": 327_680,
    "qwen3-0.6b": 114_688,
    "qwen3-1.7b": 114_688,
    "qwen3-4b": 147_456,
    "qwen3-8b": 147_456,
    "qwen3-14b": 163_840,
    "qwen3-32b": 262_144,
    "qwen3-30b-a3b": 98_304,
    "qwen3-235b-a22b": 192_512,
    "qwen3-coder-480b": 253_952,
    "qwen3.5-27b": 65_536,
    "qwen3.5-35b-a3b": 20_480,
    "qwen3.5-122b": 24_576,
    "qwen3.5-397b": 30_720,
    "gemma-2-9b": 344_064,
    "gemma-2-27b": 376_832,
    "gemma-3-4b": 139_264,
    "gemma-3-12b": 393_216,
    "gemma-3-27b": 507_904,
    "gemma-4-26b-a4b": 25 * 8 * 512 * 2 + 5 * 2 * 1024 * 2,
    "phi-3-mini": 393_216,
    "phi-3-medium": 204_800,
    "phi-4": 204_800,
    "deepseek-v2-lite": 31_104,
    "deepseek-v2": 69_120,
    "deepseek-v3": 70_272,
    "deepseek-r1": 70_272,
    "kimi-k2": 70_272,
    "kimi-k2.5": 70_272,
    "qwen2-7b": 57_344,
    "glm-5": 89_856,
    "gpt-oss-20b": 49_152,
    "gpt-oss-120b": 73_728,
    "minimax-m2.5": 253_952,
}
PARAMETERS = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "mistral-7b-v0.1": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "opt-125m": 125_239_296,
    "opt-13b": 12_853_473_280,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-32b": 32_763_876_352,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-1b": 999_885_952,
    "phi-4": 14_659_507_200,
    "yi-6b": 6_061_035_520,
    "yi-34b": 34_388_917_248,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_419_200,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
}


@pytest.mark.parametrize(("name", "expected"), BYTES_PER_TOKEN.items())
def test_bytes_per_token(name: str, expected: int) -> None:
    assert load_model(name).kv_bytes_per_token("bfloat16") == expected


@pytest.mark.parametrize(("name", "expected"), PARAMETERS.items())
def test_parameters_are_the_published_count(name: str, expected: int) -> None:
    assert load_model(name).num_parameters == expected


def test_weight_bytes() -> None:
    assert load_model("llama-3.1-8b").weight_bytes == 16_060_522_496
    # published checkpoints, GB on disk
    assert load_model("gpt-oss-20b").weight_bytes == pytest.approx(13.76e9, rel=0.01)
    assert load_model("gpt-oss-120b").weight_bytes == pytest.approx(65.25e9, rel=0.01)
    assert load_model("opt-175b").num_parameters == pytest.approx(175e9, rel=0.01)


def test_active_parameters_of_a_mixture() -> None:
    assert load_model("mixtral-8x7b").num_active_parameters == pytest.approx(12.9e9, rel=0.01)
    assert load_model("qwen3-30b-a3b").num_active_parameters == pytest.approx(3.35e9, rel=0.01)
    assert load_model("deepseek-v3").num_active_parameters == pytest.approx(37.5e9, rel=0.02)


def test_heads_are_replicated_when_tensor_parallelism_exceeds_them() -> None:
    model = load_model("qwen2.5-7b")  # 4 KV heads
    assert model.kv_bytes_per_token(tensor_parallel_size=4) == 57_344 // 4
    assert model.kv_bytes_per_token(tensor_parallel_size=28) == 57_344 // 4


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        ("llama-3.1-8b", 3, r"tensor_parallel_size\(=3\) must divide the 32 attention heads of"),
        ("phi-3-medium", 4, r"tensor_parallel_size\(=4\) must divide the 10 KV heads of phi-3"),
        ("qwen2.5-7b", 14, "the 4 KV heads of qwen2.5-7b, or be a multiple of them."),
        ("llama-3.1-8b", 0, r"tensor_parallel_size\(=0\) must be > 0."),
    ],
)
def test_tensor_parallel_that_does_not_divide(name: str, size: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_model(name).check_tensor_parallel(size)


def test_a_latent_is_on_every_gpu() -> None:
    model = load_model("deepseek-v3")
    assert model.kv_bytes_per_token(tensor_parallel_size=8) == model.kv_bytes_per_token()
    assert model.kv_bytes_per_token("fp8_ds_mla") == 61 * 656


def test_kv_dtypes() -> None:
    model = load_model("llama-3.1-8b")
    assert model.kv_bytes_per_token("fp8") == 65_536
    assert model.kv_bytes_per_token("int8_per_token_head") == 32 * 8 * (256 + 8)
    assert model.kv_bytes_per_token("nvfp4") == 32 * 8 * 2 * (64 + 8)
    with pytest.raises(ValueError, match=r"kv_cache_dtype\(='fp9'\) is unknown; near: .*fp8"):
        model.kv_bytes_per_token("fp9")


def test_weights_split_over_gpus() -> None:
    model = load_model("llama-3.1-70b")
    one, four = model.weight_bytes_per_gpu(1), model.weight_bytes_per_gpu(4)
    assert one == model.weight_bytes
    assert one / 4 < four < one / 4 * 1.001  # norms are on every GPU


@pytest.mark.parametrize(
    "spelling",
    [
        "Llama-3.1-8B",
        "llama_3.1_8b",
        "LLAMA 3.1 8B",
        "meta-llama/Llama-3.1-8B-Instruct",
        "meta-llama/Meta-Llama-3.1-8B",
        "META-LLAMA/llama-3.1-8b-instruct",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    ],
)
def test_spellings(spelling: str) -> None:
    assert load_model(spelling).name == "llama-3.1-8b"


@pytest.mark.parametrize(
    ("hub_id", "name"),
    [
        ("Qwen/Qwen3-8B-AWQ", "qwen3-8b-awq"),
        ("qwen/qwen2.5-7b-instruct-gptq-int4", "qwen2.5-7b-gptq-int4"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "llama-3.1-8b-w8a8"),
        ("nvidia/DeepSeek-V3.1-NVFP4", "deepseek-v3.1-nvfp4"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),
        ("moonshotai/Kimi-K2.5", "kimi-k2.5"),
        ("deepseek-ai/DeepSeek-V3-0324", "deepseek-v3"),
        ("yuhuili/EAGLE3-LLaMA3.1-Instruct-8B", "eagle3-llama-3.1-8b"),
    ],
)
def test_hub_ids(hub_id: str, name: str) -> None:
    assert load_model(hub_id).name == name


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("llama-3.1-8b-fp8", 9.08),
        ("llama-3.1-8b-w8a8", 9.08),
        ("llama-3.1-70b-awq", 39.77),
        ("qwen2.5-7b-awq", 5.57),
        ("qwen2.5-7b-gptq-int4", 5.57),
        ("qwen3-30b-a3b-gptq-int4", 16.8),
        ("llama-3.1-8b-nvfp4", 6.03),
    ],
)
def test_quantised_checkpoints(name: str, gigabytes: float) -> None:
    """Linear weights in the format, embedding and LM head in 16 bits."""
    assert load_model(name).weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.002)


@pytest.mark.parametrize("name", ["", "gpt-9", "llama-3.1-9b", "/no/such/folder"])
def test_unknown_name_is_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="is unknown") as error:
        load_model(name)
    assert "\n" not in str(error.value)


def test_near_matches() -> None:
    with pytest.raises(
        ValueError, match=r"model\(='somebody/Llama-3.1-9B'\) .*near: .*llama-3.1-8b"
    ):
        load_model("somebody/Llama-3.1-9B")
    with pytest.raises(ValueError, match=r"near: .*llama-3.1-8b"):
        load_model("llama-3.1-9b")


def test_catalogue() -> None:
    models = known_models()
    assert len(models) >= 130
    assert all(len(model.source) > len("catalogue: ") for model in models)
    assert all(model.source.startswith("catalogue: ") for model in models)
    assert [model.name for model in models] == sorted(model.name for model in models)


def test_catalogue_agrees_with_the_shipped_files(shipped_configs: Path) -> None:
    """What aiconfigurator-core carries was copied from there, quantised checkpoints too."""
    compared = set()
    for file in shipped_configs.glob("*_config.json"):
        name = file.name.removesuffix("_config.json").replace("--", "/")
        try:
            known = load_model(name)
        except ValueError:
            continue
        assert shape(load_model(str(file))) == shape(known), name
        compared.add(known.name)
    copied = {model.name for model in known_models() if "aiconfigurator-core" in model.source}
    assert copied <= compared
    assert len(copied) >= 70


def shape(model: ModelSpec) -> tuple[object, ...]:
    return (
        *(model.layers, model.weights, model.vocab_size, model.max_position_embeddings),
        *(model.checkpoint_kv_dtype, model.mtp_layers, model.mtp_weights),
    )


def test_folder_with_config(tmp_path: Path) -> None:
    write(tmp_path, LLAMA)
    model = load_model(str(tmp_path))
    assert model.kv_bytes_per_token() == 131_072
    assert str(tmp_path.parent) not in model.source


LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}


def write(folder: Path, config: object) -> str:
    file = folder / "config.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    return str(file)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_hidden_layers": None}, "has no num_hidden_layers."),
        ({"num_hidden_layers": "x"}, r"num_hidden_layers\(='x'\) must be a whole number >= 1."),
        ({"vocab_size": 0}, r"vocab_size\(=0\) must be"),
        ({"hidden_size": 12.5}, r"hidden_size\(=12.5\) must be"),
        ({"num_attention_heads": 7}, r"num_attention_heads\(=7\) must divide hidden_size\(=4096\)"),
        ({"layer_types": ["full_attention"]}, "layer_types has 1 entries"),
        ({"layer_types": ["odd"] * 32}, "layer_types has 'odd', known are"),
        ({"layer_types": 3}, r"layer_types\(=3\) must be a list."),
        ({"tie_word_embeddings": "no"}, r"tie_word_embeddings\(='no'\) must be true or false."),
        ({"text_config": []}, r"text_config\(=\[\]\) must be an object."),
        ({"num_experts": 8}, "has no num_experts_per_tok."),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, "has no qk_nope_head_dim."),
        ({"quantization_config": "fp8"}, r"quantization_config\(='fp8'\) must be an object."),
        ({"kv_lora_rank": 512}, "has no qk_rope_head_dim."),
        ({"num_hidden_layers": 10**30}, "must be <= 10000."),
        ({"hybrid_override_pattern": "MX"}, "hybrid_override_pattern has"),
        ({"hybrid_override_pattern": 1}, r"hybrid_override_pattern\(=1\) must be a string."),
        ({"linear_attn_config": {}, "hidden_size": 4096}, "linear_attn_config has no num_heads."),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": 1}}, "any known"),
    ],
)
def test_bad_config_is_one_sentence(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    file = write(tmp_path, {**LLAMA, **change})
    with pytest.raises(ValueError, match=sentence) as error:
        load_model(file)
    assert str(error.value).startswith(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_corrupt_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=r"config\.json (is not valid JSON|must hold)"):
        load_model(file)


def test_absent_file() -> None:
    with pytest.raises(ValueError, match=r"absent\.json cannot be read: no such file"):
        load_model("absent.json")
