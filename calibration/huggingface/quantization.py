"""Bits per parameter of each weight role, from ``quantization_config`` or ``hf_quant_config.json``.

    FP8                8 bits (block scales: + 32 bits per block)
    INT8               8 bits
    AWQ, GPTQ, INT4    4 bits + a 16-bit scale (and, for AWQ and GPTQ, a 4-bit zero) per group
    MXFP4              4 bits + 8 bits per 32
    NVFP4              4 bits + 8 bits per 16

Embedding, LM head, router and norms stay in 16 bits; so do the roles that the file excludes by
name. A file of mixed precision lists its layers: each role takes the format most of them have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

FULL_BITS = 16.0
QUANTISED_ROLES = ("attention", "mlp", "experts", "shared_experts")
NVFP4_BITS = 4 + 8 / 16
MXFP4_BITS = 4 + 8 / 32
DEFAULT_GROUP = 128
NOT_QUANTISED = ("", "NONE", "BF16", "BFLOAT16", "FP16", "COMPRESSED-TENSORS", "DENSE")
# How each role is spelled in the names of modules; the first match wins.
ROLE_WORDS = {
    "shared_experts": ("shared_expert", "share_expert"),
    "experts": ("experts", "block_sparse_moe"),
    "attention": ("attn", "attention", "mixer"),
    "mlp": ("mlp", "feed_forward"),
    "lm_head": ("lm_head",),
}


def role_bits(quantization: Mapping[str, Any] | None) -> dict[str, float]:
    """Bits per parameter by role; roles that are absent have 16."""
    if not quantization:
        return {}
    config = _flattened(quantization)
    listed = config.get("quantized_layers")
    if isinstance(listed, Mapping) and listed:
        return _by_layers(listed)
    groups = [g for g in (config.get("config_groups") or {}).values() if _targets_names(g)]
    if groups:
        return _by_groups(groups)
    bits = _bits(config)
    excluded = _excluded_roles(config)
    if str(config.get("quant_method")) == "mxfp4":
        excluded |= {"attention", "mlp", "shared_experts"}
    roles = [role for role in QUANTISED_ROLES if role not in excluded]
    found = dict.fromkeys(roles, bits)
    if config.get("moe_quant_algo") == "NVFP4":
        found["experts"] = NVFP4_BITS
    return found


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


def _bits(config: Mapping[str, Any]) -> float:
    method = str(config.get("quant_method") or "").lower()
    algorithm = str(config.get("quant_algo") or config.get("format") or method).upper()
    if "NVFP4" in algorithm:
        return NVFP4_BITS
    if "MXFP4" in algorithm:
        return MXFP4_BITS
    if method in ("awq", "gptq", "auto-round") or "W4A16" in algorithm:
        bits = int(config.get("bits") or config.get("w_bit") or 4)
        return bits + (16 + bits) / _group_size(config)
    if config.get("load_in_4bit"):
        return 4 + 32 / 64
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


def _group_size(config: Mapping[str, Any]) -> int:
    size = int(config.get("group_size") or config.get("q_group_size") or DEFAULT_GROUP)
    return size if size > 0 else 1 << 30


def _block_scale_bits(config: Mapping[str, Any]) -> float:
    block = config.get("weight_block_size")
    return 32 / (block[0] * block[1]) if block else 0.0


def _group_bits(group: Mapping[str, Any]) -> float:
    """Compressed-tensors: weights of ``num_bits`` with one scale per group."""
    weights = group.get("weights") or {}
    bits = int(weights.get("num_bits") or 16)
    size = weights.get("group_size")
    if not size:
        return float(bits)
    scale_bits = 8 if weights.get("type") == "float" else 16
    return bits + scale_bits / int(size)


def _targets_names(group: Any) -> bool:
    """Whether a group lists modules by name rather than by class (``Linear``)."""
    return any("." in target for target in (group.get("targets") or ()))


def _role_of(module: str) -> str | None:
    name = module.lower()
    return next((r for r, words in ROLE_WORDS.items() if any(w in name for w in words)), None)


def _excluded_roles(config: Mapping[str, Any]) -> set[str]:
    """Roles that the file leaves out as a whole: by a pattern, or layer by layer."""
    names: Iterable[Any] = (
        config.get("ignore")
        or config.get("exclude_modules")
        or config.get("modules_to_not_convert")
        or config.get("ignored_layers")
        or ()
    )
    counts = Counter(_role_of(_last_parts(str(name))) for name in names if not _is_gate(str(name)))
    patterns = {_role_of(str(name)) for name in names if _is_pattern(str(name))}
    many = {role for role, number in counts.items() if number >= 8}
    return {role for role in patterns | many if role is not None}


def _is_gate(name: str) -> bool:
    return name.endswith(("gate", "router", "norm")) or ".vision" in name or "visual" in name


def _is_pattern(name: str) -> bool:
    """``re:.*self_attn.*`` and ``*.self_attn*`` name a role; ``model.layers.0.mlp`` one layer."""
    inside = not any(part.isdigit() for part in name.split("."))
    return inside and ("*" in name or name.startswith("re:")) and not _is_gate(name.rstrip("*.$"))


def _last_parts(name: str) -> str:
    return name.split("layers.")[-1]


def _by_layers(listed: Mapping[str, Any]) -> dict[str, float]:
    votes: dict[str, Counter[float]] = defaultdict(Counter)
    for name, config in listed.items():
        role = _role_of(name)
        if role is not None:
            votes[role][_bits(config)] += 1
    return {role: bits.most_common(1)[0][0] for role, bits in votes.items()}


def _by_groups(groups: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    votes: dict[str, Counter[float]] = defaultdict(Counter)
    for group in groups:
        for name in group.get("targets") or ():
            role = _role_of(name)
            if role is not None:
                votes[role][_group_bits(group)] += 1
    return {role: bits.most_common(1)[0][0] for role, bits in votes.items()}
