"""The routed experts of one layer, from the table of fused mixture-of-experts kernels.

    t(n) = r(n) * max(bytes of the experts that n tokens choose / B, 2 * parameters used * n / F)

    experts chosen = E (1 - (1 - k / E)^n)

``r`` is read at the measured n; between them the time is linear, and made to rise. Tokens are
routed unevenly, as they are in service: the table's power-law distribution (exponent 1.01) where it
has one; the slowest expert then decides, which is part of the measurement. The bytes are those of a
router that spreads its tokens evenly at random, and no time is below them (measured experts of
small shapes stayed in the L2 cache, and skewed routing hits fewer). A model whose shape was
not measured takes the ratio of the nearest shape, and is flagged.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

import numpy as np

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from ..step_cost import NS_PER_S
from .gemm import peak_flops
from .grid import LogGrid
from .monotone import Rising, from_memory
from .systems import SYSTEMS
from .tables import TableMissing, rows, source_of

OPERATOR = ("moe", "moe")
SHAPE = ("hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size")
DISTRIBUTIONS = ("power_law_1.01", "power_law_1.2", "balanced")
FEWEST_POINTS = 15
"""A shape measured at fewer token counts, or not to ``MOST_TOKENS``, is no table of one."""
MOST_TOKENS = 4096
BITS = {
    "bfloat16": 16.0,
    "fp8": 8.0,
    "fp8_block": 8.0,
    "w4a16_mxfp4": 4.25,
    "w4a8_mxfp4_mxfp8": 4.25,
    "int4_wo": 4.25,
    "nvfp4": 4.5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The routed experts of one layer."""

    hidden_size: int
    intermediate_size: int
    """Of one expert, over all GPUs."""
    experts_per_token: int
    num_experts: int
    bits: float
    tensor_parallel_size: int = 1
    matrices: int = 3
    """Gate, up and down; two without a gate."""

    def bytes_read(self, tokens: float) -> float:
        """On one GPU: each expert that a token chose, once."""
        missed = (1.0 - self.experts_per_token / self.num_experts) ** tokens
        return self._expert_parameters * self.bits / 8 * self.num_experts * (1.0 - float(missed))

    def flops(self, tokens: float) -> float:
        """On one GPU."""
        return 2.0 * tokens * self.experts_per_token * self._expert_parameters

    @property
    def _expert_parameters(self) -> float:
        whole = self.matrices * self.hidden_size * self.intermediate_size
        return whole / self.tensor_parallel_size


class Moe:
    """Routed experts on one card, any number of tokens."""

    def __init__(self, gpu: GPUSpec, experts: Experts) -> None:
        self.gpu, self.experts = gpu, experts
        folder = SYSTEMS[gpu.name].folder
        table = rows(
            folder, *OPERATOR, (*SHAPE, "num_tokens", "moe_dtype", "distribution", "kernel_source")
        )
        dtype, shape = _nearest(gpu.name, table, experts)
        chosen = _chosen(table, dtype, shape)
        kind = next(d for d in DISTRIBUTIONS if (table["distribution"][chosen] == d).any())
        chosen &= table["distribution"] == kind
        chosen &= table["kernel_source"] == _commonest(table["kernel_source"][chosen])
        entry = Experts(
            hidden_size=shape[0],
            intermediate_size=shape[1],
            experts_per_token=shape[2],
            num_experts=shape[3],
            bits=BITS.get(dtype, 16.0),
            tensor_parallel_size=shape[4],
            matrices=experts.matrices,
        )
        self.flops_per_s = peak_flops(gpu, _units(dtype))
        self.derived = shape != _shape(experts) or not 0.9 <= entry.bits / experts.bits <= 1.1
        self.source = f"{source_of(folder, *OPERATOR)}, {dtype}, {kind}"
        tokens = table["num_tokens"][chosen].astype(float)
        bound = np.array([self._bound_ns(entry, n) for n in tokens])
        grid = LogGrid((tokens,), table["ns"][chosen] / bound)
        self._found = grid.cut()
        points = grid.axes[0]
        measured = [
            from_memory(
                self._found(n).value * self._bound_ns(experts, n),
                experts.bytes_read(n),
                gpu.memory_bandwidth_bytes_per_s,
            )
            for n in points
        ]
        self._ns = Rising(points, measured)

    def __call__(self, tokens: int) -> Estimate:
        """One layer with so many tokens."""
        if tokens <= 0:
            return NOTHING
        found, ns = self._found(tokens), self._ns(tokens)
        moved, flops = self.experts.bytes_read(tokens), self.experts.flops(tokens)
        return Estimate(ns, moved, flops, found.distance, found.outside or self.derived)

    def _bound_ns(self, experts: Experts, tokens: float) -> float:
        read = experts.bytes_read(tokens) / self.gpu.memory_bandwidth_bytes_per_s
        return NS_PER_S * max(read, experts.flops(tokens) / self.flops_per_s)


def _shape(experts: Experts) -> tuple[int, ...]:
    return (
        experts.hidden_size,
        experts.intermediate_size,
        experts.experts_per_token,
        experts.num_experts,
        experts.tensor_parallel_size,
        1,
    )


def _units(dtype: str) -> str:
    """The units that a weight format is multiplied in."""
    if dtype.startswith("fp8"):
        return "fp8"
    return "nvfp4" if dtype == "nvfp4" else "bfloat16"


def _nearest(
    gpu_name: str, table: dict[str, np.ndarray], experts: Experts
) -> tuple[str, tuple[int, ...]]:
    """Weight format and shape that are most like these experts."""
    columns = [table[name].tolist() for name in ("moe_dtype", *SHAPE)]
    points: dict[tuple[str, *tuple[int, ...]], set[int]] = {}
    for key, tokens in zip(zip(*columns, strict=True), table["num_tokens"].tolist(), strict=True):
        if key[0] in BITS and key[-1] == 1:
            points.setdefault(key, set()).add(tokens)
    known = {
        key
        for key, tokens in points.items()
        if len(tokens) >= FEWEST_POINTS and max(tokens) >= MOST_TOKENS
    }
    if not known:
        raise TableMissing(f"no measured experts on {gpu_name}.")
    wanted = _shape(experts)

    def distance(key: tuple[str, *tuple[int, ...]]) -> tuple[float, ...]:
        dtype, *shape = key
        size = abs(log2(shape[0] * shape[1] / (wanted[0] * wanted[1])))
        routing = abs(log2(shape[3] / wanted[3])) + abs(log2(shape[2] / wanted[2]))
        bits = abs(log2(BITS[dtype] / experts.bits))
        return (round(bits, 1), abs(log2(shape[4] / wanted[4])), size + routing, _order(dtype))

    dtype, *shape = min(sorted(known), key=distance)  # a set's order differs between processes
    return dtype, tuple(shape)


def _order(dtype: str) -> float:
    """Between formats of as many bits, the one that servers run by default."""
    return float(("fp8_block", "fp8").index(dtype)) if dtype.startswith("fp8") else 0.0


def _commonest(names: np.ndarray) -> str:
    """Where two kernels were measured on one shape, the one with more points."""
    found, counts = np.unique(names.astype(str), return_counts=True)
    return str(found[np.argmax(counts)])


def _chosen(table: dict[str, np.ndarray], dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    keep = table["moe_dtype"] == dtype
    for name, value in zip(SHAPE, shape, strict=True):
        keep = keep & (table[name] == value)
    return np.asarray(keep)
