"""From one card to another: what kernels can have of each, and how far that is in doubt.

    roof = max(bytes / B, FLOPs / F)        B, F of a card, for one kind of kernel

Between cards of one generation B and F are the datasheet's; across generations they are multiplied
by the share of them that each generation's kernels reach (``efficiency``).

Doubts are one standard deviation of a coefficient. Bandwidth 10 %, products 15 % (25 % across
generations), links 15 % and launches 30 % are assumed; the others are wide enough for cards with
tables of their own, when those are left out (the tests print by how much). Experts part most: H100
and H200, the same chip, by up to 46 % in their tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..efficiency import efficiency_of
from ..estimate import Estimate
from ..gpus import GPUSpec
from ..model_spec import ModelSpec
from ..step_cost import NS_PER_S

UNITS = ("bf16", "fp8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubts:
    """One standard deviation of each kind of coefficient, relative."""

    read: float
    compute: float
    experts: float
    """Whatever binds them: which of many variants runs was tuned for each card."""
    link: float
    launch: float = 0.30


INSIDE = Doubts(read=0.10, compute=0.15, experts=0.25, link=0.15)
"""One generation."""
ACROSS = Doubts(read=0.25, compute=0.25, experts=0.40, link=0.30)


class Rates(NamedTuple):
    """What one kind of kernel can have of a card."""

    bytes_per_s: float
    flops_per_s: float

    @property
    def ridge(self) -> float:
        """FLOPs per byte at which both bind."""
        return self.flops_per_s / self.bytes_per_s

    def read_ns(self, found: Estimate) -> float:
        """Least time of its bytes."""
        return NS_PER_S * found.bytes / self.bytes_per_s

    def compute_ns(self, found: Estimate) -> float:
        """Least time of its FLOPs."""
        return NS_PER_S * found.flops / self.flops_per_s

    def roof_ns(self, found: Estimate) -> float:
        """Least time of both."""
        return max(self.read_ns(found), self.compute_ns(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From a measured card to another one, for one kind of kernel."""

    measured: Rates
    other: Rates
    doubts: Doubts

    def work(self, at: Estimate, there: Estimate) -> float:
        """The other card's roof at ``at`` over the measured one's ``there``."""
        roof = self.measured.roof_ns(there)
        if not roof:  # no bytes or FLOPs are known: memory
            return self.measured.bytes_per_s / self.other.bytes_per_s
        return self.other.roof_ns(at) / roof

    def scaled(self, at: Estimate, there: Estimate, floor_ns: float) -> Estimate:
        """The kernel at ``at`` on the other card, from its time ``there`` on the measured one."""
        floor = min(floor_ns, max(0.0, there.ns - self.measured.roof_ns(there)))
        work = (there.ns - floor) * self.work(at, there)
        reads = self.other.read_ns(at) >= self.other.compute_ns(at)
        doubt = self.doubts.read if reads else self.doubts.compute
        doubted = floor * self.doubts.launch + work * doubt
        ns = floor + work
        return at._replace(ns=ns, doubt=doubted / ns if ns else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """All kinds of kernels of one model, from a measured card to another one."""

    model: ModelSpec
    measured: GPUSpec
    other: GPUSpec
    tensor_parallel_size: int
    kv_cache_dtype: str

    @property
    def across(self) -> bool:
        """Whether the cards are of different generations."""
        return self.measured.generation != self.other.generation

    @property
    def doubts(self) -> Doubts:
        """Of every coefficient."""
        return ACROSS if self.across else INSIDE

    def scale(self, kind: str, flops_per_s: float | None = None) -> Scale:
        """For kernels of a kind: ``linear``, ``decode`` or ``prefill``."""
        units = units_of(self.measured, flops_per_s)
        return Scale(
            measured=self._rates(self.measured, kind, units),
            other=self._rates(self.other, kind, units),
            doubts=self.doubts,
        )

    def _rates(self, gpu: GPUSpec, kind: str, units: tuple[str, float]) -> Rates:
        name, times = units
        flops = times * (gpu.flops_of(name) or gpu.flops_of("bf16") or 0.0)
        if not self.across:
            return Rates(gpu.memory_bandwidth_bytes_per_s, flops)
        reach = efficiency_of(gpu.generation)
        read = reach.weight_read if kind == "linear" else reach.kv_read
        compute = reach.prefill_attention if kind == "prefill" else reach.gemm
        return Rates(gpu.memory_bandwidth_bytes_per_s * read, flops * compute)


def units_of(gpu: GPUSpec, flops_per_s: float | None) -> tuple[str, float]:
    """The datasheet's name of units with such a peak, and how many times that they are."""
    for name in UNITS:
        if flops_per_s in (None, gpu.flops_of(name)):
            return name, 1.0
    narrow = gpu.flops_of("fp8")
    return ("fp8", (flops_per_s or 0.0) / narrow) if narrow else ("bf16", 1.0)
