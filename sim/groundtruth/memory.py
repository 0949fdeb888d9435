"""What an engine's memory goes to on a card, beside what ``kvsim memory`` says it goes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...calibration.device_names import device_of
from ...calibration.gpus import GPUSpec, load_gpu
from ...calibration.memory import plan_memory
from ...calibration.models import load_model
from .serve import EngineRun

if TYPE_CHECKING:
    from ...calibration.engine.memory import MeasuredMemory

GOAL = 0.02
"""Of the KV pool: the other lines are shown."""
LINES = {
    "weights": "weight_bytes",
    "activation_peak": "activation_bytes",
    "runtime": "runtime_bytes",
    "cuda_graphs": "graph_bytes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLine:
    """One line, bytes."""

    name: str
    measured_bytes: int
    predicted_bytes: int

    @property
    def error(self) -> float:
        """Relative to what was measured; infinite beside 0, 0 where both are."""
        if self.measured_bytes:
            return self.predicted_bytes / self.measured_bytes - 1
        return 0.0 if not self.predicted_bytes else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTruth:
    """A card with an engine on it."""

    gpu: str
    model: str
    gpu_memory_utilization: float
    lines: tuple[MemoryLine, ...]
    """The pool is the last."""

    @property
    def met(self) -> bool:
        """Whether the pool is predicted to the goal."""
        return abs(self.lines[-1].error) <= GOAL

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "gpu": self.gpu,
            "model": self.model,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "measured_bytes": {one.name: one.measured_bytes for one in self.lines},
            "predicted_bytes": {one.name: one.predicted_bytes for one in self.lines},
            "kv_cache_error": self.lines[-1].error,
            "goal": GOAL,
            "met": self.met,
        }


def compare_memory(measured: MeasuredMemory, run: EngineRun, gpu: GPUSpec) -> MemoryTruth:
    """Line by line.

    Args:
        measured: on the card.
        run: shape and flags that it was measured with.
        gpu: the card.

    Raises:
        ValueError: a shape that is no model of the catalogue, or that does not fit.
    """
    flags = run.deployment
    utilization = flags.gpu_memory_utilization
    budget = plan_memory(
        model=load_model(run.shape.name),
        gpu=gpu,
        block_size=flags.block_size,
        gpu_memory_utilization=utilization,
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        max_model_len=flags.max_model_len,
        enforce_eager=flags.enforce_eager,
        async_scheduling=False,
    )
    predicted = {line.name: line.bytes for line in budget.lines}
    lines = [
        MemoryLine(
            name=name,
            measured_bytes=getattr(measured, field),
            predicted_bytes=predicted.get(name, 0),
        )
        for name, field in LINES.items()
    ]
    pool = MemoryLine(
        name="kv_cache",
        measured_bytes=measured.kv_cache_bytes(utilization),
        predicted_bytes=budget.kv_cache_bytes,
    )
    return MemoryTruth(
        gpu=gpu.name,
        model=run.shape.name,
        gpu_memory_utilization=utilization,
        lines=(*lines, pool),
    )


def measure_on_card(run: EngineRun, gpu: str | None) -> MemoryTruth:
    """Measure this machine's card and compare.

    Args:
        run: shape and flags.
        gpu: the card's name, where it is not recognised.

    Raises:
        ValueError: no card, an unknown one, or one with too little memory.
    """
    if run.device != "cuda":
        raise ValueError(f"device(={run.device}) must be cuda: memory is measured on a GPU.")
    from ...calibration.engine.facts import hardware
    from ...calibration.engine.memory import measure_memory
    from ...calibration.engine.session import device_for
    from .serve import size_of

    device = device_for(run.device, run.shape, kv_tokens=0)
    name = str(hardware(device)["name"])
    known = gpu or device_of(name)
    if known is None:
        raise ValueError(f"gpu(={name!r}) is not recognised: name it by --gpu.")
    return compare_memory(
        measure_memory(run.shape, size_of(run), device=device), run, load_gpu(known)
    )
