"""Parameters of the MLP part of one layer: dense, routed experts, shared experts, router.

A gated MLP has three matrices ``h x i``, a plain one two. Latent experts (Nemotron-3) work on a
narrower vector, with one projection down and one up per layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from .fields import Fields
from .layers import Layer

PLAIN_ACTIVATIONS = ("relu", "relu2", "gelu", "gelu_new", "gelu_fast")
PLAIN_FAMILIES = ("opt", "phi", "gpt2", "nemotron_h", "nemotron")
ROUTER_BIAS_FAMILIES = ("gpt_oss", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa")


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpParameters:
    """Parameters of one layer."""

    dense: int = 0
    experts: int = 0
    shared: int = 0
    router: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Shape of a mixture of experts; all zero for a dense model."""

    count: int = 0
    per_token: int = 0
    intermediate_size: int = 0
    shared_intermediate_size: int = 0


def read_experts(fields: Fields) -> Experts:
    """The mixture's shape.

    Raises:
        ValueError: experts without a number per token or a width.
    """
    count = fields.count("num_experts", "num_local_experts", "n_routed_experts", default=0)
    if not count:
        return Experts()
    per_token = fields.positive(
        "num_experts_per_tok", "num_experts_per_token", "top_k_experts", "experts_per_token"
    )
    width = fields.positive("moe_intermediate_size", "intermediate_size")
    return Experts(
        count=count,
        per_token=per_token,
        intermediate_size=width,
        shared_intermediate_size=_shared_width(fields, width),
    )


def _shared_width(fields: Fields, width: int) -> int:
    """Intermediate size of all shared experts together."""
    explicit = (
        "moe_shared_expert_intermediate_size",
        "shared_expert_intermediate_size",
        "share_expert_dim",
    )
    number = fields.count("n_shared_experts", "num_shared_experts", default=0)
    if fields.family.startswith("llama4"):
        number = 1
    if fields.has(*explicit):
        return fields.count(*explicit) * max(number, 1)
    return number * width


def mlp_parameters(fields: Fields, layer: Layer, experts: Experts) -> MlpParameters:
    """Parameters of one layer's MLP."""
    hidden = fields.positive("hidden_size", "n_embd")
    if layer.mlp == "none":
        return MlpParameters()
    if layer.mlp == "moe":
        dense = _dense(fields, layer, hidden) if fields.flag("enable_moe_block") else 0
        return _mixture(fields, experts, hidden, dense)
    return MlpParameters(dense=_dense(fields, layer, hidden))


def dense_intermediate_size(fields: Fields, layer: Layer | None = None) -> int:
    """Width of the dense MLP."""
    hidden = fields.positive("hidden_size", "n_embd")
    if layer is not None and layer.ffn_mult is not None:
        return _rounded_up(int(2 * layer.ffn_mult * hidden / 3), 256)
    return fields.positive(
        "dense_intermediate_size",
        "intermediate_size_mlp",
        "intermediate_size",
        "ffn_dim",
        "moe_intermediate_size",
        default=4 * hidden,
    )


def _rounded_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def matrices(fields: Fields) -> int:
    """Matrices of one MLP: 3 where it is gated."""
    activation = fields.value("mlp_hidden_act", "activation_function", "hidden_act")
    plain = fields.family in PLAIN_FAMILIES and activation in (*PLAIN_ACTIVATIONS, None)
    return 2 if plain else 3


def _dense(fields: Fields, layer: Layer, hidden: int) -> int:
    width = dense_intermediate_size(fields, layer)
    biased = fields.flag("mlp_bias") or fields.family in ("opt", "phi", "gpt2")
    bias = width * (matrices(fields) - 1) + hidden if biased else 0
    return matrices(fields) * hidden * width + bias


def _mixture(fields: Fields, experts: Experts, hidden: int, dense: int) -> MlpParameters:
    width, number = experts.intermediate_size, matrices(fields)
    latent = fields.count("moe_latent_size", "routed_expert_hidden_size", default=0)
    one = number * (latent or hidden) * width
    if fields.family == "gpt_oss":
        one += 2 * width + hidden
    shared = number * hidden * experts.shared_intermediate_size
    gate = hidden if fields.has("shared_expert_intermediate_size") else 0
    router_bias = fields.family in ROUTER_BIAS_FAMILIES or fields.flag("use_routing_bias")
    return MlpParameters(
        dense=dense,
        experts=experts.count * one,
        shared=shared + gate,
        router=(hidden + int(router_bias)) * experts.count + 2 * hidden * latent,
    )
