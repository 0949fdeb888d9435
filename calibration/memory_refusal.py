"""The sentence for a server that does not fit its GPU: what is too large, and what would help."""

from __future__ import annotations

from dataclasses import replace

from . import footprint
from .gpus import GIB
from .memory_budget import MemoryLine
from .server_flags import ServerFlags
from .stages import stage_weight_bytes

LARGEST_TENSOR_PARALLEL = 64


def does_not_fit(server: ServerFlags, lines: tuple[MemoryLine, ...], requested_bytes: int) -> str:
    """What is too large for what may be used, and what would do."""
    requested, weights = requested_bytes, lines[0].bytes
    whose = "Model weights" if server.stage.num_stages == 1 else f"Weights of {server.stage}"
    if weights >= requested:
        what = f"{whose} of {weights / GIB:.1f} GiB do"
    else:
        rest = (sum(line.bytes for line in lines) - weights) / GIB
        beside = (
            "non-KV memory as given" if server.non_kv_memory_bytes is not None else "activations"
        )
        what = f"{whose} of {weights / GIB:.1f} GiB and {rest:.1f} GiB of {beside} do"
    return (
        f"{what} not fit the {requested / GIB:.1f} GiB that gpu_memory_utilization"
        f"(={server.gpu_memory_utilization}) of {server.gpu.name} allows; "
        f"{_advice(server, lines, requested)}."
    )


def _advice(server: ServerFlags, lines: tuple[MemoryLine, ...], requested_bytes: int) -> str:
    """What would make it fit: more GPUs, or smaller weights."""
    rest = sum(line.bytes for line in lines[1:])
    room = requested_bytes - rest
    options = []
    size = 2 * server.tensor_parallel_size
    while size <= LARGEST_TENSOR_PARALLEL and server.model.num_heads % size == 0:
        held = stage_weight_bytes(server.model, server.stage, size)
        if held + _more_collectives(server, size) < room:
            options.append(f"tensor_parallel_size >= {size}")
            break
        size *= 2
    if server.model.num_parameters / server.num_gpus < min(room, lines[0].bytes):
        options.append("fp8 weights")
    return " or ".join(options) + " would" if options else "a larger GPU would"


def _more_collectives(server: ServerFlags, size: int) -> int:
    """Bytes that communication takes more on so many GPUs."""
    larger = replace(server, tensor_parallel_size=size)
    return footprint.collective_bytes(larger) - footprint.collective_bytes(server)
