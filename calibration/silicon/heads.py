"""The attention heads of one layer on one GPU, and the table's nearest kernel to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import log2
from typing import Any

import numpy as np

from .systems import SYSTEMS
from .tables import TableMissing, distinct, rows

KEYS = ("num_heads", "num_key_value_heads", "head_dim", "kv_cache_dtype")
SAME_GROUP = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What one GPU computes of an attention layer."""

    query: int
    kv: int
    dim: int
    kv_dtype: str
    """``bfloat16`` or ``fp8``."""
    window: int = 0
    """Tokens that a position sees; 0 for all."""

    @property
    def group(self) -> float:
        """Query heads for each KV head."""
        return self.query / self.kv

    @property
    def bytes_per_token(self) -> float:
        """Keys and values of one token on this GPU."""
        return 2.0 * self.kv * self.dim * (1 if self.kv_dtype == "fp8" else 2)


@lru_cache(maxsize=128)
def nearest(gpu_name: str, operator: tuple[str, str], heads: Heads) -> Heads:
    """The measured kernel that is most like these heads.

    KV dtype first, then head dimension, query heads per KV head, number of KV heads. Its window is
    that of ``heads`` where the table has it, else none.
    """
    folder = SYSTEMS[gpu_name].folder
    found = rows(folder, *operator, KEYS)
    known = set(zip(*(found[name].tolist() for name in KEYS), strict=True))

    def distance(key: tuple[int, int, int, str]) -> tuple[float, ...]:
        query, kv, dim, dtype = key
        return (
            float(dtype != heads.kv_dtype),
            abs(log2(dim / heads.dim)),
            abs(log2(query / kv / heads.group)),
            abs(log2(kv / heads.kv)),
            dim,
        )

    query, kv, dim, dtype = min(known, key=distance)
    entry = Heads(query=query, kv=kv, dim=dim, kv_dtype=dtype, window=heads.window)
    return entry if _where(folder, operator, entry) is not None else replace(entry, window=0)


def measured(
    gpu_name: str, operator: tuple[str, str], entry: Heads, columns: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """The rows of one kernel.

    Raises:
        TableMissing: there are none.
    """
    folder = SYSTEMS[gpu_name].folder
    where = _where(folder, operator, entry)
    found = None if where is None else rows(folder, *operator, columns, where)
    if found is None or not len(found["ns"]):
        raise TableMissing(f"no measured {operator[1]} for {entry} on {gpu_name}.")
    return found


def differs(heads: Heads, entry: Heads) -> bool:
    """Whether the measured kernel is another one than asked for (fewer KV heads are no matter)."""
    return (
        entry.kv_dtype != heads.kv_dtype
        or entry.dim != heads.dim
        or abs(entry.group / heads.group - 1) > SAME_GROUP
    )


@lru_cache(maxsize=256)
def _where(folder: str, operator: tuple[str, str], entry: Heads) -> dict[str, Any] | None:
    """The filter of an entry, None where the table has no row with its window."""
    where: dict[str, Any] = dict(
        zip(KEYS, (entry.query, entry.kv, entry.dim, entry.kv_dtype), strict=True)
    )
    windows = distinct(folder, *operator, "window_size")
    if not windows:
        return where if not entry.window else None
    where["window_size"] = entry.window
    return where if len(rows(folder, *operator, (), where)["ns"]) else None
