"""Matrix products of the linear layers, interpolated between measured shapes.

    t(m, n, k) = r(m, n, k) * max(2 m n k / F, bytes / B),   bytes = n k w + (m k + m n) * 2

``F`` and ``B`` are the card's peaks, ``w`` the bytes of a weight, ``r`` the ratio of the measured
time to that bound: interpolated over log n and log k, it carries the kernel's efficiency and its
quantisation in m (33 rows cost what 48 do). Over m the time is linear between measured points and
made to rise.

Not believed as they stand: times faster than the peaks (on cards with a large L2 cache small
weights stayed there; in a server the layers evict one another), points that a larger product
refutes, and tables whose smallest product (128 x 128) takes longer than 20 us: they were measured
launch by launch and show the host (block-scaled FP8 on most cards). A server replays such launches
from a graph, so the per-tensor FP8 products stand for them. Weights in a format that the card has
no table of (4-bit weight-only kernels) are costed as the bf16 product with fewer bytes to read.
These last two are derived figures, and flagged.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from ..step_cost import NS_PER_S
from .grid import Cut, LogGrid
from .monotone import Rising, from_memory
from .systems import SYSTEMS
from .tables import TableMissing, rows, source_of

ACTIVATION_BYTES = 2
COMPUTING = 1024
"""Rows at which every product is bound by computing."""
WEIGHT_BYTES = {"bfloat16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "nvfp4": 0.5625}
RATE = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4"}
FP4_TO_FP8 = 2.0
"""Dense FP4 units are twice as fast as FP8 on Blackwell (datasheet)."""


class Gemm:
    """One card's matrix products in one weight format.

    Args:
        gpu: the card.
        bits: bits of a weight, its scales included.
    """

    def __init__(self, gpu: GPUSpec, bits: float) -> None:
        self.gpu = gpu
        self.bits = bits
        self.format, self._grid = _grid(gpu, _formats(gpu, bits))
        self.widened = not 0.9 <= bits / 8 / WEIGHT_BYTES[self.format] <= 1.1
        self.derived = self.widened or self.format != _formats(gpu, bits)[0]
        """The card has no table of this format that can be believed."""
        folder = SYSTEMS[gpu.name].folder
        self.source = source_of(folder, "gemm", "gemm") + f", {self.format}"

    @property
    def flops_per_s(self) -> float:
        """Peak of the units that the format runs on."""
        return peak_flops(self.gpu, self.format)

    def of(self, n: int, k: int) -> Product:
        """The product of some rows with a weight of ``k`` by ``n``."""
        return Product(self, n, k)

    def cut(self, n: float, k: float) -> Cut:
        """The ratio over rows, for one shape of the weight."""
        return self._grid.cut(n, k)

    @property
    def measured(self) -> tuple[list[float], float]:
        """``(rows, widest weight)`` of the table."""
        return self._grid.axes[0], self._grid.axes[1][-1]

    @property
    def weight_bytes(self) -> float:
        """Of each weight."""
        return self.bits / 8 if self.widened else WEIGHT_BYTES[self.format]

    def __call__(self, m: int, n: int, k: int) -> Estimate:
        """``m`` rows times a weight of ``k`` by ``n``."""
        return self.of(n, k)(m)


class Product:
    """One weight: ratios between measured shapes are taken once, only rows are left to be read.

    A weight wider than any that was measured (an LM head) runs like equal parts of it one after the
    other.
    """

    def __init__(self, gemm: Gemm, n: int, k: int) -> None:
        self._gemm, self._n, self._k = gemm, n, k
        rows, widest = gemm.measured
        parts = max(1, ceil(n / widest))
        self._shape = gemm.cut(max(n / parts, 1), max(k, 1))
        self._time = Rising(rows, [self._measured_ns(m) for m in rows])

    def ns(self, m: int) -> float:
        """The time alone of a call."""
        return self._time(m) if m > 0 else 0.0

    def __call__(self, m: int) -> Estimate:
        """``m`` rows."""
        if m <= 0:
            return NOTHING
        found, (flops, moved) = self._shape(m), self._work(m)
        outside = found.outside or self._gemm.derived
        return Estimate(self._time(m), moved, flops, found.distance, outside)

    def _measured_ns(self, m: float) -> float:
        gemm, (flops, moved) = self._gemm, self._work(m)
        compute = NS_PER_S * flops / gemm.flops_per_s
        read = NS_PER_S * moved / gemm.gpu.memory_bandwidth_bytes_per_s
        if gemm.widened:
            read_ratio = max(1.0, self._shape(1).value)
            return max(self._shape(max(m, COMPUTING)).value * compute, read_ratio * read)
        measured = max(self._shape(m).value * max(compute, read), compute)
        weights = self._n * self._k * gemm.weight_bytes
        return from_memory(measured, weights, gemm.gpu.memory_bandwidth_bytes_per_s)

    def _work(self, m: float) -> tuple[float, float]:
        """``(FLOPs, bytes)``."""
        moved = self._n * self._k * self._gemm.weight_bytes
        return 2.0 * m * self._n * self._k, moved + m * (self._n + self._k) * ACTIVATION_BYTES


def peak_flops(gpu: GPUSpec, weight_format: str) -> float:
    """Dense FLOP/s of the units that a weight format runs on."""
    wide = gpu.flops_of("bf16") or 0.0
    narrow = gpu.flops_of("fp8") or wide
    return {"bf16": wide, "fp8": narrow, "fp4": FP4_TO_FP8 * narrow}[RATE[weight_format]]


def _formats(gpu: GPUSpec, bits: float) -> tuple[str, ...]:
    """Table formats for weights of so many bits, the best first."""
    if bits >= 12:
        return ("bfloat16",)
    if bits >= 7 and SYSTEMS[gpu.name].fp8:
        return ("fp8_block", "fp8") if bits > 8 else ("fp8", "fp8_block")
    if 4.4 <= bits < 4.6:
        return ("nvfp4", "bfloat16")
    return ("bfloat16",)


MOST_OF_A_GRID = 0.5
SMALL = 128
LAUNCHED_NS = 20e3
"""No product of 128 x 128 takes so long on the GPU: the host's launch was measured with it."""


@lru_cache(maxsize=32)
def _grid(gpu: GPUSpec, formats: tuple[str, ...]) -> tuple[str, LogGrid]:
    """The first format that the card was measured in over most of its shapes, without launches."""
    columns = ("m", "n", "k")
    for weight_format in formats:
        found = rows(
            SYSTEMS[gpu.name].folder, "gemm", "gemm", columns, {"gemm_dtype": weight_format}
        )
        shapes = len(set(zip(found["n"].tolist(), found["k"].tolist(), strict=True)))
        small = (found["n"] == SMALL) & (found["k"] == SMALL) & (found["m"] <= SMALL)
        launched = small.any() and float(np.median(found["ns"][small])) > LAUNCHED_NS
        if shapes >= MOST_OF_A_GRID * 21 * 21 and not launched:
            break
    else:
        raise TableMissing(f"no measured products in {formats[0]} of {gpu.name}.")
    m, n, k = (found[name].astype(float) for name in columns)
    flops = 2.0 * m * n * k
    moved = n * k * WEIGHT_BYTES[weight_format] + m * (n + k) * ACTIVATION_BYTES
    rate, bandwidth = peak_flops(gpu, weight_format), gpu.memory_bandwidth_bytes_per_s
    compute, read = NS_PER_S * flops / rate, NS_PER_S * moved / bandwidth
    bound = compute * (compute >= read) + read * (compute < read)
    return weight_format, LogGrid((m, n, k), found["ns"] / bound)
