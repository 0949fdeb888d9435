"""From a Hugging Face ``config.json`` to a :class:`ModelSpec`.

What a family leaves unsaid (OPT's biases, Gemma's four norms) is in the small tables of this
folder; everything else follows from the fields, so that a new name of a known shape still reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..json_files import read_json
from ..model_spec import ModelSpec, WeightGroup
from .attention import attention_parameters
from .fields import Fields
from .kv import kv_layers, kv_shape
from .layers import Layer, read_layers
from .mlp import dense_intermediate_size, mlp_parameters, read_experts
from .quantization import FULL_BITS, MXFP4_BITS, checkpoint_kv_dtype, role_bits
from .towers import tower_parameters

TIED_BY_DEFAULT = ("opt", "gemma", "gpt2", "cohere")
FOUR_NORMS = ("gemma2", "gemma3", "gemma4")
OPT_POSITION_OFFSET = 2
NO_DECODERS = (
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "albert", "electra", "deberta"),
    *("t5", "mt5", "umt5", "bart", "mbart", "pegasus", "marian", "m2m_100", "nllb"),
    *("whisper", "wav2vec2", "hubert", "clip", "siglip", "vit", "dinov2", "modernbert"),
)


def read_config(path: Path) -> ModelSpec:
    """Read a ``config.json`` (or the folder that holds one) and the quantisation file beside it.

    Raises:
        ValueError: unreadable, or a field missing or wrong; the sentence names file and field.
    """
    file = path / "config.json" if path.is_dir() else path
    raw = read_json(file)
    beside = file.with_name(file.name.replace("config.json", "hf_quant_config.json"))
    if beside != file and beside.exists():
        raw = {"quantization_config": read_json(beside), **raw}
    name = path.name if path.is_dir() else _stem(file)
    return spec_from_config(raw, name=name, source=f"config.json ({name})", where=str(file))


def _stem(file: Path) -> str:
    stem = file.name.removesuffix("config.json").rstrip("_-.")
    return stem.split("--")[-1] or file.resolve().parent.name


def spec_from_config(raw: Mapping[str, Any], *, name: str, source: str, where: str) -> ModelSpec:
    """The specification that a configuration describes.

    Raises:
        ValueError: a field missing or wrong.
    """
    _check_decoder(raw, where)
    fields = Fields(raw, where)
    layers = read_layers(fields)
    experts = read_experts(fields)
    quantization = _quantization(fields)
    groups = kv_layers(fields, layers)
    if not groups:
        raise ValueError(f"{where} has no layer that keeps state: it is no decoder.")
    has_dense = any(layer.mlp == "dense" for layer in layers) or fields.flag("enable_moe_block")
    return ModelSpec(
        name=name,
        source=source,
        layers=groups,
        weights=_weights(fields, layers, _bits(fields, quantization)),
        num_layers=len(layers),
        hidden_size=fields.positive("hidden_size", "n_embd"),
        num_heads=fields.positive("num_attention_heads", "n_head"),
        vocab_size=fields.positive("vocab_size"),
        intermediate_size=dense_intermediate_size(fields) if has_dense else 0,
        max_position_embeddings=fields.positive(
            "max_position_embeddings", "n_positions", "seq_length", "model_max_length"
        ),
        tied_embeddings=_tied(fields),
        checkpoint_kv_dtype=checkpoint_kv_dtype(quantization),
        num_experts=experts.count,
        experts_per_token=experts.per_token,
        expert_intermediate_size=experts.intermediate_size,
        shared_expert_intermediate_size=experts.shared_intermediate_size,
        multimodal="text_config" in raw or "vision_config" in raw,
        tower_parameters=tower_parameters(raw, fields.positive("hidden_size", "n_embd")),
    )


def _check_decoder(raw: Mapping[str, Any], where: str) -> None:
    kind = str(raw.get("model_type", ""))
    if raw.get("is_encoder_decoder") is True or kind.startswith(NO_DECODERS):
        raise ValueError(f"{where}: model_type(={kind!r}) is no decoder-only language model.")


def _quantization(fields: Fields) -> Mapping[str, Any] | None:
    value = fields.value("quantization_config")
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{fields.where}: quantization_config(={value!r}) must be an object.")
    return value


def _bits(fields: Fields, quantization: Mapping[str, Any] | None) -> dict[str, float]:
    """By role; DeepSeek-V4 says apart from the rest that its experts are in four bits."""
    try:
        bits = role_bits(quantization)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
        raise ValueError(
            f"{fields.where}: quantization_config does not follow any known quantisation format."
        ) from None
    return {**bits, "experts": MXFP4_BITS} if fields.value("expert_dtype") == "fp4" else bits


def _tied(fields: Fields) -> bool:
    default = fields.family.startswith(TIED_BY_DEFAULT)
    return fields.flag("tie_word_embeddings", default=default)


def _weights(
    fields: Fields, layers: list[Layer], bits: Mapping[str, float]
) -> tuple[WeightGroup, ...]:
    experts = read_experts(fields)
    attention = [attention_parameters(fields, layer) for layer in layers]
    mlp = [mlp_parameters(fields, layer, experts) for layer in layers]
    vocab = fields.positive("vocab_size") * _embedding_width(fields)
    kv_shards = _kv_heads(fields, layers)
    rows: list[tuple[str, int, int | None]] = [
        ("embedding", vocab, None),
        ("embedding", _other_embeddings(fields), 1),
        ("lm_head", 0 if _tied(fields) else vocab, None),
        ("attention", sum(a.by_head for a in attention), None),
        ("attention", sum(a.by_kv_head for a in attention), kv_shards),
        ("attention", sum(a.replicated for a in attention), 1),
        ("mlp", sum(m.dense for m in mlp), None),
        ("experts", sum(m.experts for m in mlp), None),
        ("shared_experts", sum(m.shared for m in mlp), None),
        ("router", sum(m.router for m in mlp), 1),
        ("norms", _norms(fields, layers), 1),
    ]
    return tuple(
        WeightGroup(
            role=role,
            num_parameters=number,
            bits_per_parameter=bits.get(role, FULL_BITS),
            max_shards=shards,
        )
        for role, number, shards in rows
        if number
    )


def _kv_heads(fields: Fields, layers: list[Layer]) -> int:
    """Over how many GPUs the K and V projections split."""
    plain = [layer for layer in layers if layer.attention not in ("none", "mla", "recurrent")]
    return max((kv_shape(fields, layer)[0] for layer in plain), default=1)


def _embedding_width(fields: Fields) -> int:
    """OPT-350m embeds in a narrower space."""
    return fields.positive("word_embed_proj_dim", "hidden_size", "n_embd")


def _other_embeddings(fields: Fields) -> int:
    """Learned positions (OPT), per-layer inputs (Gemma-4)."""
    hidden = fields.positive("hidden_size", "n_embd")
    if fields.family == "opt":
        return (fields.positive("max_position_embeddings") + OPT_POSITION_OFFSET) * hidden
    per_layer = fields.count("hidden_size_per_layer_input", default=0)
    if not per_layer:
        return 0
    rows = fields.positive("vocab_size_per_layer_input", "vocab_size")
    return rows * per_layer * fields.positive("num_hidden_layers")


def _norms(fields: Fields, layers: list[Layer]) -> int:
    """Two norms a layer (one for a layer that is attention or MLP alone), one at the end."""
    hidden = fields.positive("hidden_size", "n_embd")
    size = 2 * hidden if fields.family in ("opt", "phi", "gpt2") else hidden
    if fields.family.startswith(FOUR_NORMS):
        per_model = 4 * len(layers)
    else:
        per_model = sum((a.attention != "none") + (a.mlp != "none") for a in layers)
    return (per_model + 1) * size
