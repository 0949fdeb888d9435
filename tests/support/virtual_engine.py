"""An engine whose steps last as long as a law says, exactly, with the log of a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.calibration.engine.clock import StepClock
from kvsim.calibration.engine.history import History
from kvsim.calibration.engine.log import Header, LogWriter
from kvsim.calibration.engine.loop import Loop
from kvsim.calibration.engine.shape import TOY
from kvsim.calibration.engine.steps import Work
from kvsim.sim.deployment import Deployment
from kvsim.sim.groundtruth.parts import make_parts
from kvsim.traces import Trace
from kvsim.traces.embedded import trace_json
from support.sums_runner import VOCAB, SumsRunner

BASE_NS, DECODE_NS, CONTEXT_NS, CHUNK_NS, TOKEN_NS = 8e6, 2e6, 25e3, 3e6, 1e6
OUT_NS, BACK_NS = 4e6, 5e6
"""Of each block that is swapped."""

Law = Callable[[Work], float]


def law(work: Work) -> float:
    """Nanoseconds of a step: linear in what is in it."""
    time = BASE_NS
    for row in work.rows:
        if row.new_tokens == 1:
            time += DECODE_NS + CONTEXT_NS * (row.past_tokens + 1)
        else:
            time += CHUNK_NS + TOKEN_NS * row.new_tokens
    kinds = [move.kind for move in work.moves]
    return time + OUT_NS * kinds.count("out") + BACK_NS * kinds.count("in")


def slower(ratio: float) -> Law:
    """The same, so many times as long."""
    return lambda work: ratio * law(work)


class _Clock(StepClock):
    """The parts of a step are its own time, too: all of it is waiting for the tokens."""

    def stamp_ns(self) -> float:
        return self.now_ns()


def serve(
    path: Path,
    trace: Trace,
    *,
    law: Law = law,
    num_gpu_blocks: int = 65,
    num_host_blocks: int = 0,
    header: dict[str, Any] | None = None,
    stop_s: float = float("inf"),
    **flags: Any,
) -> Path:
    """Serve a trace and write its log."""
    asked = {"max_model_len": 64, "block_size": 4, "max_num_seqs": 4, "max_num_batched_tokens": 16}
    deployment = Deployment(**{**asked, **flags})
    blocks = {"num_gpu_blocks": num_gpu_blocks, "num_host_blocks": num_host_blocks}
    parts = make_parts(trace, deployment, **blocks)
    head: dict[str, Any] = {
        "engine": "mini",
        "hardware": {"name": "law", "clock": "wall"},
        "software": {"kvsim": "0"},
        "model": asdict(TOY),
        "flags": asdict(deployment) | blocks | {"seed": 0},
        "trace": trace_json(trace),
        **(header or {}),
    }
    with LogWriter(path, Header(**head)) as log:
        served = Loop(
            steps=parts.stepper,
            runner=SumsRunner(block_size=deployment.block_size, **blocks),
            history=History(parts.content, vocab_size=VOCAB, seed=0),
            arrivals=parts.arrivals,
            clock=_Clock(law),
            sink=log,
            prompt_tokens=parts.prompt_tokens,
            stop_ns=stop_s * 1e9,
        ).serve()
        log.end(asdict(served))
    return path


def chat(seed: int, count: int = 40, *, rate_per_s: float = 12.0) -> Trace:
    """Short requests; a rate of 0: all at once."""
    draw = np.random.default_rng(seed)
    gaps = draw.exponential(1 / rate_per_s, count) if rate_per_s else np.zeros(count)
    return Trace(
        name=f"chat-{seed}",
        prompt_tokens=draw.integers(2, 30, count),
        output_tokens=draw.integers(1, 20, count),
        arrival_s=np.round(np.cumsum(gaps), 6),
    )
