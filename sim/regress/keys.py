"""What a case may say: the options of ``kvsim simulate`` under their long names, with their kinds.

They are the fields of ``Intake`` (what arrives) and of ``Deployment``, the other flags of a server,
and the hardware. They have the command line's unit: ``rate`` and ``think_time`` seconds,
``non_kv_memory`` GiB, those of ``offloading`` GiB, GB/s and us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from ...traces.intake import Intake
from ..deployment import Deployment
from ..offloading import FLAGS as OFFLOADING_FLAGS

Scalar = str | int | float | bool
BYTES_PER_GIB = 1 << 30

_HARDWARE: dict[str, type] = {"gpu": str, "model": str, "quantization": str, "price": float}
_HARDWARE_DEFAULTS = {"gpu": "a100", "model": "llama-3.1-8b"}
_SERVER: dict[str, type] = {
    "max_model_len": int,
    "step_cost": str,
    "profile": str,
    "num_gpu_blocks_override": int,
    "kv_cache_memory_bytes": int,
    "non_kv_memory": float,
    "engine": str,
    "hybrid_kv_cache": bool,
    **dict.fromkeys(OFFLOADING_FLAGS.values(), float),
}
UNITS = {"rate_per_s": "rate", "think_time_s": "think_time"}
"""Fields of ``Intake`` with another name on the command line."""
_FILES = ("trace", "tokenizer", "profile")
"""Paths; the model and the GPU are too where they end in .json."""
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _kinds(values: type, *, without: tuple[str, ...] = ()) -> dict[str, type]:
    """A dataclass's fields with their types; ``int | None`` counts as ``int``."""
    found = {}
    for name, hint in get_type_hints(values).items():
        if name not in without:
            found[name] = next((kind for kind in get_args(hint) if kind is not NoneType), hint)
    return found


WORK = {UNITS.get(name, name): kind for name, kind in _kinds(Intake).items()}
"""Options of what arrives."""
KEYS: dict[str, type] = {
    **WORK,
    **_HARDWARE,
    **_SERVER,
    **_kinds(Deployment, without=("kv_groups", "kv_row_bytes", "max_model_len", "tiers")),
}
"""Every option that a case may set, and the kind of its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A case's options as the simulator takes them."""

    intake: Intake
    hardware: Mapping[str, Any]
    flags: Mapping[str, Any]


def check_value(key: str, value: object) -> None:
    """Refuse a value of another kind.

    Raises:
        ValueError: as said.
    """
    kind = KEYS[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{key}(={value!r}) must be {_WORDS[kind]}.")
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{key}(={value!r}) must be finite.")


def asked(options: Mapping[str, Any], folder: Path) -> Asked:
    """Sort a case's options; files are looked for from the suite's folder on.

    Raises:
        ValueError: options of ``Intake`` that exclude or need each other, a negative size.
    """
    given = {key: _placed(key, value, folder) for key, value in options.items()}
    units = {short: long for long, short in UNITS.items()}
    work = {units.get(key, key): given.pop(key) for key in list(given) if key in WORK}
    hardware = {key: given.pop(key) for key in list(given) if key in _HARDWARE}
    gib = given.pop("non_kv_memory", None)
    if gib is not None:
        if gib < 0:
            raise ValueError(f"non_kv_memory(={gib}) must be >= 0 GiB.")
        given["non_kv_memory_bytes"] = round(gib * BYTES_PER_GIB)
    return Asked(intake=Intake(**work), hardware={**_HARDWARE_DEFAULTS, **hardware}, flags=given)


def _placed(key: str, value: Any, folder: Path) -> Any:
    """Paths as seen from here."""
    if key == "trace":
        return tuple(str(folder / path) for path in value)
    if key in _FILES or (key in ("gpu", "model") and value.endswith(".json")):
        return str(folder / value)
    name, colon, path = str(value).partition(":")
    if key == "step_cost" and name == "measured" and colon:
        return f"{name}:{folder / path}"
    return value
