"""Which matrix products a model's layers run on one GPU, from its specification alone.

Attention projections follow from heads and dimensions, MLP matrices from their parameters (two or
three of ``hidden * intermediate``); what is left of the attention's parameters runs as two products
of its size. Routed experts are no plain products and stay out.
"""

from __future__ import annotations

from typing import NamedTuple

from ..model_spec import KVLayers, ModelSpec
from .shapes import dense_layers, expert_layers

LEFT_OUT = 0.01
"""Of the attention's parameters: so few are biases and norms."""
VALUE_HEAD_DIM = 128
"""Of a gated delta rule; its state has as many keys a head."""
WIDE_BITS = 16.0


class MatrixProduct(NamedTuple):
    """``rows x k`` times ``k x n``, in so many layers."""

    label: str
    n: float
    k: float
    layers: int
    bits: float
    """Of a weight, its scales included."""


def layer_products(model: ModelSpec, size: int) -> tuple[MatrixProduct, ...]:
    """Of all layers, on one of ``size`` GPUs."""
    made = _attention(model, size)
    h = model.hidden_size
    layers, gated = dense_layers(model)
    if layers:
        width = model.intermediate_size // size
        made += _mlp(h, width, layers, gated, bits_of(model, "mlp"))
    shared, layers = model.shared_expert_intermediate_size, expert_layers(model)
    if shared and model.parameters_of("shared_experts"):
        matrices = model.parameters_of("shared_experts") / (layers * h * shared)
        bits, gated = bits_of(model, "shared_experts"), round(matrices) >= 3
        made += _mlp(h, -(-shared // size), layers, gated, bits, "shared expert ")
    if model.num_experts:
        made.append(MatrixProduct("router", model.num_experts, h, layers, WIDE_BITS))
    return tuple(made)


def head_product(model: ModelSpec, size: int) -> MatrixProduct:
    """From hidden states to logits."""
    role = "embedding" if model.tied_embeddings else "lm_head"
    rows = -(-model.vocab_size // size)
    return MatrixProduct("LM head", rows, model.hidden_size, 1, bits_of(model, role))


def bits_of(model: ModelSpec, role: str) -> float:
    """Of the role's matrices; the small parts kept wide do not count."""
    groups = [group for group in model.weights if group.role == role]
    if not groups:
        return WIDE_BITS
    return max(groups, key=lambda group: group.num_parameters).bits_per_parameter


def _mlp(
    hidden: int, width: int, layers: int, gated: bool, bits: float, prefix: str = ""
) -> list[MatrixProduct]:
    up = ("gate and up", 2 * width) if gated else ("up", width)
    return [
        MatrixProduct(f"{prefix}{up[0]} projection", up[1], hidden, layers, bits),
        MatrixProduct(f"{prefix}down projection", hidden, width, layers, bits),
    ]


def _attention(model: ModelSpec, size: int) -> list[MatrixProduct]:
    """Query, key and value in one product, output in another; what is left by its parameters."""
    h, bits = model.hidden_size, bits_of(model, "attention")
    made: list[MatrixProduct] = []
    groups = [group for group in model.weights if group.role == "attention"]
    left = sum(g.num_parameters / min(size, g.max_shards or size) for g in groups)
    whole, rest = left, 0
    for group in model.layers:
        if group.kind in ("recurrent", "mla"):
            rest += group.num_layers
            continue
        query, inner = (model.num_heads * dim / size for dim in (group.head_dim, _value_dim(group)))
        pair = group.head_dim + _value_dim(group)
        wide = query + group.heads_per_gpu(size) * pair
        made.append(MatrixProduct("qkv projection", wide, h, group.num_layers, bits))
        made.append(MatrixProduct("output projection", h, inner, group.num_layers, bits))
        left -= group.num_layers * h * (wide + inner)
    if left > LEFT_OUT * whole:
        layers = rest or model.num_layers
        outputs = min(model.num_heads * VALUE_HEAD_DIM / size, left / layers / h / 2)
        inputs = max(left / layers / h - outputs, 1.0)
        made.append(MatrixProduct("other attention projections", inputs, h, layers, bits))
        made.append(MatrixProduct("output projection", h, outputs, layers, bits))
    return made


def _value_dim(group: KVLayers) -> int:
    return group.head_dim_v or group.head_dim
