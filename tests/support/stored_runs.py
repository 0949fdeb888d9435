"""Small runs on disk, as ``simulate --out`` and ``plan --out`` leave them."""

from __future__ import annotations

from pathlib import Path

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.sim.job import simulate_server
from kvsim.sim.result import Result
from kvsim.sim.server import resolve
from kvsim.sim.store import write_result
from kvsim.sim.summary import Summary
from kvsim.traces.intake import Intake, take_in

CLOCK = "affine:0.02,0.0001,0.0000001"


def small_run(*, seed: int = 0, blocks: int = 800, **flags: object) -> tuple[Result, Summary]:
    """120 requests on a small pool."""
    taken = take_in(Intake(workload="sharegpt", num_requests=120, rate_per_s=6.0, seed=seed))
    server = resolve(
        model=load_model("llama-3.1-8b"),
        gpu=load_gpu("a100"),
        trace=taken.trace,
        flags={"max_num_seqs": 16, **flags},
        step_cost_spec=CLOCK,
        num_gpu_blocks_override=blocks,
    )
    return simulate_server(server, trace=taken.trace)


def stored_run(folder: Path, *, seed: int = 0, blocks: int = 800, **flags: object) -> Path:
    """The same, written."""
    write_result(*small_run(seed=seed, blocks=blocks, **flags), folder)
    return folder
