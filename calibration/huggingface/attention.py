"""Parameters of the attention part of one layer, by how tensor parallelism may split them.

- attention: ``h H D (q) + h K D (k) + h K Dv (v) + H Dv h (o)``, biases and head norms beside
- MLA: q through its rank, latent down (replicated), latent up, output, indexer
- recurrent: input projections, convolution, gates, output
"""

from __future__ import annotations

from dataclasses import dataclass

from .fields import Fields
from .kv import kv_shape
from .layers import Layer

QKV_BIAS_FAMILIES = ("qwen2", "qwen2_moe", "qwen2_vl_text", "qwen2_5_vl_text")
QKV_BIAS_ONLY = ("glm4", "glm4_moe", "glm", "mimo", "chatglm")
ALL_BIAS_FAMILIES = ("opt", "phi", "gpt2")
HEAD_NORM_FAMILIES = ("qwen3", "gemma3", "gemma4", "minimax_m3", "glm4_moe")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionParameters:
    """Parameters of one layer: split by heads, split by KV heads, replicated."""

    by_head: int = 0
    by_kv_head: int = 0
    replicated: int = 0


def attention_parameters(fields: Fields, layer: Layer) -> AttentionParameters:
    """Parameters of one layer's attention or recurrent mixer, without the layer's norms."""
    if layer.attention == "none":
        return AttentionParameters()
    if layer.attention == "mla":
        return _latent(fields, layer)
    if layer.attention == "recurrent":
        return AttentionParameters(by_head=_recurrent(fields))
    return _plain(fields, layer)


def _plain(fields: Fields, layer: Layer) -> AttentionParameters:
    hidden = fields.positive("hidden_size", "n_embd")
    heads = fields.positive("num_attention_heads", "n_head")
    kv_heads, dim, dim_v = kv_shape(fields, layer)
    query, out = heads * dim, heads * dim_v
    key, value = kv_heads * dim, kv_heads * dim_v
    if layer.attention == "full" and fields.flag("attention_k_eq_v"):
        value = 0
    if fields.has("compress_ratios"):  # DeepSeek-V4: one vector is key and value
        value = 0
    gate = out if fields.flag("attn_output_gate") else 0
    qkv_bias, out_bias = _biases(fields)
    sinks = heads if fields.family == "gpt_oss" else 0
    by_head = _query(fields, query + gate, qkv_bias) + _output(fields, out) + sinks
    return AttentionParameters(
        by_head=by_head,
        by_kv_head=(hidden + qkv_bias) * (key + value),
        replicated=_head_norms(fields, query, key, dim)
        + (hidden if out_bias else 0)
        + _block_indexer(fields, layer, hidden),
    )


def _block_indexer(fields: Fields, layer: Layer, hidden: int) -> int:
    """MiniMax-M3: a query per index head, one key, their norms."""
    sparse = fields.inner("sparse_attention_config") if layer.indexed else None
    if sparse is None:
        return 0
    dim, heads = sparse.positive("sparse_index_dim"), sparse.positive("sparse_num_index_heads")
    return hidden * dim * (heads + 1) + 2 * dim


def _query(fields: Fields, width: int, bias: int) -> int:
    hidden, rank = fields.positive("hidden_size", "n_embd"), fields.count("q_lora_rank", default=0)
    return rank * (hidden + width + 1) if rank else (hidden + bias) * width


def _output(fields: Fields, width: int) -> int:
    """DeepSeek-V4 goes through a rank per group of heads."""
    hidden, rank = fields.positive("hidden_size", "n_embd"), fields.count("o_lora_rank", default=0)
    if not rank:
        return width * hidden
    return rank * (width + fields.positive("o_groups", default=1) * hidden)


def _biases(fields: Fields) -> tuple[int, int]:
    if fields.family in ALL_BIAS_FAMILIES:
        return 1, 1
    declared = fields.flag("attention_bias") or fields.flag("qkv_bias")
    if fields.family in QKV_BIAS_FAMILIES:
        return 1, 0
    if declared and fields.family in QKV_BIAS_ONLY:
        return 1, 0
    return int(declared), int(declared)


def _head_norms(fields: Fields, query: int, key: int, dim: int) -> int:
    if fields.value("qk_norm_type") == "per_layer":
        return query + key
    normed = fields.flag("use_qk_norm") and not fields.family.startswith("llama4")
    return 2 * dim if normed or fields.family.startswith(HEAD_NORM_FAMILIES) else 0


def _latent(fields: Fields, layer: Layer) -> AttentionParameters:
    hidden, heads = fields.positive("hidden_size"), fields.positive("num_attention_heads")
    rank, rope = fields.positive("kv_lora_rank"), fields.count("qk_rope_head_dim")
    nope, dim_v = fields.count("qk_nope_head_dim"), fields.positive("v_head_dim")
    query_rank = fields.count("q_lora_rank", default=0)
    query = (query_rank or hidden) * heads * (nope + rope)
    up = rank * heads * (nope + dim_v)
    down = hidden * (rank + rope) + rank + query_rank * (hidden + 1)
    gate = hidden * heads * dim_v if fields.flag("mla_use_output_gate") else 0
    return AttentionParameters(
        by_head=query + up + heads * dim_v * hidden + gate,
        replicated=down + (_indexer(fields, hidden, query_rank) if layer.indexed else 0),
    )


def latent_output_share(fields: Fields, layers: list[Layer]) -> float | None:
    """The output projection's part of latent attention, None where not all layers are latent."""
    if not layers or any(layer.attention != "mla" for layer in layers):
        return None
    found = _latent(fields, layers[0])
    width = fields.positive("num_attention_heads") * fields.positive("v_head_dim")
    return width * fields.positive("hidden_size") / (found.by_head + found.replicated)


def _indexer(fields: Fields, hidden: int, query_rank: int) -> int:
    dim = fields.count("index_head_dim", default=0)
    heads = fields.count("index_n_heads", default=0)
    return query_rank * heads * dim + hidden * (dim + heads) + 2 * dim if dim else 0


def _recurrent(fields: Fields) -> int:
    hidden = fields.positive("hidden_size")
    kimi = fields.inner("linear_attn_config")
    if kimi is not None:
        return _kimi_delta(kimi, hidden)
    if fields.has("linear_num_value_heads"):
        return _delta_net(fields, hidden)
    return _mamba2(fields, hidden)


def _delta_net(fields: Fields, hidden: int) -> int:
    keys = fields.positive("linear_num_key_heads") * fields.positive("linear_key_head_dim")
    heads, dim = fields.positive("linear_num_value_heads"), fields.positive("linear_value_head_dim")
    values = heads * dim
    kernel = fields.positive("linear_conv_kernel_dim", default=4)
    inputs = hidden * (2 * keys + 2 * values + 2 * heads)
    return inputs + (2 * keys + values) * kernel + 2 * heads + dim + values * hidden


def _mamba2(fields: Fields, hidden: int) -> int:
    heads, dim = fields.positive("mamba_num_heads"), fields.positive("mamba_head_dim")
    groups = fields.positive("n_groups", default=8) * fields.positive("ssm_state_size")
    inner, kernel = heads * dim, fields.positive("conv_kernel", default=4)
    inputs = hidden * (2 * inner + 2 * groups + heads)
    return inputs + (inner + 2 * groups) * (kernel + 1) + 3 * heads + inner + inner * hidden


def _kimi_delta(config: Fields, hidden: int) -> int:
    """q, k, v, output; low-rank decay and output gates; beta; convolution."""
    heads, dim = config.positive("num_heads"), config.positive("head_dim")
    width = heads * dim
    gates = 2 * (hidden * dim + dim * width) + hidden * heads
    return (
        4 * hidden * width
        + gates
        + 3 * width * config.positive("short_conv_kernel_size", default=4)
    )
