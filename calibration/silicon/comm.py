"""All-reduce between the GPUs of one replica, as measured.

Two a layer under tensor parallelism, each of tokens * hidden 16-bit values. The engine has a kernel
of its own for short messages between GPUs that reach each other directly, and NCCL for the rest:
of the two tables the faster is taken. Message sizes are elements; between them the time is linear
and made to rise. A host whose large messages crossed less than a quarter of the card's own PCIe
bandwidth (eight L40S: 1.5 of 32 GB/s) says more of that host than of the card: it is believed down
to the quarter only, and flagged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from ..step_cost import NS_PER_S
from .monotone import Rising
from .systems import SYSTEMS
from .tables import TableMissing, rows, source_of

CUSTOM = ("comm", "custom_allreduce")
NCCL = ("comm", "nccl")
IN_A_GRAPH = "graph"
LEAST_OF_PCIE = 0.25
LATENCY_NS = 100e3
"""What a short message may take on any host before it is doubted."""
ELEMENT_BYTES = 2


class _Measured(NamedTuple):
    """One kernel's times, both as logarithms."""

    elements: np.ndarray
    """Logarithms of the measured sizes."""
    time: Rising


class AllReduce:
    """One replica's all-reduce on one kind of card."""

    def __init__(self, gpu: GPUSpec, num_gpus: int) -> None:
        self.num_gpus = num_gpus
        self._pcie_bytes_per_s = gpu.pcie_bytes_per_s
        folder = SYSTEMS[gpu.name].folder
        found = rows(folder, *CUSTOM, ("num_gpus", "message_size", "kernel_source"))
        graph = np.char.find(found["kernel_source"].astype(str), IN_A_GRAPH) >= 0
        sizes = sorted(set(found["num_gpus"][graph].tolist()))
        if not sizes:
            raise TableMissing(f"no measured all-reduce in CUDA graphs on {gpu.name}.")
        nearest = min(sizes, key=lambda n: abs(np.log2(n / max(num_gpus, 2))))
        self.derived = nearest != num_gpus
        self._kernels = [_measured(found, graph & (found["num_gpus"] == nearest))]
        self.source = source_of(folder, *CUSTOM)
        self._add_nccl(folder, nearest)
        ring, ours = (nearest - 1) / nearest, (num_gpus - 1) / num_gpus
        self._scale = ours / ring if self.derived else 1.0

    def __call__(self, elements: int) -> Estimate:
        """One message of so many 16-bit values."""
        if self.num_gpus == 1 or elements <= 0:
            return NOTHING
        x = float(np.log(elements))
        ns, kernel = min((k.time(elements), index) for index, k in enumerate(self._kernels))
        known = self._kernels[kernel].elements
        away = float(np.min(np.abs(known - x)) / np.log(2))
        moved = 2.0 * elements * ELEMENT_BYTES * (self.num_gpus - 1) / self.num_gpus
        slowest = LATENCY_NS + NS_PER_S * moved / (LEAST_OF_PCIE * self._pcie_bytes_per_s)
        outside = self.derived or bool(x > known[-1]) or ns > slowest
        return Estimate(min(ns, slowest) * self._scale, moved, 0.0, away, outside)

    def _add_nccl(self, folder: str, num_gpus: int) -> None:
        where = {"op_name": "all_reduce", "nccl_dtype": "half", "num_gpus": num_gpus}
        try:
            found = rows(folder, *NCCL, ("message_size",), where, backend="")
        except TableMissing:
            return
        if len(found["ns"]):
            self._kernels.append(_measured(found, found["ns"] > 0))
            self.source += " or NCCL"


def _measured(found: dict[str, np.ndarray], chosen: np.ndarray) -> _Measured:
    order = np.argsort(found["message_size"][chosen])
    elements = found["message_size"][chosen][order].astype(float)
    times = Rising(elements.tolist(), found["ns"][chosen][order].tolist())
    return _Measured(np.log(elements), times)
