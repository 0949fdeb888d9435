"""The attention heads of one layer on one GPU, and the table's nearest kernel to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log2
from typing import Any

import numpy as np

from .systems import SYSTEMS
from .tables import TableMissing, distinct, rows

KEYS = ("num_heads", "num_key_value_heads", "head_dim", "kv_cache_dtype")
WINDOW = "window_size"
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
    dim_v: int = 0
    """Of a value where it differs from a key's; 0 otherwise."""

    @property
    def group(self) -> float:
        """Query heads for each KV head."""
        return self.query / self.kv

    @property
    def bytes_per_token(self) -> float:
        """Keys and values of one token on this GPU."""
        pair = self.dim + (self.dim_v or self.dim)
        return float(self.kv * pair * (1 if self.kv_dtype == "fp8" else 2))


@lru_cache(maxsize=128)
def nearest(gpu_name: str, operator: tuple[str, str], heads: Heads) -> Heads:
    """The measured kernel that is most like these heads.

    KV dtype first, then head dimension, query heads per KV head, the window (the same or none),
    number of KV heads.
    """
    folder = SYSTEMS[gpu_name].folder
    windowed = bool(distinct(folder, *operator, WINDOW))
    found = rows(folder, *operator, (*KEYS, WINDOW) if windowed else KEYS)
    columns = [found[name].tolist() for name in KEYS]
    columns.append(found[WINDOW].tolist() if windowed else [0] * len(columns[0]))
    known = {key for key in zip(*columns, strict=True) if key[-1] in (0, heads.window)}

    def distance(key: tuple[int, int, int, str, int]) -> tuple[float, ...]:
        query, kv, dim, dtype, window = key
        return (
            float(dtype != heads.kv_dtype),
            abs(log2(dim / heads.dim)),
            abs(log2(query / kv / heads.group)),
            float(window != heads.window),
            abs(log2(kv / heads.kv)),
            dim,
        )

    query, kv, dim, dtype, window = min(sorted(known), key=distance)
    return Heads(query=query, kv=kv, dim=dim, kv_dtype=dtype, window=window)


def measured(
    gpu_name: str, operator: tuple[str, str], entry: Heads, columns: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """The rows of one kernel.

    Raises:
        TableMissing: there are none.
    """
    folder = SYSTEMS[gpu_name].folder
    where: dict[str, Any] = dict(
        zip(KEYS, (entry.query, entry.kv, entry.dim, entry.kv_dtype), strict=True)
    )
    if distinct(folder, *operator, WINDOW):
        where[WINDOW] = entry.window
    found = rows(folder, *operator, columns, where)
    if not len(found["ns"]):
        raise TableMissing(f"no measured {operator[1]} for {entry} on {gpu_name}.")
    return found


def differs(heads: Heads, entry: Heads) -> bool:
    """Whether the measured kernel is another one than asked for (fewer KV heads are no matter)."""
    return (
        entry.kv_dtype != heads.kv_dtype
        or entry.dim != heads.dim
        or abs(entry.group / heads.group - 1) > SAME_GROUP
    )
