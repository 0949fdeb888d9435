"""How many layers of a model have what, from its parameters: a specification counts only these."""

from __future__ import annotations

from ..model_spec import ModelSpec


def expert_layers(model: ModelSpec) -> int:
    """Layers with routed experts, from the router's size."""
    if not model.num_experts:
        return 0
    return max(1, round(model.parameters_of("router") / (model.hidden_size * model.num_experts)))


def dense_layers(model: ModelSpec) -> tuple[int, bool]:
    """``(layers with a dense MLP, whether it is gated)``: gated ones have three matrices."""
    parameters, matrix = model.parameters_of("mlp"), model.hidden_size * model.intermediate_size
    if not parameters or not matrix:
        return 0, True
    gated = abs(parameters / (2 * matrix) - model.num_layers) >= 1
    return max(1, round(parameters / ((3 if gated else 2) * matrix))), gated


def num_mixers(model: ModelSpec) -> int:
    """Attentions, recurrent layers and MLPs: each has a norm before it and an all-reduce behind.

    Two a layer, but one where a layer is one of them only (Nemotron-H).
    """
    attention = sum(group.num_layers for group in model.layers)
    return min(2 * model.num_layers, attention + dense_layers(model)[0] + expert_layers(model))
