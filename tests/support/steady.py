"""A small server whose steps all take 10 ms, within a band: throughput can be told by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.step_cost import UNBOUNDED, Band, Batch, Line, StepCost
from kvsim.sim.server import Server, resolve
from kvsim.traces import Trace

STEP_S = 0.01
BAND = Band(low=0.8, high=1.25, source="by hand")


class SteadyCost(StepCost):
    """Every step takes 10 ms, whatever is in it."""

    source = "by hand"
    band = BAND

    def step_ns(self, batch: Batch) -> float:
        return STEP_S * 1e9

    def decode_line(self, batch: Batch) -> Line:
        return Line(STEP_S * 1e9, 0.0, UNBOUNDED)

    def describe(self) -> dict[str, object]:
        return {"source": self.source}


def alike(number: int, *, prompt: int, output: int, every_s: float | None = None) -> Trace:
    """So many requests of the same lengths, evenly spaced; or lengths only."""
    return Trace(
        name="alike",
        prompt_tokens=np.full(number, prompt, dtype=np.int64),
        output_tokens=np.full(number, output, dtype=np.int64),
        arrival_s=None if every_s is None else every_s * np.arange(number, dtype=np.float64),
    )


def steady_server(
    trace: Trace,
    *,
    blocks: int,
    few: int | None = None,
    many: int | None = None,
    max_model_len: int | None = None,
    **flags: object,
) -> Server:
    """In lock step, no prefix cache; ``few`` and ``many`` are the ends of the pool's band."""
    server = resolve(
        model=load_model("llama-3.1-8b"),
        gpu=load_gpu("a100"),
        trace=trace,
        max_model_len=max_model_len,
        flags={"async_scheduling": False, "enable_prefix_caching": False, **flags},
        step_cost_spec="affine:0.01,0,0",
        num_gpu_blocks_override=blocks,
    )
    size = server.budget.block_bytes
    budget = replace(
        server.budget,
        kv_cache_low_bytes=(blocks if few is None else few) * size,
        kv_cache_high_bytes=(blocks if many is None else many) * size,
    )
    return replace(server, budget=budget, cost=SteadyCost())
