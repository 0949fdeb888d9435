"""Bits per parameter of each weight role, from ``quantization_config`` or ``hf_quant_config.json``.

Formats and their bits are in ``weight_formats``. Embedding, LM head, router and norms stay in 16
bits, and so do the modules that the file excludes by name (``quantized_modules``). A file of mixed
precision lists its layers: each role takes the mean over its layers, 16 bits where a layer is not
listed (or the base format, where ``quant_method`` names one).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from ..weight_formats import (
    FULL_BITS,
    GROUP_SIZE,
    LINEAR_ROLES,
    MXFP4_BITS,
    MXFP8_BITS,
    NVFP4_BITS,
    grouped_bits,
)
from .quantized_modules import RoleLayers, layer_of, roles_of, wide_shares

NOT_QUANTISED = ("", "NONE", "BF16", "BFLOAT16", "FP16", "COMPRESSED-TENSORS", "DENSE")
EXCLUSION_FIELDS = ("ignore", "exclude_modules", "modules_to_not_convert", "ignored_layers")
NF4_BITS = 4 + 32 / 64


def role_bits(
    quantization: Mapping[str, Any] | None,
    role_layers: RoleLayers | None = None,
    output_share: float | None = None,
) -> dict[str, float]:
    """Bits per parameter by role; roles that are absent have 16.

    Raises:
        ValueError: a weight format that is not known.
    """
    if not quantization:
        return {}
    config = _flattened(quantization)
    listed = config.get("quantized_layers")
    if isinstance(listed, Mapping) and listed:
        return {**_base_bits(config), **_by_layers(listed, role_layers)}
    groups = [g for g in (config.get("config_groups") or {}).values() if _targets_names(g)]
    if groups:
        return _by_groups(groups)
    found = dict.fromkeys(LINEAR_ROLES, _bits(config))
    if config.get("moe_quant_algo") == "NVFP4":
        found["experts"] = NVFP4_BITS
    if str(config.get("quant_method")) == "mxfp4":
        found = {"experts": MXFP4_BITS}
    wide = wide_shares(_excluded(config), role_layers, output_share)
    mixed = {r: round(b + (FULL_BITS - b) * wide.get(r, 0.0), 9) for r, b in found.items()}
    return {role: bits for role, bits in mixed.items() if bits != FULL_BITS}


def checkpoint_kv_dtype(quantization: Mapping[str, Any] | None) -> str:
    """The KV dtype that ``auto`` means for this checkpoint."""
    config = _flattened(quantization or {})
    scheme = config.get("kv_cache_quant_algo") or config.get("kv_cache_scheme")
    if isinstance(scheme, Mapping):
        scheme = "FP8" if scheme.get("num_bits") == 8 and scheme.get("type") == "float" else None
    return "fp8" if str(scheme).upper() == "FP8" else "bfloat16"


def _flattened(quantization: Mapping[str, Any]) -> dict[str, Any]:
    """``hf_quant_config.json`` nests what ``quantization_config`` has at the top."""
    return {**quantization, **(quantization.get("quantization") or {})}


def excluded_modules(quantization: Mapping[str, Any] | None) -> list[str]:
    """Names that the quantisation leaves in 16 bits."""
    return _excluded(_flattened(quantization or {}))


def _excluded(config: Mapping[str, Any]) -> list[str]:
    return [str(n) for n in next((config[f] for f in EXCLUSION_FIELDS if config.get(f)), ())]


def _bits(config: Mapping[str, Any]) -> float:
    method = str(config.get("quant_method") or "").lower()
    algorithm = str(config.get("quant_algo") or config.get("format") or method).upper()
    if "NVFP4" in algorithm:
        return NVFP4_BITS
    if "MXFP4" in algorithm:
        return MXFP4_BITS
    if "MXFP8" in algorithm:
        return MXFP8_BITS
    if method in ("awq", "gptq", "auto-round") or "W4A16" in algorithm:
        return grouped_bits(int(config.get("bits") or config.get("w_bit") or 4), _group(config))
    if config.get("load_in_4bit"):
        return NF4_BITS
    for group in (config.get("config_groups") or {}).values():
        return _group_bits(group)
    if method == "fp8" or "FP8" in algorithm:
        return 8 + _block_scale_bits(config)
    if "8" in algorithm:
        return 8.0
    if algorithm in NOT_QUANTISED:
        return FULL_BITS
    raise ValueError(
        f"quant_method(={method!r}), quant_algo(={config.get('quant_algo')!r}) is no weight "
        "format that kvsim knows: fp8, int8, awq, gptq, mxfp4, nvfp4, compressed-tensors."
    )


def _group(config: Mapping[str, Any]) -> int:
    return int(config.get("group_size") or config.get("q_group_size") or GROUP_SIZE)


def _block_scale_bits(config: Mapping[str, Any]) -> float:
    block = config.get("weight_block_size")
    return 32 / (block[0] * block[1]) if block else 0.0


def _group_bits(group: Mapping[str, Any]) -> float:
    """Compressed-tensors: weights of ``num_bits`` with one scale per group."""
    weights = group.get("weights") or {}
    bits, size = int(weights.get("num_bits") or 16), weights.get("group_size")
    if weights.get("type") == "float":
        return bits + 8 / int(size) if size else float(bits)
    asymmetric = weights.get("symmetric") is False
    return grouped_bits(bits, None if size is None else int(size), zero_points=asymmetric)


def _base_bits(config: Mapping[str, Any]) -> dict[str, float]:
    """Of a checkpoint whose own format is FP8 and of which some layers were encoded anew."""
    if config.get("quant_method") != "fp8":
        return {}
    return dict.fromkeys(LINEAR_ROLES, 8 + _block_scale_bits(config))


def _targets_names(group: Any) -> bool:
    """Whether a group lists modules by name rather than by class (``Linear``)."""
    return any("." in target for target in (group.get("targets") or ()))


def _by_layers(listed: Mapping[str, Any], role_layers: RoleLayers | None) -> dict[str, float]:
    """Mean over a role's layers of the bits that most of its modules in the layer have."""
    votes: dict[str, dict[int | None, Counter[float]]] = defaultdict(lambda: defaultdict(Counter))
    for name, config in listed.items():
        for role in roles_of(name):
            votes[role][layer_of(name)][_bits(config)] += 1
    found = {}
    for role, by_layer in votes.items():
        means = {layer: bits.most_common(1)[0][0] for layer, bits in by_layer.items()}
        expected = (role_layers or {}).get(role) or means.keys()
        found[role] = sum(means.get(layer, FULL_BITS) for layer in expected) / len(expected)
    return found


def _by_groups(groups: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    votes: dict[str, Counter[float]] = defaultdict(Counter)
    for group in groups:
        for name in group.get("targets") or ():
            for role in roles_of(name):
                votes[role][_group_bits(group)] += 1
    return {role: bits.most_common(1)[0][0] for role, bits in votes.items()}
