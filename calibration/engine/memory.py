"""What an engine's memory goes to, measured the way vLLM profiles it before it sizes its pool.

    weights      what the framework has allocated for them
    activations  its peak during a step of ``max_num_batched_tokens`` from ``max_num_seqs``
                 requests, above what was there
    runtime      what the driver has given to the process beside the framework's own memory: the
                 context, loaded kernels, library workspaces
    graphs       what capturing them took
    pool         ceil(total x gpu_memory_utilization) - all of these

Readings are those of a process that has the card to itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Protocol

import torch

from .graphs import Capture
from .runner import EngineSize, Runner
from .shape import LlamaShape


class Meter(Protocol):
    """Reads a card's memory, in bytes."""

    def total(self) -> int: ...
    def taken(self) -> int:
        """By everybody, as the driver says."""
        ...

    def reserved(self) -> int:
        """Part of it that the framework holds, used or not."""
        ...

    def allocated(self) -> int:
        """Part of that in use."""
        ...

    def begin_peak(self) -> None: ...
    def peak(self) -> int:
        """The most that was allocated since."""
        ...

    def give_back(self) -> None:
        """The framework holds only what it uses."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMemory:
    """One card with one engine on it, bytes."""

    total_bytes: int
    weight_bytes: int
    activation_bytes: int
    runtime_bytes: int
    graph_bytes: int

    def kv_cache_bytes(self, gpu_memory_utilization: float) -> int:
        """What is left for the pool."""
        requested = ceil(self.total_bytes * gpu_memory_utilization)
        used = self.weight_bytes + self.activation_bytes + self.runtime_bytes + self.graph_bytes
        return requested - used

    def num_gpu_blocks(self, gpu_memory_utilization: float, block_bytes: int) -> int:
        """Blocks of the pool, the null block included."""
        return max(0, self.kv_cache_bytes(gpu_memory_utilization) // block_bytes)


def measure_memory(
    shape: LlamaShape,
    size: EngineSize,
    *,
    device: torch.device,
    meter: Meter | None = None,
    capture: Capture | None = None,
) -> MeasuredMemory:
    """Build an engine with next to no pool, run its largest step, capture its graphs.

    Args:
        shape: the model.
        size: limits; its pools are not used.
        device: the card.
        meter: by default the card's.
        capture: as ``Runner.capture``.
    """
    meter = meter or CudaMeter(device)
    before = meter.allocated()
    runner = Runner(shape, replace(size, num_gpu_blocks=2, num_host_blocks=0), device=device)
    weights = meter.allocated() - before
    meter.begin_peak()
    runner.largest_step()
    activations = meter.peak() - weights - before
    meter.give_back()
    runtime = meter.taken() - meter.reserved()
    taken = meter.taken()
    runner.capture(capture)
    meter.give_back()
    return MeasuredMemory(
        total_bytes=meter.total(),
        weight_bytes=weights,
        activation_bytes=activations,
        runtime_bytes=runtime,
        graph_bytes=meter.taken() - taken,
    )


class CudaMeter:
    """The card's own readings."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def total(self) -> int:
        """By the driver."""
        return int(torch.cuda.mem_get_info(self._device)[1])

    def taken(self) -> int:
        """By the driver."""
        free, total = torch.cuda.mem_get_info(self._device)
        return int(total - free)

    def reserved(self) -> int:
        """By the framework."""
        return torch.cuda.memory_reserved(self._device)

    def allocated(self) -> int:
        """By the framework."""
        return torch.cuda.memory_allocated(self._device)

    def begin_peak(self) -> None:
        """From now on."""
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int:
        """By the framework."""
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device)

    def give_back(self) -> None:
        """Unused memory goes back to the driver."""
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
