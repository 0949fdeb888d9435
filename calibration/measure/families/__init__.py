"""What each family measures: its operands and its call. Imports torch and Triton."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..bench import Bench
from ..card import Work
from . import (
    all_reduce,
    attention,
    baselines,
    block_copy,
    ceilings,
    elementwise,
    graphs,
    host,
    linears,
    memory,
    pcie,
)

PREPARE: dict[str, Callable[[Mapping[str, Any], Bench], Work]] = {
    "ceilings": ceilings.prepare,
    "decode": attention.prepare,
    "ragged": attention.prepare,
    "gemm": linears.prepare,
    "prefill": attention.prepare,
    "mixed": attention.prepare,
    "elementwise": elementwise.prepare,
    "graph": graphs.prepare,
    "host": host.prepare,
    "memory": memory.prepare,
    "kv_dtypes": attention.prepare,
    "block_sizes": attention.prepare,
    "block_copy": block_copy.prepare,
    "pcie": pcie.prepare,
    "all_reduce": all_reduce.prepare,
    "baselines": baselines.prepare,
}
