"""Parameters of the vision tower beside the decoder, from ``vision_config``.

Layers x (4 h^2 + 2 h I, or 3 h I with a gated MLP) + patch embedding + projection to the decoder:
the usual vision transformer. Biases, norms and positions (under 2 %) are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GATED = ("silu", "swiglu")
CHANNELS = 3
COMMON_PATCH = 14
COMMON_MLP_RATIO = 4


def tower_parameters(raw: Mapping[str, Any], hidden_size: int) -> int:
    """Parameters of the tower, 0 where the configuration names none or not its shape."""
    vision = raw.get("vision_config")
    if not isinstance(vision, Mapping):
        return 0
    layers = _count(vision, "depth", "num_hidden_layers")
    width = _count(vision, "embed_dim", "hidden_size")
    ratio = vision.get("mlp_ratio", COMMON_MLP_RATIO)
    if not (layers and width and isinstance(ratio, int | float)):
        return 0
    inner = _count(vision, "intermediate_size") or round(width * ratio)
    matrices = 3 if str(vision.get("hidden_act")) in GATED else 2
    patch = _count(vision, "patch_size") or COMMON_PATCH
    return (
        layers * width * (4 * width + matrices * inner)
        + CHANNELS * patch * patch * width
        + width * hidden_size
    )


def _count(vision: Mapping[str, Any], *names: str) -> int:
    """The first of these fields that is a positive whole number, else 0."""
    values = (vision.get(name) for name in names)
    return next((v for v in values if type(v) is int and v > 0), 0)
