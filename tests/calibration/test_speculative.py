"""Drafters in the memory budget: weights, layers, slots, refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.memory import MemoryBudget, plan_memory
from kvsim.calibration.models import load_model
from kvsim.calibration.speculative import Speculation, read_speculation

EAGLE3 = {"method": "eagle3", "model": "eagle3-llama-3.1-8b", "num_speculative_tokens": 3}


def budget(model: str, config: dict[str, Any] | None, **flags: Any) -> MemoryBudget:
    target = load_model(model)
    text = None if config is None else json.dumps(config)
    drafter = read_speculation(text, target)
    gpu = load_gpu(flags.pop("gpu", "h100-sxm"))
    return plan_memory(model=target, gpu=gpu, speculation=drafter, **flags)


def line(found: MemoryBudget, name: str) -> int:
    return sum(line.bytes for line in found.lines if line.name == name)


def test_an_eagle_head_is_one_more_layer() -> None:
    plain, drafted = (budget("llama-3.1-8b", config) for config in (None, EAGLE3))
    assert drafted.kv_bytes_per_token == plain.kv_bytes_per_token // 32 * 33
    assert [group.num_layers for group in drafted.kv_groups] == [33]
    assert drafted.block_bytes == 33 * 65_536
    assert line(drafted, "draft_weights") == load_model("eagle3-llama-3.1-8b").weight_bytes
    assert line(plain, "draft_weights") == 0
    assert sum(item.bytes for item in drafted.lines) == drafted.total_bytes
    pool = plain.kv_cache_bytes - line(drafted, "draft_weights")
    assert drafted.kv_cache_bytes == pool


def test_a_draft_model_brings_its_own_layers() -> None:
    config = {"model": "llama-3.2-1b", "num_speculative_tokens": 5}  # the engine infers the method
    found = budget("llama-3.1-8b", config)
    assert found.kv_bytes_per_token == 131_072 + 32_768
    assert found.block_bytes == 16 * (131_072 + 32_768)
    assert line(found, "draft_weights") == load_model("llama-3.2-1b").weight_bytes
    assert found.speculative_slots == 10


def test_a_draft_of_one_gpu_beside_a_split_target() -> None:
    config = {**EAGLE3, "draft_tensor_parallel_size": 1}
    whole = budget("llama-3.1-8b", config, tensor_parallel_size=4)
    split = budget("llama-3.1-8b", EAGLE3, tensor_parallel_size=4)
    assert line(whole, "draft_weights") == load_model("eagle3-llama-3.1-8b").weight_bytes
    assert line(split, "draft_weights") < line(whole, "draft_weights")
    assert split.kv_bytes_per_token == 33 * 4096 // 4
    assert whole.kv_bytes_per_token == 32 * 4096 // 4 + 4096


def test_a_draft_that_does_not_split() -> None:
    config = {**EAGLE3, "draft_tensor_parallel_size": 2}
    with pytest.raises(ValueError, match=r"draft_tensor_parallel_size\(=2\) must be 1 or the tar"):
        budget("llama-3.1-8b", config, tensor_parallel_size=4)
    small = {"model": "qwen2.5-0.5b", "num_speculative_tokens": 2}  # 14 heads
    with pytest.raises(ValueError, match="must divide the 14 attention heads of qwen2"):
        budget("qwen3-8b", small, tensor_parallel_size=4)


def test_mtp_is_a_layer_of_the_checkpoint() -> None:
    config = {"method": "mtp", "num_speculative_tokens": 1}
    found = budget("deepseek-v3", config, gpu="h200", tensor_parallel_size=8)
    assert found.kv_bytes_per_token == 62 * 576 * 2
    weights = load_model("deepseek-v3").mtp_weights
    # the report's 14 B module less the embedding and head it shares with the model
    assert sum(group.num_parameters for group in weights) == pytest.approx(11.6e9, rel=0.01)


def test_ngram_takes_only_slots() -> None:
    found = budget("llama-3.1-8b", {"method": "ngram", "num_speculative_tokens": 4})
    plain = budget("llama-3.1-8b", None)
    assert found.kv_cache_bytes == plain.kv_cache_bytes
    assert found.speculative_slots == 4


@pytest.mark.parametrize(("tokens", "blocks"), [(10, 1), (11, 2), (26, 2), (27, 3), (8192, 512)])
def test_slots_of_a_request(tokens: int, blocks: int) -> None:
    """Three drafts to verify and three ahead, up to ``max_model_len``."""
    found = budget("llama-3.1-8b", EAGLE3, max_model_len=8192)
    assert found.speculative_slots == 6
    assert found.blocks_of(tokens) == blocks
    assert found.requests_of(tokens) == found.usable_blocks // blocks


def test_recurrent_layers_keep_a_state_for_each_draft() -> None:
    config = {"method": "mtp", "num_speculative_tokens": 2}
    found = budget("qwen3.5-27b", config, gpu="h200", max_model_len=8192)
    states = [group.num_states for group in found.kv_groups if group.kind == "recurrent"]
    assert states == [3, 3, 3]
    (attention,) = [group for group in found.kv_groups if group.kind != "recurrent"]
    assert found.blocks_of(10) == attention.blocks_of(14, 0) + 9
    assert "only its memory is planned" in found.notes[-1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "speculative_config is not valid JSON"),
        ("[]", r"speculative_config\(=\[\]\) must be a JSON object."),
        ('{"method": "x", "num_speculative_tokens": 3}', r"method\(='x'\) must be one of draft_"),
        ('{"num_speculative_tokens": 3}', r"method\(=None\) must be one of"),
        ('{"method": "ngram"}', "has no num_speculative_tokens."),
        ('{"method": "ngram", "num_speculative_tokens": 0}', r"num_speculative_tokens\(=0\) must"),
        ('{"method": "ngram", "num_speculative_tokens": "3"}', r"num_speculative_tokens\(='3'\)"),
        ('{"method": "ngram", "num_speculative_tokens": true}', r"num_speculative_tokens\(=True\)"),
        ('{"method": "draft_model", "num_speculative_tokens": 3}', "has no model, which method"),
        ('{"method": "mtp", "num_speculative_tokens": 3}', "has no multi-token-prediction layers."),
        ('{"model": 3, "num_speculative_tokens": 3}', r"model\(=3\) must be a name or a path."),
        ('{"model": "gpt-9", "num_speculative_tokens": 3}', r"model\(='gpt-9'\) is unknown"),
        (
            '{"model": "qwen3-0.6b", "num_speculative_tokens": 3}',
            r"model\(='qwen3-0.6b'\) must have the vocabulary of llama-3.1-8b: 151936 tokens, not",
        ),
        ('{"model": "eagle3-qwen3-8b", "num_speculative_tokens": 3}', "must have the vocabulary"),
        (
            '{"method": "eagle3", "model": "llama-3.2-1b", "num_speculative_tokens": 3}',
            "is a model of its own, not one for method",
        ),
        (
            '{"method": "draft_model", "model": "eagle3-qwen3-8b", "num_speculative_tokens": 3}',
            "is a draft head, not one for method",
        ),
        (
            '{"method": "eagle", "model": "eagle3-llama-3.1-8b", "num_speculative_tokens": 3}',
            "is a head for eagle3, not for method",
        ),
        ("{}", r"speculative_config: method\(=None\) must be one of"),
        (
            '{"method": "ngram", "num_speculative_tokens": 1001}',
            r"num_speculative_tokens\(=1001\) must be <= 1000.",
        ),
        (
            '{"model": "eagle3-llama-3.3-70b", "num_speculative_tokens": 3}',
            r"model\(='eagle3-llama-3.3-70b'\) must read hidden states of llama-3.1-8b: it is made "
            "for a width of 8192, not 4096.",
        ),
        ('{"foo": 1}', "speculative_config has foo; known are method, model"),
    ],
)
def test_refusals_are_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        read_speculation(text, load_model("llama-3.1-8b"))
    assert "\n" not in str(error.value)


def test_a_head_of_the_targets_shape_is_assumed() -> None:
    config = {"method": "eagle3", "num_speculative_tokens": 3}
    named, assumed = (budget("llama-3.1-8b", c) for c in (EAGLE3, config))
    assert line(assumed, "draft_weights") == line(named, "draft_weights")
    assert assumed.kv_groups == named.kv_groups
    assert "assumed: one layer of the shape of llama-3.1-8b" in assumed.notes[-1]
    with pytest.raises(ValueError, match="needs a model: deepseek-v3 keeps a latent KV"):
        read_speculation(json.dumps(config), load_model("deepseek-v3"))


def test_a_head_is_no_target() -> None:
    with pytest.raises(ValueError, match=r"is a draft head \(eagle3\): it goes into --specul"):
        budget("eagle3-llama-3.1-8b", None)


def test_no_config_is_no_drafter() -> None:
    assert read_speculation(None, load_model("llama-3.1-8b")) is None
    assert Speculation(method="ngram", num_speculative_tokens=2).slots == 2


def test_the_ngram_keys_take_no_memory() -> None:
    ngram = {"method": "ngram", "num_speculative_tokens": 4}
    looked_up = {**ngram, "prompt_lookup_max": 5, "prompt_lookup_min": 2}
    assert budget("llama-3.1-8b", looked_up) == budget("llama-3.1-8b", ngram)


def test_a_head_narrower_than_its_target() -> None:
    config = {"model": "eagle3-llama-3.3-70b", "num_speculative_tokens": 3}
    target = load_model("llama-3.1-70b")
    drafter = read_speculation(json.dumps(config), target)
    assert drafter is not None
    assert drafter.draft is not None
    assert (drafter.draft.hidden_size, drafter.draft.target_hidden_size) == (6144, 8192)


def test_more_drafts_than_the_longest_request() -> None:
    config = {"method": "ngram", "num_speculative_tokens": 500}
    with pytest.raises(ValueError, match=r"_tokens\(=500\) must be < max_model_len\(=500\)\."):
        budget("llama-3.1-8b", config, max_model_len=500)
