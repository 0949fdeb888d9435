"""Recurrent layers (gated delta rule): convolution and state update, from their table.

Decode costs by sequence, prefill by token; both are read off the table of the nearest head counts
and scaled by the number of value heads. Cards without the table use the states' bytes instead.
"""

from __future__ import annotations

from math import log2

import numpy as np

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from .grid import LogGrid
from .systems import SYSTEMS
from .tables import rows, source_of

OPERATOR = ("linear_attention", "gdn")


class Recurrent:
    """One layer's recurrent kernels on one GPU.

    Args:
        gpu: the card.
        state_bytes: one sequence's state on this GPU.
        value_heads: heads of that state on this GPU.
    """

    def __init__(self, gpu: GPUSpec, *, state_bytes: float, value_heads: int) -> None:
        self.state_bytes = state_bytes
        folder = SYSTEMS[gpu.name].folder
        self.source = source_of(folder, *OPERATOR)
        columns = ("phase", "batch_size", "seq_len", "num_v_heads", "kernel_source", "d_model")
        found = rows(folder, *OPERATOR, columns)
        heads = found["num_v_heads"]
        nearest = min(set(heads.tolist()), key=lambda n: (abs(log2(n / value_heads)), n))
        self.derived = nearest != value_heads
        self._scale = value_heads / nearest
        chosen = heads == nearest
        self._decode = _summed(found, chosen & (found["phase"] == "generation"), "batch_size")
        one = chosen & (found["phase"] == "context") & (found["batch_size"] == 1)
        self._prefill = _summed(found, one, "seq_len")

    def decode(self, sequences: int) -> Estimate:
        """One token of each."""
        return self._read(self._decode, sequences, 2.0 * sequences * self.state_bytes)

    def chunk(self, new: int) -> Estimate:
        """So many tokens of one sequence."""
        return self._read(self._prefill, new, 2.0 * self.state_bytes)

    def _read(self, grid: LogGrid, count: int, moved: float) -> Estimate:
        if count <= 0:
            return NOTHING
        found = grid(count)
        last = grid.axes[0][-1]
        ns = found.value * self._scale * max(1.0, count / last)
        return Estimate(ns, moved, 0.0, found.distance, found.outside or self.derived)


def _summed(found: dict[str, np.ndarray], keep: np.ndarray, axis: str) -> LogGrid:
    """The kernels of one pass together, by sequences or tokens (the mean over measured models)."""
    totals: dict[int, float] = {}
    for count in sorted(set(found[axis][keep].tolist())):
        here = keep & (found[axis] == count)
        kernels = set(found["kernel_source"][here].tolist())
        totals[count] = sum(
            float(found["ns"][here & (found["kernel_source"] == kernel)].mean())
            for kernel in kernels
        )
    return LogGrid((np.array(list(totals)),), np.array(list(totals.values())))
