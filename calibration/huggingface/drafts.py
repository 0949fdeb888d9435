"""What speculative decoding adds to a checkpoint: draft heads and multi-token-prediction layers.

An EAGLE head is one decoder layer that works on the target's hidden states:

    EAGLE    fc 2 h -> h; embedding and LM head are the target's
    EAGLE-3  fc 3 h_target -> h; q, k and v read 2 h (embedding beside hidden state); LM head of its
             own over ``draft_vocab_size`` tokens; embedding is the target's

A multi-token-prediction layer is a decoder layer like the model's last, and ``eh_proj 2 h -> h``
with its norms before it; embedding and LM head are the model's. Sources: the EAGLE (arXiv
2401.15077) and EAGLE-3 (2503.01840) papers, DeepSeek-V3's report, and how vLLM loads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .fields import Fields
from .layers import Layer
from .quantized_modules import LAYER

NESTED_HEADS = ("transformer_layer_config", "model")
"""Where the ``speculators`` format and EAGLE's first checkpoints keep the layer's shape."""
WeightRow = tuple[str, int, int | None]
"""``(role, parameters, over how many GPUs they split)``."""


def flattened_head(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a draft head without its wrapping; any other is returned as it is."""
    for name in NESTED_HEADS:
        inner = raw.get(name)
        if isinstance(inner, Mapping):
            outer = {key: value for key, value in raw.items() if key not in NESTED_HEADS}
            return {**outer, **inner, "draft_head": True}
    return raw


def draft_method(fields: Fields) -> str | None:
    """``eagle`` or ``eagle3`` for a draft head, None for a model of its own."""
    names = " ".join(str(name) for name in fields.entries("architectures") or ()).lower()
    if fields.has("draft_vocab_size") or "eagle3" in names:
        return "eagle3"
    return "eagle" if "eagle" in names or fields.has("draft_head") else None


def target_width(fields: Fields) -> int:
    """Width of the target's hidden states, which a draft head reads."""
    return fields.positive("target_hidden_size", "hidden_size", "n_embd")


def head_rows(fields: Fields, method: str, shape: tuple[int, int, int]) -> list[WeightRow]:
    """Weights of an EAGLE head beside its decoder layer; ``shape`` as ``kv_shape`` gives it."""
    hidden = fields.positive("hidden_size")
    if method == "eagle":
        return [("mlp", 2 * hidden * hidden, 1)]
    kv_heads, dim, dim_v = shape
    target = target_width(fields)
    vocabulary = fields.positive("draft_vocab_size", "vocab_size")
    return [
        ("mlp", 3 * target * hidden, 1),
        ("attention", hidden * fields.positive("num_attention_heads") * dim, None),
        ("attention", hidden * kv_heads * (dim + dim_v), kv_heads),
        ("norms", hidden, 1),
        ("lm_head", vocabulary * hidden, None),
    ]


def mtp_layers(fields: Fields, layers: list[Layer]) -> list[Layer]:
    """The multi-token-prediction layers that the checkpoint carries, none where it has none."""
    count = fields.count("num_nextn_predict_layers", "mtp_num_hidden_layers", default=0)
    keeps_kv = [layer for layer in layers if layer.attention not in ("none", "recurrent")]
    if not count or not keeps_kv:
        return []
    mlp = "moe" if any(layer.mlp == "moe" for layer in layers) else "dense"
    return [replace(keeps_kv[-1], mlp=mlp, indexed=keeps_kv[0].indexed)] * count


def mtp_rows(fields: Fields, count: int) -> list[WeightRow]:
    """Weights of so many of them beside the decoder layers: projection, two norms, final norm."""
    hidden = fields.positive("hidden_size", "n_embd")
    return [("norms", count * 3 * hidden, 1), ("router", count * 2 * hidden * hidden, 1)]


def mtp_in_16_bits(names: list[str], num_layers: int) -> bool:
    """Whether a quantisation leaves these layers out: ``mtp*``, or ``model.layers.61*`` of 61."""
    numbers = [int(m[1]) for m in map(LAYER.search, names) if m and m[2].strip(".*") == ""]
    return any(name.startswith("mtp") for name in names) or any(n >= num_layers for n in numbers)
