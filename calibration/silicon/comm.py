"""All-reduce between the GPUs of one replica, from the engine's own kernel as measured.

Two a layer under tensor parallelism, each of tokens * hidden 16-bit values. The table's message
sizes are elements; between them, the logarithm of the time is linear in that of the size.
"""

from __future__ import annotations

import numpy as np

from ..gpus import GPUSpec
from .estimate import NOTHING, Estimate
from .systems import SYSTEMS
from .tables import TableMissing, rows, source_of

OPERATOR = ("comm", "custom_allreduce")
IN_A_GRAPH = "graph"
ELEMENT_BYTES = 2


class AllReduce:
    """One replica's all-reduce on one kind of card."""

    def __init__(self, gpu: GPUSpec, num_gpus: int) -> None:
        self.num_gpus = num_gpus
        folder = SYSTEMS[gpu.name].folder
        self.source = source_of(folder, *OPERATOR)
        found = rows(folder, *OPERATOR, ("num_gpus", "message_size", "kernel_source"))
        graph = np.char.find(found["kernel_source"].astype(str), IN_A_GRAPH) >= 0
        sizes = sorted(set(found["num_gpus"][graph].tolist()))
        if not sizes:
            raise TableMissing(f"no measured all-reduce in CUDA graphs on {gpu.name}.")
        nearest = min(sizes, key=lambda n: abs(np.log2(n / max(num_gpus, 2))))
        self.derived = nearest != num_gpus
        chosen = graph & (found["num_gpus"] == nearest)
        order = np.argsort(found["message_size"][chosen])
        self._logs = np.log(found["message_size"][chosen][order].astype(float))
        self._ns = np.log(found["ns"][chosen][order])
        ring, ours = (nearest - 1) / nearest, (num_gpus - 1) / num_gpus
        self._scale = ours / ring

    def __call__(self, elements: int) -> Estimate:
        """One message of so many 16-bit values."""
        if self.num_gpus == 1 or elements <= 0:
            return NOTHING
        x = np.log(elements)
        ns = float(np.exp(np.interp(x, self._logs, self._ns)))
        over = max(0.0, float(x - self._logs[-1]))
        outside = self.derived or over > 0
        ns *= float(np.exp(over)) * (self._scale if self.derived else 1.0)
        away = float(np.min(np.abs(self._logs - x)) / np.log(2))
        moved = 2.0 * elements * ELEMENT_BYTES * (self.num_gpus - 1) / self.num_gpus
        return Estimate(ns, moved, 0.0, away, outside)
