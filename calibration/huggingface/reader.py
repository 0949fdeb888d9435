"""From a Hugging Face ``config.json`` to a :class:`ModelSpec`.

What a family leaves unsaid (OPT's biases, Gemma's four norms) is in the small tables of this
folder; everything else follows from the fields, so that a new name of a known shape still reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..json_files import read_json
from ..model_spec import ModelSpec, WeightGroup
from ..weight_formats import FULL_BITS, MXFP4_BITS
from .architectures import check_decoder, unknown_architecture
from .attention import attention_parameters, latent_output_share
from .drafts import (
    WeightRow,
    draft_method,
    flattened_head,
    head_rows,
    mtp_in_16_bits,
    mtp_layers,
    mtp_rows,
    target_width,
)
from .fields import Fields
from .kv import kv_layers, kv_layers_of, kv_shape
from .layers import Layer, read_layers
from .mlp import dense_intermediate_size, mlp_parameters, read_experts
from .quantization import checkpoint_kv_dtype, excluded_modules, role_bits
from .quantized_modules import RoleLayers
from .towers import tower_parameters

TIED_BY_DEFAULT = ("opt", "gemma", "gpt2", "cohere")
FOUR_NORMS = ("gemma2", "gemma3", "gemma4")
OPT_POSITION_OFFSET = 2


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
    spec = spec_from_config(raw, name=name, source=f"config.json ({name})", where=str(file))
    doubt = spec.architecture_note
    return replace(spec, source=f"{spec.source}; {doubt}") if doubt else spec


def _stem(file: Path) -> str:
    stem = file.name.removesuffix("config.json").rstrip("_-.")
    return stem.split("--")[-1] or file.resolve().parent.name


def spec_from_config(raw: Mapping[str, Any], *, name: str, source: str, where: str) -> ModelSpec:
    """The specification that a configuration describes.

    Raises:
        ValueError: a field missing or wrong.
    """
    fields = Fields(flattened_head(raw), where)
    check_decoder(raw, fields)
    layers = read_layers(fields)
    experts = read_experts(fields)
    quantization = _quantization(fields)
    groups = kv_layers(fields, layers)
    if not groups:
        raise ValueError(f"{where} has no layer that keeps state: it is no decoder.")
    bits = _bits(fields, layers, quantization)
    method, mtp = draft_method(fields), mtp_layers(fields, layers)
    wide_mtp = mtp_in_16_bits(excluded_modules(quantization), len(layers))
    has_dense = any(layer.mlp == "dense" for layer in layers) or fields.flag("enable_moe_block")
    return ModelSpec(
        name=name,
        source=source,
        layers=groups,
        weights=_weights(fields, layers, bits, method),
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
        draft_method=method,
        target_hidden_size=target_width(fields) if method is not None else 0,
        mtp_layers=kv_layers_of(fields, mtp),
        mtp_weights=_mtp_weights(fields, mtp, {} if wide_mtp else bits) if mtp else (),
        unknown_architecture=unknown_architecture(raw, fields),
        multimodal="text_config" in raw or "vision_config" in raw,
        tower_parameters=tower_parameters(raw, fields.positive("hidden_size", "n_embd")),
    )


def _quantization(fields: Fields) -> Mapping[str, Any] | None:
    value = fields.value("quantization_config")
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{fields.where}: quantization_config(={value!r}) must be an object.")
    return value


def _bits(
    fields: Fields, layers: list[Layer], quantization: Mapping[str, Any] | None
) -> dict[str, float]:
    """By role; DeepSeek-V4 says apart from the rest that its experts are in four bits."""
    try:
        shares = latent_output_share(fields, layers)
        bits = role_bits(quantization, _role_layers(fields, layers), shares)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
        raise ValueError(
            f"{fields.where}: quantization_config does not follow any known quantisation format."
        ) from None
    own_fp4 = fields.value("expert_dtype") == "fp4" and bits.get("experts", FULL_BITS) >= 8
    return {**bits, "experts": MXFP4_BITS} if own_fp4 else bits


def _role_layers(fields: Fields, layers: list[Layer]) -> RoleLayers:
    """Numbers of the layers that have each quantised role."""
    both = fields.flag("enable_moe_block")
    moe = frozenset(i for i, layer in enumerate(layers) if layer.mlp == "moe")
    dense = (i for i, layer in enumerate(layers) if layer.mlp == "dense" or (both and i in moe))
    return {
        "attention": frozenset(i for i, layer in enumerate(layers) if layer.attention != "none"),
        "mlp": frozenset(dense),
        "experts": moe,
        "shared_experts": moe,
    }


def _tied(fields: Fields) -> bool:
    default = fields.family.startswith(TIED_BY_DEFAULT)
    return fields.flag("tie_word_embeddings", default=default)


def _weights(
    fields: Fields, layers: list[Layer], bits: Mapping[str, float], method: str | None
) -> tuple[WeightGroup, ...]:
    vocab = fields.positive("vocab_size") * _embedding_width(fields)
    rows: list[WeightRow] = [
        ("embedding", vocab, None),
        ("embedding", _other_embeddings(fields), 1),
        ("lm_head", 0 if _tied(fields) else vocab, None),
    ]
    if method is not None:  # a draft head borrows the target's
        rows = head_rows(fields, method, kv_shape(fields, layers[0]))
    rows += [*_layer_rows(fields, layers), ("norms", _norms(fields, layers), 1)]
    return _groups(rows, bits)


def _mtp_weights(
    fields: Fields, layers: list[Layer], bits: Mapping[str, float]
) -> tuple[WeightGroup, ...]:
    rows = [*_layer_rows(fields, layers), *mtp_rows(fields, len(layers))]
    return _groups([*rows, ("norms", _norms(fields, layers), 1)], bits)


def _layer_rows(fields: Fields, layers: list[Layer]) -> list[WeightRow]:
    """All of the layers but their norms."""
    experts = read_experts(fields)
    attention = [attention_parameters(fields, layer) for layer in layers]
    mlp = [mlp_parameters(fields, layer, experts) for layer in layers]
    return [
        ("attention", sum(a.by_head for a in attention), None),
        ("attention", sum(a.by_kv_head for a in attention), _kv_heads(fields, layers)),
        ("attention", sum(a.replicated for a in attention), 1),
        ("mlp", sum(m.dense for m in mlp), None),
        ("experts", sum(m.experts for m in mlp), None),
        ("shared_experts", sum(m.shared for m in mlp), None),
        ("router", sum(m.router for m in mlp), 1),
    ]


def _groups(rows: list[WeightRow], bits: Mapping[str, float]) -> tuple[WeightGroup, ...]:
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
