"""What an attention call may vary beside its tensors, and the checks that they go together."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from triton import knobs

from .launch import Launch
from .work_list import DecodeWork

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
QUANTISED = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variant:
    """The attention of a model, under vLLM's names.

    Raises:
        ValueError: a negative window or soft cap, or a scale that is not finite.
    """

    scale: float | None = None
    """Of the scores; None for ``head_dim ** -0.5``."""
    sliding_window: int = 0
    """Keys that a query sees, its own included; 0 for all before it."""
    softcap: float = 0.0
    """``softcap * tanh(score / softcap)``; 0 for none."""
    alibi_slopes: torch.Tensor | None = None
    """``[heads]`` fp32: ``slope * (key - query)`` is added to the score, positions in tokens."""
    sinks: torch.Tensor | None = None
    """``[heads]``: one more logit in each softmax, without a value."""
    k_scale: float | torch.Tensor = 1.0
    """What a stored key is multiplied with, one for all or ``[kv_heads]`` fp32."""
    v_scale: float | torch.Tensor = 1.0

    def __post_init__(self) -> None:
        for name in ("sliding_window", "softcap"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}(={getattr(self, name)}) must be >= 0.")
        if self.scale is not None and not isfinite(self.scale):
            raise ValueError(f"scale(={self.scale}) must be finite.")

    def scale_of(self, head_dim: int) -> float:
        """Of the scores."""
        return head_dim**-0.5 if self.scale is None else self.scale

    @property
    def is_scaled(self) -> bool:
        """Whether stored keys or values have a scale."""
        return not (_is_one(self.k_scale) and _is_one(self.v_scale))

    def tensors(self, query: torch.Tensor, kv_heads: int) -> tuple[torch.Tensor, ...]:
        """Slopes, sinks and KV scales; any tensor stands in for what is not used."""
        scaled = self.is_scaled
        return (
            query if self.alibi_slopes is None else self.alibi_slopes,
            query if self.sinks is None else self.sinks,
            on_device_scale(self.k_scale, query, kv_heads) if scaled else query,
            on_device_scale(self.v_scale, query, kv_heads) if scaled else query,
        )

    def switches(self) -> dict[str, bool]:
        """What the kernel is compiled for."""
        return {
            "SOFTCAP": self.softcap > 0,
            "ALIBI": self.alibi_slopes is not None,
            "SINKS": self.sinks is not None,
            "SCALED": self.is_scaled,
        }


def on_device_scale(scale: float | torch.Tensor, like: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """``[kv_heads]`` fp32 beside ``like``."""
    if isinstance(scale, torch.Tensor):
        return scale.to(device=like.device, dtype=torch.float32).expand(kv_heads).contiguous()
    return torch.full((kv_heads,), scale, dtype=torch.float32, device=like.device)


def upcast(query: torch.Tensor) -> bool:
    """Whether arithmetic in the query's dtype must be avoided.

    Triton's interpreter multiplies the bit patterns of bf16.
    """
    return bool(knobs.runtime.interpret) and query.dtype == torch.bfloat16


def widen(query: torch.Tensor, cache: torch.Tensor) -> bool:
    """Whether stored bytes are made 16 bits wide in the kernel (``scores.widened``)."""
    return not knobs.runtime.interpret and cache.element_size() == 1 and query.element_size() == 2


def check_decode(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    block_table: torch.Tensor | None,
    seq_lens: torch.Tensor,
    variant: Variant,
) -> None:
    """One query for each sequence.

    Raises:
        ValueError: shapes or dtypes that do not go together.
    """
    check_cache(query, keys, values, variant)
    owners = query.shape[0] if block_table is None else block_table.shape[0]
    if seq_lens.shape != (query.shape[0],) or owners != query.shape[0]:
        raise ValueError(
            f"seq_lens(={tuple(seq_lens.shape)}) and block_table must have one row for each of the "
            f"{query.shape[0]} queries."
        )
    if block_table is None and keys.shape[0] != query.shape[0]:
        raise ValueError(f"keys(={tuple(keys.shape)}) must have one row for each query.")
    check_integers(block_table=block_table, seq_lens=seq_lens)


def check_prefill(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    block_table: torch.Tensor,
    query_start_loc: torch.Tensor,
    seq_lens: torch.Tensor,
    variant: Variant,
) -> None:
    """Any number of queries for each sequence.

    Raises:
        ValueError: shapes or dtypes that do not go together.
    """
    check_cache(query, keys, values, variant)
    seqs = seq_lens.shape[0]
    if block_table.shape[0] != seqs or query_start_loc.shape != (seqs + 1,):
        raise ValueError(
            f"block_table(={tuple(block_table.shape)}) must have one row, query_start_loc"
            f"(={tuple(query_start_loc.shape)}) one entry and one more for each of {seqs} seq_lens."
        )
    check_integers(block_table=block_table, query_start_loc=query_start_loc, seq_lens=seq_lens)


def check_latent(
    query: torch.Tensor,
    cache: torch.Tensor,
    block_table: torch.Tensor,
    seq_lens: torch.Tensor,
    latent_dim: int,
    variant: Variant,
) -> None:
    """One query for each sequence, over latent rows.

    Raises:
        ValueError: shapes or dtypes that do not go together.
    """
    if query.dim() != 3 or cache.dim() != 3 or query.shape[2] != cache.shape[2]:
        raise ValueError(
            f"query(={tuple(query.shape)}) and latent_cache(={tuple(cache.shape)}) must have 3 "
            "dimensions, and the same last one."
        )
    if not 0 < latent_dim < query.shape[2]:
        raise ValueError(f"latent_dim(={latent_dim}) must be in 1 .. {query.shape[2] - 1}.")
    rows = cache[:, :, None, :]
    check_decode(query, rows, rows, block_table, seq_lens, variant)


def check_cache(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, variant: Variant
) -> None:
    """Heads, dims and dtypes.

    Raises:
        ValueError: as it says.
    """
    if query.dim() != 3 or keys.dim() != 4 or keys.shape != values.shape:
        raise ValueError(
            f"query(={tuple(query.shape)}) must have 3 dimensions, key_cache"
            f"(={tuple(keys.shape)}) and value_cache(={tuple(values.shape)}) the same 4."
        )
    heads, head_dim = query.shape[1:]
    kv_heads = keys.shape[2]
    if head_dim != keys.shape[3]:
        raise ValueError(f"head_dim(={head_dim}) must be the cache's, {keys.shape[3]}.")
    if heads % kv_heads:
        raise ValueError(f"heads(={heads}) must be a multiple of kv_heads(={kv_heads}).")
    if query.dtype not in FLOATS:
        raise ValueError(f"query.dtype(={query.dtype}) must be fp16, bf16 or fp32.")
    if keys.dtype not in (query.dtype, *QUANTISED) or values.dtype != keys.dtype:
        raise ValueError(
            f"key_cache.dtype(={keys.dtype}) must be the query's ({query.dtype}), fp8 or int8, and "
            f"value_cache.dtype(={values.dtype}) the same."
        )
    if keys.stride() != values.stride():
        raise ValueError(
            f"value_cache.stride()(={values.stride()}) must be key_cache's, {keys.stride()}."
        )
    for name, tensor in (("query", query), ("key_cache", keys)):
        if tensor.stride(-1) != 1:
            raise ValueError(f"{name}.stride(-1)(={tensor.stride(-1)}) must be 1.")
    for name in ("alibi_slopes", "sinks"):
        value = getattr(variant, name)
        if value is not None and value.shape != (heads,):
            raise ValueError(
                f"{name}(={tuple(value.shape)}) must be one for each of {heads} heads."
            )


def check_work(work: DecodeWork, launch: Launch, variant: Variant) -> None:
    """A plan is cut for one tile and one window.

    Raises:
        ValueError: it is another kernel's.
    """
    if work.tile_tokens != launch.tile_tokens:
        raise ValueError(
            f"work.tile_tokens(={work.tile_tokens}) must be the launch's, {launch.tile_tokens}."
        )
    if work.sliding_window != variant.sliding_window:
        raise ValueError(
            f"work.sliding_window(={work.sliding_window}) must be the variant's, "
            f"{variant.sliding_window}."
        )


def check_integers(**tensors: torch.Tensor | None) -> None:
    """Lengths and tables are int32.

    Raises:
        ValueError: another dtype.
    """
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype != torch.int32:
            raise ValueError(f"{name}.dtype(={tensor.dtype}) must be torch.int32.")


def _is_one(scale: float | torch.Tensor) -> bool:
    return not isinstance(scale, torch.Tensor) and scale == 1.0
