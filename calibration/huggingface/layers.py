"""What each layer of a configuration is: its attention kind and whether its MLP has experts.

The fields are tried from the most explicit (a list with one entry per layer) to the least (a family
rule). A window that is no shorter than the model's own length is full attention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .fields import Fields

ATTENTION_NAMES = {
    "full_attention": "full",
    "attention": "full",
    "global_attention": "full",
    "deepseek_sparse_attention": "full",
    "sliding_attention": "sliding_window",
    "sliding_window": "sliding_window",
    "local_attention": "sliding_window",
    "chunked_attention": "chunked_local",
    "linear_attention": "recurrent",
    "recurrent": "recurrent",
    "mamba": "recurrent",
    "mamba2": "recurrent",
}
PATTERN_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
ALTERNATING_FAMILIES = ("gemma2", "gpt_oss")
LLAMA4_FAMILIES = ("llama4", "llama4_text")
LLAMA4_GLOBAL_EVERY = 4
GEMMA3_GLOBAL_EVERY = 6
MAX_LAYERS = 10_000
NEEDS_USE_SLIDING_WINDOW = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "mimo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """``attention`` is a KV kind or ``none``; ``mlp`` is ``dense``, ``moe`` or ``none``."""

    attention: str = "full"
    mlp: str = "dense"
    window_tokens: int | None = None
    heads_per_kv_head: int | None = None
    ffn_mult: float | None = None
    indexed: bool = False
    """Sparse attention: whether the layer has an indexer of its own."""


def read_layers(fields: Fields) -> list[Layer]:
    """One entry per layer.

    Raises:
        ValueError: a field of the wrong type, length or value.
    """
    blocks = _block_types(fields)
    if blocks is not None:
        return [_block(fields, block) for block in blocks]
    configs = fields.entries("block_configs")
    if configs is not None:
        return [_pruned(fields, config) for config in configs]
    count = fields.positive("num_hidden_layers", "n_layer", "num_layers")
    if count > MAX_LAYERS:
        raise ValueError(f"{fields.where}: num_hidden_layers(={count}) must be <= {MAX_LAYERS}.")
    rows = zip(
        _attention_kinds(fields, count),
        _expert_layers(fields, count),
        _indexed_layers(fields, count),
        strict=True,
    )
    return [
        _windowed(
            fields, Layer(attention=kind, mlp="moe" if moe else "dense", indexed=bool(indexed))
        )
        for kind, moe, indexed in rows
    ]


def _block_types(fields: Fields) -> list[Any] | None:
    pattern = fields.text("hybrid_override_pattern")
    if pattern is not None:
        unknown = set(pattern) - set(PATTERN_LETTERS)
        if unknown:
            raise ValueError(
                f"{fields.where}: hybrid_override_pattern has {sorted(unknown)}, known letters are "
                f"{', '.join(PATTERN_LETTERS)}."
            )
        return [PATTERN_LETTERS[letter] for letter in pattern]
    return fields.entries("layers_block_type")


def _block(fields: Fields, block: Any) -> Layer:
    if block in ("moe", "mlp"):
        return Layer(attention="none", mlp="moe" if block == "moe" else "dense")
    return Layer(attention=_kind(fields, "layers_block_type", block), mlp="none")


def _pruned(fields: Fields, config: Any) -> Layer:
    """A block of a pruned model: attention or MLP may be absent, heads and widths differ."""
    try:
        attention, ffn = config["attention"], config["ffn"]
        linear = bool(attention.get("no_op") or attention.get("replace_with_linear"))
        return Layer(
            attention="none" if linear else "full",
            mlp="none" if ffn.get("no_op") else "dense",
            heads_per_kv_head=None if linear else attention["n_heads_in_group"],
            ffn_mult=ffn.get("ffn_mult"),
        )
    except (KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{fields.where}: block_configs entries must have attention and ffn objects."
        ) from None


def _kind(fields: Fields, name: str, value: Any) -> str:
    try:
        kind = ATTENTION_NAMES[value]
    except (KeyError, TypeError):
        raise ValueError(
            f"{fields.where}: {name} has {value!r}, known are {', '.join(ATTENTION_NAMES)}."
        ) from None
    return "mla" if kind == "full" and fields.has("kv_lora_rank") else kind


def _attention_kinds(fields: Fields, count: int) -> list[str]:
    full = "mla" if fields.has("kv_lora_rank") else "full"
    listed = fields.entries("layer_types", count)
    if listed is not None:
        return [_kind(fields, "layer_types", value) for value in listed]
    for rule in (_linear_config, _hybrid_pattern, _interval, _local_global, _llama4):
        chosen = rule(fields, count)
        if chosen is not None:
            return [full if kind == "full" else kind for kind in chosen]
    return _one_window(fields, count, full)


def _linear_config(fields: Fields, count: int) -> list[str] | None:
    """Kimi-Linear: ``linear_attn_config.full_attn_layers``, counted from 1."""
    config = fields.inner("linear_attn_config")
    if config is None:
        return None
    full = config.entries("full_attn_layers") or []
    return ["full" if i + 1 in full else "recurrent" for i in range(count)]


def _hybrid_pattern(fields: Fields, count: int) -> list[str] | None:
    pattern = fields.entries("hybrid_layer_pattern", count)
    return None if pattern is None else ["sliding_window" if p else "full" for p in pattern]


def _interval(fields: Fields, count: int) -> list[str] | None:
    """Qwen3-Next: one full layer at the end of every ``full_attention_interval``."""
    if not fields.has("linear_num_value_heads"):
        return None
    every = fields.positive("full_attention_interval", default=4)
    return ["recurrent" if (i + 1) % every else "full" for i in range(count)]


def _local_global(fields: Fields, count: int) -> list[str] | None:
    """Gemma-3: ``sliding_window_pattern`` - 1 local layers, then a global one; Gemma-2: every 2."""
    every = fields.value("sliding_window_pattern", "_sliding_window_pattern")
    if every is None:
        if fields.family in ALTERNATING_FAMILIES:
            every = 2
        elif fields.family.startswith("gemma3"):
            every = GEMMA3_GLOBAL_EVERY
        else:
            return None
    every = fields.positive("sliding_window_pattern", "_sliding_window_pattern", default=every)
    return ["sliding_window" if (i + 1) % every else "full" for i in range(count)]


def _llama4(fields: Fields, count: int) -> list[str] | None:
    """Layers without rotary embedding are global, the others attend inside a chunk."""
    if fields.family not in LLAMA4_FAMILIES or not fields.has("attention_chunk_size"):
        return None
    rope = fields.entries("no_rope_layers") or None  # 1: rotary and local, 0: global
    if rope is None:
        rope = [(i + 1) % LLAMA4_GLOBAL_EVERY for i in range(count)]
    return ["chunked_local" if r else "full" for r in rope]


def _one_window(fields: Fields, count: int, full: str) -> list[str]:
    """Mistral: every layer slides; Qwen2: those from ``max_window_layers`` on, if switched on."""
    if not fields.has("sliding_window") or full == "mla":
        return [full] * count
    guarded = fields.family in NEEDS_USE_SLIDING_WINDOW
    if not fields.flag("use_sliding_window", default=not guarded):
        return [full] * count
    first = fields.count("max_window_layers", default=0) if guarded else 0
    return [full if i < first else "sliding_window" for i in range(count)]


def _windowed(fields: Fields, layer: Layer) -> Layer:
    if layer.attention == "sliding_window":
        window = fields.positive("sliding_window", "sliding_window_size")
    elif layer.attention == "chunked_local":
        window = fields.positive("attention_chunk_size")
    else:
        return layer
    if window >= fields.positive("max_position_embeddings", default=window + 1):
        return replace(layer, attention="full")
    return replace(layer, window_tokens=window)


def _indexed_layers(fields: Fields, count: int) -> list[Any]:
    """Sparse attention: GLM-5.2 shares the choice of a layer with the next, MiniMax-M3 lists."""
    types = fields.entries("indexer_types", count)
    if types is not None:
        return [kind == "full" for kind in types]
    sparse = fields.inner("sparse_attention_config")
    if sparse is not None:
        return sparse.entries("sparse_attention_freq", count) or [True] * count
    return [fields.has("index_head_dim")] * count


def _expert_layers(fields: Fields, count: int) -> list[bool]:
    """Which layers route to experts: by list, by frequency, by the first dense layers."""
    if not fields.count("num_experts", "num_local_experts", "n_routed_experts", default=0):
        return [False] * count
    listed = fields.entries("mlp_layer_types", count)
    if listed is not None:
        return [kind == "sparse" for kind in listed]
    if isinstance(fields.value("moe_layer_freq"), list):
        return [bool(x) for x in fields.entries("moe_layer_freq", count) or ()]
    dense = fields.entries("mlp_only_layers") or ()
    first = fields.count("first_k_dense_replace", default=0)
    every = fields.positive("interleave_moe_layer_step", "decoder_sparse_step", default=1)
    return [i >= first and i not in dense and (i + 1) % every == 0 for i in range(count)]
