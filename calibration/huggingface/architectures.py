"""Whether a configuration is one that the fields explain: a decoder with the fields it needs.

A family that is not known by name is read by its fields, as long as it has those of ``NEEDED`` and
none of ``FOREIGN``: fields by which some architecture keeps its KV or its experts in a way of its
own, so that reading the rest would give a wrong number instead of an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .fields import Fields

NO_DECODERS = (
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "albert", "electra", "deberta"),
    *("t5", "mt5", "umt5", "bart", "mbart", "pegasus", "marian", "m2m_100", "nllb"),
    *("whisper", "wav2vec2", "hubert", "clip", "siglip", "vit", "dinov2", "modernbert"),
)
KNOWN_FAMILIES = (
    *("llama", "mistral", "ministral", "mixtral", "qwen2", "qwen3", "gemma", "phi", "opt", "gpt2"),
    *("gpt_oss", "deepseek", "kimi", "glm", "minimax", "mimo", "step3", "nemotron"),
)
"""Beginnings of ``model_type`` values whose rules this folder knows."""
NEEDED = (
    ("num_hidden_layers", "n_layer", "num_layers"),
    ("hidden_size", "n_embd"),
    ("num_attention_heads", "n_head"),
    ("vocab_size",),
    ("max_position_embeddings", "n_positions", "seq_length", "model_max_length"),
)
LAYER_LISTS = ("hybrid_override_pattern", "layers_block_type", "block_configs")
"""Any of them replaces ``num_hidden_layers``."""
FOREIGN = (
    *("multi_query", "new_decoder_architecture", "multi_query_group_num", "attn_config"),
    *("attn_layer_period", "attn_layer_indices", "full_attn_idxs", "hybrid_layer_ids"),
    *("mamba_d_state", "ssm_cfg", "state_size", "rwkv_version", "conv_L_cache", "lru_width"),
    *("cross_attention_layers", "kv_channels", "d_model", "use_cla", "zero_expert_num"),
    *("moe_num_experts", "moe_k", "num_moe_experts"),
)


def check_decoder(raw: Mapping[str, Any], fields: Fields) -> None:
    """Whether it can be read.

    Raises:
        ValueError: an encoder, or an unknown architecture that lacks fields or has foreign ones;
            the sentence names the fields that are needed.
    """
    kind = str(raw.get("model_type", ""))
    if raw.get("is_encoder_decoder") is True or kind.startswith(NO_DECODERS):
        raise ValueError(
            f"{fields.where}: model_type(={kind!r}) is no decoder-only language model."
        )
    if 0 in (fields.entries("attn_type_list") or ()):  # MiniMax-Text-01
        raise ValueError(_sentence(fields, "attn_type_list has layers of lightning attention"))
    if fields.family.startswith(KNOWN_FAMILIES):
        return
    missing = [names[0] for names in _needed(fields) if not fields.has(*names)]
    foreign = [name for name in FOREIGN if fields.value(name)]
    if missing:
        raise ValueError(_sentence(fields, f"it has no {', '.join(missing)}"))
    if foreign:
        raise ValueError(_sentence(fields, f"{', '.join(foreign)} may change what it takes"))


def unknown_architecture(raw: Mapping[str, Any], fields: Fields) -> str | None:
    """What a configuration of no known family calls itself; None where the family is known."""
    if fields.family.startswith(KNOWN_FAMILIES):
        return None
    listed = raw.get("architectures")
    named = listed[0] if isinstance(listed, list) and listed else fields.family
    return f"architecture {named}" if named else "a file without model_type"


def _needed(fields: Fields) -> tuple[tuple[str, ...], ...]:
    return NEEDED[1:] if fields.has(*LAYER_LISTS) else NEEDED


def _sentence(fields: Fields, reason: str) -> str:
    what = f"model_type(={fields.family!r})" if fields.family else "a file without model_type"
    listed = fields.raw.get("architectures")
    if isinstance(listed, list) and listed:
        what += f" (architecture {listed[0]})"
    return (
        f"{fields.where}: {what} is no architecture that kvsim knows, and {reason}; a decoder's "
        f"config.json needs {', '.join(names[0] for names in NEEDED)} (and num_key_value_heads, "
        "head_dim, intermediate_size, layer_types where they differ from the usual)."
    )
