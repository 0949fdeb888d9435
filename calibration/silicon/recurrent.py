"""Recurrent layers (gated delta rule): convolution and state update, from their table.

Decode costs by sequence, prefill by token; both are read off the table of the nearest head counts
and scaled by the number of value heads; states come from memory. Other recurrent layers (Mamba-2,
Kimi's) are costed as a delta rule with a state of their size, and the result is flagged.
"""

from __future__ import annotations

from math import log2

import numpy as np

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from .monotone import Rising, from_memory
from .systems import SYSTEMS
from .tables import rows, source_of

OPERATOR = ("linear_attention", "gdn")
SAME_HEADS = 0.05
"""States carry the convolution beside the heads: so much off is the same number of heads."""


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
        self.derived = abs(nearest / value_heads - 1) > SAME_HEADS
        scale = value_heads / nearest if self.derived else 1.0
        chosen = heads == nearest
        decodes = chosen & (found["phase"] == "generation")
        self._decode = _summed(found, decodes, "batch_size", scale)
        one = chosen & (found["phase"] == "context") & (found["batch_size"] == 1)
        self._prefill = _summed(found, one, "seq_len", scale)
        self._bandwidth = gpu.memory_bandwidth_bytes_per_s

    def decode(self, sequences: int) -> Estimate:
        """One token of each."""
        return self._read(self._decode, sequences, 2.0 * sequences * self.state_bytes)

    def chunk(self, new: int) -> Estimate:
        """So many tokens of one sequence."""
        return self._read(self._prefill, new, 2.0 * self.state_bytes)

    def _read(self, time: Rising, count: int, moved: float) -> Estimate:
        if count <= 0:
            return NOTHING
        ns = from_memory(time(count), moved, self._bandwidth)
        away = min(abs(log2(count / x)) for x in time.points)
        return Estimate(ns, moved, 0.0, away, count > time.points[-1] or self.derived)


def _summed(found: dict[str, np.ndarray], keep: np.ndarray, axis: str, scale: float) -> Rising:
    """The kernels of one pass together, by sequences or tokens (the mean over measured models).

    Counts at which one of the kernels was not measured are left out.
    """
    kernels = set(found["kernel_source"][keep].tolist())
    totals: dict[float, float] = {}
    for count in sorted(set(found[axis][keep].tolist())):
        here = keep & (found[axis] == count)
        parts = [found["ns"][here & (found["kernel_source"] == kernel)] for kernel in kernels]
        if all(len(part) for part in parts):
            totals[float(count)] = scale * sum(float(part.mean()) for part in parts)
    return Rising(list(totals), list(totals.values()))
