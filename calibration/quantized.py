"""A model with its weights in another format: what ``--quantization`` would make of it.

Linear weights are stored in ``WEIGHT_FORMATS[method].bits``; embedding, LM head, router and norms
stay as they are, which is what the published checkpoints of these formats do.
"""

from __future__ import annotations

from dataclasses import replace

from .model_spec import ModelSpec, WeightGroup
from .names import unknown_name
from .weight_formats import FULL_BITS, LINEAR_ROLES, WEIGHT_FORMATS, WeightFormat


def quantized(model: ModelSpec, method: str | None) -> ModelSpec:
    """The model with its linear weights in that format; as it is where none is asked for.

    Raises:
        ValueError: an unknown format, or a checkpoint that is already in another.
    """
    if method is None:
        return model
    name = method.lower()
    if name not in WEIGHT_FORMATS:
        raise unknown_name(method, WEIGHT_FORMATS, field="quantization")
    chosen = WEIGHT_FORMATS[name]
    own = min((g.bits_per_parameter for g in model.weights if _linear(g)), default=FULL_BITS)
    if own < FULL_BITS:
        if round(own) == round(chosen.bits):
            return model
        raise ValueError(
            f"quantization(={method!r}) must match the checkpoint: {model.name} has weights of "
            f"{own:.3g} bits already."
        )
    return replace(
        model,
        weights=tuple(_encoded(group, model, chosen) for group in model.weights),
        source=f"{model.source}; linear weights as {name}",
        quantization=name,
    )


def _linear(group: WeightGroup) -> bool:
    return group.role in LINEAR_ROLES


def _encoded(group: WeightGroup, model: ModelSpec, chosen: WeightFormat) -> WeightGroup:
    roles: tuple[str, ...] = LINEAR_ROLES
    if chosen.experts_only_in_mixtures and model.num_experts:
        roles = ("experts",)
    return replace(group, bits_per_parameter=chosen.bits) if group.role in roles else group
