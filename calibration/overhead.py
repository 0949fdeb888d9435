"""The lines of a budget beside weights and pool, each with its source and what it may be in truth.

The ranges say what the model of ``footprint`` leaves open: whether the compile cache was warm (the
compiler's copy of the embedding is then missing, and in some versions it stays reserved), which
kernels a backend loads, and that graphs are estimated by the engine from two samples.
"""

from __future__ import annotations

from . import footprint
from .gpus import GIB
from .memory_budget import MemoryLine, scaled_line
from .server_flags import ServerFlags

FLASHINFER_BYTES = 394 << 20
"""Workspace of the attention kernels that data-centre Blackwell takes by default; not in any log
that we have, so it is in the range only (vLLM 0.33 ``envs.py``)."""


def overhead_lines(server: ServerFlags) -> tuple[MemoryLine, ...]:
    """Activation peak, runtime, collectives and CUDA graphs of a server."""
    name = server.engine.name
    collectives = footprint.collective_bytes(server)
    graphs = footprint.graph_bytes(server)
    counted = "" if server.engine.counts_graphs else "; not taken from the requested memory"
    return (
        _activation_line(server),
        _runtime_line(server),
        scaled_line("nccl", collectives, f"{name}: logged buffers by number of GPUs", 0.2, 1.3),
        scaled_line(
            "cuda_graphs", graphs, f"{name}: captured sizes, logged per layer{counted}", 0.4, 2
        ),
    )


def _activation_line(server: ServerFlags) -> MemoryLine:
    peak = footprint.activation_peak_bytes(server)
    moments = footprint.steady_peak_bytes(server), footprint.compile_bytes(server)
    warm = max(moments[1] - moments[0], 0)
    return MemoryLine(
        name="activation_peak",
        bytes=peak,
        source=f"{server.engine.name}: computed from the profiling run's shapes",
        low_bytes=round(0.85 * (peak - warm)),
        high_bytes=round(1.1 * peak) + GIB // 4,
    )


def _runtime_line(server: ServerFlags) -> MemoryLine:
    size, kernels = footprint.runtime_bytes(server), footprint.kernel_bytes(server)
    held = footprint.embedding_copy_bytes(server) if server.engine.may_hold_segment else 0
    attention = FLASHINFER_BYTES if server.gpu.generation == "blackwell" else 0
    return MemoryLine(
        name="runtime",
        bytes=size,
        source=f"{server.engine.name}: sampler state and expert buffers computed, kernels logged",
        low_bytes=size - kernels // 2,
        high_bytes=size + max(kernels, GIB // 4) + held + attention,
    )
