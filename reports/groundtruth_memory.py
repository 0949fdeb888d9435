"""A card's memory as it was measured, beside the budget: a table and a sentence."""

from __future__ import annotations

from math import isfinite

from ..sim.groundtruth.memory import GOAL, MemoryTruth
from . import words
from .compare_sheets import percent
from .sheet import Sheet

TITLES = {
    "weights": "weights",
    "activation_peak": "activation peak",
    "runtime": "runtime and context",
    "cuda_graphs": "CUDA graphs",
    "kv_cache": "KV pool",
}


def memory_sheet(truth: MemoryTruth) -> Sheet:
    """A row per line of the budget."""
    return Sheet(
        title=f"{truth.model} on {truth.gpu}, {truth.gpu_memory_utilization:g} of the memory",
        columns=("line", "measured", "predicted", "error"),
        rows=tuple(
            (
                TITLES[one.name],
                words.gib(one.measured_bytes),
                words.gib(one.predicted_bytes),
                percent(one.error) if isfinite(one.error) else "not 0",
            )
            for one in truth.lines
        ),
    )


def memory_line(truth: MemoryTruth) -> str:
    """Whether the pool is met."""
    error = truth.lines[-1].error
    held = "held" if truth.met else "missed"
    return f"KV pool: {percent(error)}, goal {100 * GOAL:g} %: {held}."
