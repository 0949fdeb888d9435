"""What the layers of a configuration keep per token or per sequence: the ``KVLayers`` groups.

Recurrent state of one sequence in one layer, in elements (convolution window in 16 bit, state in
``mamba_ssm_dtype``; where that is absent, fp32 for Mamba-2 and Kimi, else the model's dtype):

    gated delta net  conv (2 Hk Dk + Hv Dv)(kernel - 1)          state Hv Dk Dv
    Mamba-2          conv (H D + 2 groups N)(kernel - 1)         state H D N
    Kimi delta       conv 3 H D (kernel - 1)                     state H D D
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ..model_spec import KVLayers
from .fields import Fields
from .layers import Layer

CONV_BYTES = 2
SPARSE_LATENT_FP8_BYTES = 656
"""``fp8_ds_mla``: 512 FP8 values, four fp32 scales, 64 rope values in 16 bits."""
V4_FP8_BYTES = 584
"""DeepSeek-V4: 448 FP8 values, 64 rope values in 16 bits, 8 bytes of scales."""


def kv_layers(fields: Fields, layers: list[Layer]) -> tuple[KVLayers, ...]:
    """Equal layers counted, in the order in which each kind first appears.

    Raises:
        ValueError: a field of the wrong type or value, or missing.
    """
    own = kv_layers_of(fields, _without_shared(fields, layers))
    return (*own, *_compressed(fields))


def kv_layers_of(fields: Fields, layers: list[Layer]) -> tuple[KVLayers, ...]:
    """The same for some of the layers (DeepSeek-V4's without what is compressed)."""
    counts = Counter(_group(fields, layer) for layer in layers)
    return tuple(_sized(group, n) for group, n in counts.items() if group is not None)


def _sized(group: KVLayers, count: int) -> KVLayers:
    return replace(group, num_layers=count)


def _without_shared(fields: Fields, layers: list[Layer]) -> list[Layer]:
    """The last ``num_kv_shared_layers`` reuse the KV of earlier layers and hold none."""
    shared = fields.count("num_kv_shared_layers", default=0)
    return layers[: len(layers) - shared]


def _group(fields: Fields, layer: Layer) -> KVLayers | None:
    if layer.attention == "none":
        return None
    if layer.attention == "recurrent":
        return KVLayers(
            kind="recurrent",
            num_layers=1,
            state_bytes=state_bytes(fields),
            delta_rule_heads=delta_rule_heads(fields),
        )
    if layer.attention == "mla":
        return _latent(fields, layer)
    heads, dim, dim_v = kv_shape(fields, layer)
    if fields.has("compress_ratios"):  # DeepSeek-V4's window: one vector is key and value
        return KVLayers(
            kind=layer.attention,
            num_layers=1,
            head_dim=dim,
            head_dim_v=dim_v,
            window_tokens=layer.window_tokens,
            shared_kv=True,
            fp8_token_bytes=V4_FP8_BYTES,
        )
    sparse = fields.inner("sparse_attention_config") if layer.indexed else None
    return KVLayers(
        kind=layer.attention,
        num_layers=1,
        num_kv_heads=heads,
        head_dim=dim,
        head_dim_v=dim_v,
        window_tokens=layer.window_tokens,
        index_head_dim=sparse.positive("sparse_index_dim") if sparse else 0,
        index_key_bits=16 if sparse else 8,
    )


def _latent(fields: Fields, layer: Layer) -> KVLayers:
    rope = fields.count("qk_rope_head_dim")
    return KVLayers(
        kind="mla",
        num_layers=1,
        head_dim=fields.count("qk_nope_head_dim") + rope,
        head_dim_v=fields.positive("v_head_dim"),
        kv_lora_rank=fields.positive("kv_lora_rank"),
        rope_dim=rope,
        index_head_dim=fields.count("index_head_dim", default=0) if layer.indexed else 0,
        fp8_token_bytes=SPARSE_LATENT_FP8_BYTES if fields.has("index_head_dim") else 0,
    )


def head_dim(fields: Fields) -> int:
    """Explicit, else hidden size over heads."""
    heads = fields.positive("num_attention_heads", "n_head")
    hidden = fields.positive("hidden_size", "n_embd")
    explicit = fields.value("head_dim", "attention_head_dim")
    if explicit is None and hidden % heads:
        raise ValueError(
            f"{fields.where}: num_attention_heads(={heads}) must divide hidden_size(={hidden}) "
            "where head_dim is absent."
        )
    return fields.positive("head_dim", "attention_head_dim", default=hidden // heads)


def kv_shape(fields: Fields, layer: Layer) -> tuple[int, int, int]:
    """``(KV heads, key dim, value dim)`` of one attention layer."""
    heads = fields.positive("num_attention_heads", "n_head")
    kv_heads = fields.positive("num_key_value_heads", "num_kv_heads", default=heads)
    if layer.heads_per_kv_head:
        kv_heads = heads // layer.heads_per_kv_head
    dim = head_dim(fields)
    if heads % kv_heads:
        raise ValueError(
            f"{fields.where}: num_key_value_heads(={kv_heads}) must divide "
            f"num_attention_heads(={heads})."
        )
    dim_v = fields.positive("v_head_dim", default=dim)
    if layer.attention == "sliding_window":
        kv_heads = fields.positive("swa_num_key_value_heads", default=kv_heads)
        dim = fields.positive("swa_head_dim", default=dim)
        return kv_heads, dim, fields.positive("swa_v_head_dim", default=dim_v)
    if layer.attention == "full" and fields.has("global_head_dim"):
        kv_heads = fields.positive("num_global_key_value_heads", default=kv_heads)
        dim = dim_v = fields.positive("global_head_dim")
    return kv_heads, dim, dim_v


def _compressed(fields: Fields) -> list[KVLayers]:
    """DeepSeek-V4: beside its window, a layer keeps one latent per ``compress_ratios`` tokens.

    Layers of the smallest ratio choose among theirs with an indexer, those of 128 see all.
    """
    ratios = fields.entries("compress_ratios")
    if ratios is None:
        return []
    if not all(isinstance(ratio, int) for ratio in ratios):
        raise ValueError(f"{fields.where}: compress_ratios(={ratios!r}) must be whole numbers.")
    counts = Counter(ratio for ratio in ratios[: fields.positive("num_hidden_layers")] if ratio > 0)
    dim, rope = head_dim(fields), fields.count("qk_rope_head_dim", default=0)
    index = fields.count("index_head_dim", default=0)
    return [
        KVLayers(
            kind="mla",
            num_layers=count,
            head_dim=dim,
            head_dim_v=dim,
            kv_lora_rank=dim - rope,
            rope_dim=rope,
            tokens_per_state=ratio,
            index_head_dim=index if ratio == min(counts) else 0,
            fp8_token_bytes=V4_FP8_BYTES,
        )
        for ratio, count in counts.items()
    ]


def state_bytes(fields: Fields) -> int:
    """Recurrent state of one sequence in one layer, before tensor parallelism."""
    conv, state = _state_elements(fields)
    dtype = fields.value("mamba_ssm_dtype", "mamba_ssm_cache_dtype")
    delta_net = fields.has("linear_num_value_heads")  # Qwen3-Next: the model's dtype
    wide = dtype == "float32" or (dtype is None and not delta_net)
    return conv * CONV_BYTES + state * (4 if wide else 2)


def delta_rule_heads(fields: Fields) -> int:
    """Heads of a gated delta rule of the measured shape (128 x 128), else 0."""
    if not fields.has("linear_num_value_heads"):
        return 0
    dims = {fields.positive("linear_key_head_dim"), fields.positive("linear_value_head_dim")}
    return fields.positive("linear_num_value_heads") if dims == {128} else 0


def _state_elements(fields: Fields) -> tuple[int, int]:
    kimi = fields.inner("linear_attn_config")
    if kimi is not None:
        heads, dim = kimi.positive("num_heads"), kimi.positive("head_dim")
        kernel = kimi.positive("short_conv_kernel_size", default=4)
        return 3 * heads * dim * (kernel - 1), heads * dim * dim
    if fields.has("linear_num_value_heads"):
        return _delta_net_elements(fields)
    heads, dim = fields.positive("mamba_num_heads"), fields.positive("mamba_head_dim")
    state = fields.positive("ssm_state_size")
    kernel = fields.positive("conv_kernel", default=4)
    width = heads * dim + 2 * fields.positive("n_groups", default=8) * state
    return width * (kernel - 1), heads * dim * state


def _delta_net_elements(fields: Fields) -> tuple[int, int]:
    keys = fields.positive("linear_num_key_heads") * fields.positive("linear_key_head_dim")
    dim = fields.positive("linear_value_head_dim")
    heads = fields.positive("linear_num_value_heads")
    kernel = fields.positive("linear_conv_kernel_dim", default=4)
    conv = (2 * keys + heads * dim) * (kernel - 1)
    return conv, heads * fields.positive("linear_key_head_dim") * dim
