"""The kernels' variants, compiled ahead of time: what a model's attention takes of a GPU.

Names of dtypes are kvsim's: ``bf16``, ``fp16``, ``fp32``; KV also ``fp8_e4m3``, ``fp8_e5m2``,
``int8``. Not to be used in a process that interprets kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from . import latent_decode, paged_decode, paged_prefill
from .ahead_of_time import Report, compiled_report
from .launch import HOPPER, Launch, decode_launch, latent_launch, prefill_launch

TRITON_TYPES = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp32": "fp32",
    "fp8_e4m3": "fp8e4nv",
    "fp8_e5m2": "fp8e5",
    "int8": "i8",
}
VALUE_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8_e4m3": 1, "fp8_e5m2": 1, "int8": 1}
CACHES = ("key_cache", "value_cache", "latent_cache")
FLOATS = (
    "partial_out",
    "partial_weight",
    "k_scale",
    "v_scale",
    "row_scale",
    "alibi_slopes",
    "sinks",
)
PLAIN_SWITCHES = {"SOFTCAP": False, "ALIBI": False, "SINKS": False}
LATENT_DIM, ROPE_DIM = 512, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Specialisation:
    """What an attention kernel is compiled for; plain where nothing is said."""

    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    block_size: int = 16
    """0 for the decode kernel over contiguous keys."""
    sliding_window: int = 0
    switches: Mapping[str, bool] = field(default_factory=dict)
    """``SOFTCAP``, ``ALIBI``, ``SINKS``."""

    @property
    def group(self) -> int:
        """Query heads of a KV head."""
        return self.heads // self.kv_heads

    def constants(self, kernel: ModuleType, launch: Launch, **more: bool) -> dict[str, Any]:
        """What ``kernel`` makes of it."""
        stored = {
            "SCALED": self.kv_dtype != self.dtype,
            "UPCAST": False,
            "WIDEN": _widen(self.dtype, self.kv_dtype),
        }
        made: dict[str, Any] = kernel.constants(
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            block_size=self.block_size,
            launch=launch,
            sliding_window=self.sliding_window,
            **{**PLAIN_SWITCHES, **stored, **self.switches, **more},
        )
        return made


def decode_report(compute_capability: int, wanted: Specialisation) -> Report:
    """The decode kernel.

    Raises:
        CompilationError: the GPU knows no such dtype.
    """
    launch = decode_launch(
        group=wanted.group,
        head_dim=wanted.head_dim,
        value_bytes=VALUE_BYTES[wanted.kv_dtype],
        contiguous=not wanted.block_size,
    )
    made = wanted.constants(paged_decode, launch)
    dtypes = wanted.dtype, wanted.kv_dtype
    return _report(paged_decode._part, made, compute_capability, *dtypes, launch)


def prefill_report(compute_capability: int, wanted: Specialisation) -> Report:
    """The kernel of chunks.

    From Hopper on products of many rows take their operands from shared memory, where they are
    widened already.

    Raises:
        CompilationError: the GPU knows no such dtype.
    """
    launch = prefill_launch(
        group=wanted.group,
        head_dim=wanted.head_dim,
        value_bytes=VALUE_BYTES[wanted.dtype],
        compute_capability=compute_capability,
    )
    narrow = {"WIDEN": False} if compute_capability >= HOPPER else {}
    made = wanted.constants(paged_prefill, launch, **narrow)
    dtypes = wanted.dtype, wanted.kv_dtype
    return _report(paged_prefill._prefill, made, compute_capability, *dtypes, launch)


def latent_report(
    compute_capability: int,
    *,
    dtype: str = "bf16",
    kv_dtype: str = "bf16",
    heads: int = 16,
    block_size: int = 64,
) -> Report:
    """The kernel over latent rows.

    Raises:
        CompilationError: the GPU knows no such dtype.
    """
    launch = latent_launch(heads=heads, value_bytes=VALUE_BYTES[dtype])
    made = latent_decode.constants(
        heads=heads,
        latent_dim=LATENT_DIM,
        rope_dim=ROPE_DIM,
        block_size=block_size,
        launch=launch,
        SCALED=kv_dtype != dtype,
        UPCAST=False,
        WIDEN=_widen(dtype, kv_dtype),
    )
    return _report(latent_decode._latent_part, made, compute_capability, dtype, kv_dtype, launch)


def _widen(dtype: str, kv_dtype: str) -> bool:
    return VALUE_BYTES[dtype] == 2 and VALUE_BYTES[kv_dtype] == 1


def _report(
    kernel: Any,
    made: dict[str, Any],
    compute_capability: int,
    dtype: str,
    kv_dtype: str,
    launch: Launch,
) -> Report:
    types = {
        name: _type_of(name, TRITON_TYPES[dtype], TRITON_TYPES[kv_dtype])
        for name in kernel.arg_names
        if name not in made
    }
    return compiled_report(
        kernel,
        types=types,
        constants=made,
        compute_capability=compute_capability,
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
    )


def _type_of(name: str, dtype: str, kv_dtype: str) -> str:
    if name in ("query", "out"):
        return f"*{dtype}"
    if name in CACHES:
        return f"*{kv_dtype}"
    if name in FLOATS:
        return "*fp32"
    if name in ("scale", "softcap"):
        return "fp32"
    return "i32" if "stride" in name else "*i32"
