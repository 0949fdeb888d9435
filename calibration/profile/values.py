"""What a calibration profile holds, as values. Units are in every name; times are seconds.

A **sample** is one measured point: a family, the shape ``x`` and the raw times. A **fit** turns the
samples of one family and kind of kernel into a few coefficients of a functional form (``forms``),
each with a relative uncertainty. The profile keeps both: coefficients in its JSON, samples in a
gzip file beside it, so that the fit can be done again without a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = "kvsim-profile/1"
PROVENANCES = ("measured", "imported", "derived", "synthetic")
ROLES = ("fit", "heldout", "anchor", "baseline")
FAMILIES = (
    "ceilings",
    "decode",
    "ragged",
    "gemm",
    "prefill",
    "mixed",
    "elementwise",
    "graph",
    "host",
    "memory",
    "kv_dtypes",
    "block_sizes",
    "block_copy",
    "pcie",
    "all_reduce",
    "baselines",
)
"""In the order in which a budget keeps them: what comes last is dropped first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured point, raw."""

    family: str
    x: Mapping[str, Any]
    """The shape; what the keys of each family mean is in ``measure.points``."""
    t: tuple[float, ...]
    """Every repetition, in order."""
    unit: str = "s"
    """``s`` or ``bytes``."""
    role: str = "fit"
    flags: tuple[str, ...] = ()
    """``noisy``: IQR over 5 % of the median twice; ``anchor:start``, ``anchor:middle`` ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionKey:
    """Which attention kernel: what its code is specialised for."""

    kind: str = "paged"
    """``paged``, ``contiguous`` or ``latent``."""
    dtype: str
    kv_dtype: str
    heads: int
    kv_heads: int
    head_dim: int
    block_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeFit:
    """Decode attention of one layer; the form is ``forms.decode_s``."""

    key: AttentionKey
    t0_s: float
    read_bytes_per_s: float
    program_bytes_per_s: float
    """What one resident program can stream."""
    p: float
    item_s: float
    slots: int
    """Programs that the GPU holds at once."""
    tile_tokens: int
    min_chunk_tokens: int
    target_items: int
    merge_s: float = 0.0
    """Each round of the merge over the sequence with most items."""
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    """Coefficient -> relative, one sigma."""
    seen: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """``batch``, ``context_tokens`` (mean), ``total_tokens`` -> least and most that it was fitted
    to; empty where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillFit:
    """Attention of one layer over chunks; the form is ``forms.prefill_s``."""

    key: AttentionKey
    t0_s: float
    flops_per_s: float
    read_bytes_per_s: float
    program_flops_per_s: float
    p: float
    slots: int
    query_tokens: int
    """Query tokens of a tile."""
    tile_tokens: int
    overlap: float = 0.0
    """Of the shorter launch, hidden when decodes run in the same step (from mixed samples)."""
    start_s: float = 0.0
    """Each program, before it computes; on the busiest slot, one after another."""
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """``new_tokens``, ``past_tokens`` of a chunk -> least and most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmTable:
    """One linear layer's times by token count: ``out[m, n] = x[m, k] @ w[n, k].T``."""

    n: int
    k: int
    dtype: str
    m: tuple[int, ...]
    t_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmFit:
    """The roofline of every linear layer, for (n, k) that no table holds: ``forms.gemm_s``."""

    dtype: str
    t0_s: float
    flops_per_s: float
    read_bytes_per_s: float
    p: float
    uncertainty: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFit:
    """``t = t0_s + unit_s * units + bytes / bytes_per_s``: element-wise kernels, copies, links."""

    name: str
    """``rms_norm``, ``sample``, ``pcie h2d pinned``, ``block_copy`` ..."""
    t0_s: float
    unit_s: float
    """Per segment, request or graph node; 0 where the form has none."""
    bytes_per_s: float
    """``inf`` (``null`` in JSON) where nothing is moved."""
    bytes_per_token: float = 0.0
    """Moved for each token (row of logits for ``sample``), of the model that was measured."""
    uncertainty: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """Relative errors of a fit on points that it has not seen."""

    family: str
    split: str
    """``heldout``, ``leave_context_out``, ``leave_batch_out``, ``leave_heads_out``, ``leave_m_out``
    ... or ``fit`` for the points it was made from."""
    num_points: int
    median_pct: float
    p95_pct: float
    worst_pct: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The card, as the driver tells it; ``gpu`` is kvsim's own name for it."""

    gpu: str
    name: str
    compute_capability: str
    num_sms: int
    l2_bytes: int
    total_memory_bytes: int
    count: int = 1
    more: Mapping[str, Any] = field(default_factory=dict)
    """Clocks, power limit, PCIe generation and width ...: with units in their keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Everything that was learnt of one card."""

    id: str
    provenance: str
    hardware: Hardware
    software: Mapping[str, str]
    """driver, cuda, torch, triton, python, kvsim, kernel_hash."""
    run: Mapping[str, Any]
    """started_utc, seconds, seed, budget_s, drift_pct, clocks_log ..."""
    model: str
    """The model whose shapes were measured, a name of the catalogue."""
    ceilings: Mapping[str, Mapping[str, float]]
    """Name (with its unit) -> value, n, iqr."""
    decode: tuple[DecodeFit, ...] = ()
    prefill: tuple[PrefillFit, ...] = ()
    gemm_tables: tuple[GemmTable, ...] = ()
    gemm: tuple[GemmFit, ...] = ()
    lines: tuple[LineFit, ...] = ()
    residuals: tuple[Residual, ...] = ()
    missing: tuple[str, ...] = ()
    """Families that were not measured, each with its reason: ``all_reduce: one GPU``."""
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Kernel times of another tool, as columns (``imported``)."""
    derived_from: Mapping[str, Any] = field(default_factory=dict)
    samples_sha256: str = ""
