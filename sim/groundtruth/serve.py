"""One run of the engine on a trace, into a log."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...calibration.engine.clock import CLOCKS
from ...calibration.engine.shape import LlamaShape
from ...calibration.names import unknown_name
from ...traces.embedded import trace_json
from ...traces.trace import Trace
from ..deployment import Deployment
from ..schedulers import TRANSFORMERS
from .parts import make_parts

if TYPE_CHECKING:
    from ...calibration.engine.runner import EngineSize

DEVICES = ("cuda", "cpu")
Report = Callable[[str, int, int], None]
"""Told what is done: a title, how much of it, of how much."""


def check_device(device: str, clock: str) -> None:
    """Refuse what does not go together.

    Raises:
        ValueError: an unknown name, or a GPU with the processor's clock.
    """
    if device not in DEVICES:
        raise unknown_name(device, DEVICES, field="device")
    if clock not in CLOCKS:
        raise unknown_name(clock, CLOCKS, field="clock")
    if clock != "wall" and device != "cpu":
        raise ValueError(
            f"clock(={clock}) must be wall with device {device}: a GPU computes beside the "
            "processor."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRun:
    """What to run.

    Raises:
        ValueError: pools or minutes below their least.
    """

    shape: LlamaShape
    deployment: Deployment
    num_gpu_blocks: int
    """Of the pool, the null block included; set by hand so that preemption happens, or not."""
    num_host_blocks: int = 0
    minutes: float = float("inf")
    """No request is let in later; those let in are answered."""
    device: str = "cuda"
    seed: int = 0
    clock: str = "wall"
    """``wall``; on a CPU also ``processor``, the time of the serving thread alone, or ``steady``:
    that time, corrected for how fast the processor is."""

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ValueError(f"minutes(={self.minutes:g}) must be > 0.")
        check_device(self.device, self.clock)
        if self.num_gpu_blocks < 2:
            raise ValueError(
                f"num_gpu_blocks(={self.num_gpu_blocks}) must be >= 2: block 0 is the null block."
            )
        swaps = self.deployment.preemption_mode != "recompute"
        if swaps and self.num_host_blocks < 1:
            raise ValueError(
                f"num_host_blocks(={self.num_host_blocks}) must be > 0 with preemption_mode "
                f"{self.deployment.preemption_mode}."
            )

    @property
    def kv_tokens(self) -> int:
        """That the pool holds."""
        return self.num_gpu_blocks * self.deployment.block_size


def serve_trace(trace: Trace, run: EngineRun, path: Path, report: Report | None = None) -> None:
    """Serve a trace in real time and write its log.

    Args:
        trace: with arrival times.
        run: model, server, pools.
        path: of the log, ``.jsonl`` or ``.jsonl.gz``.
        report: told about progress.

    Raises:
        ValueError: what the engine does not run, a trace beyond its length, a card with too little
            memory or none at all.
    """
    if run.deployment.scheduler in TRANSFORMERS:
        from .by_transformers import serve_by_transformers

        return serve_by_transformers(trace, run, path, report)
    if run.device == "cpu":  # before the kernels are imported, which ask for it once
        os.environ.setdefault("TRITON_INTERPRET", "1")
    from ...calibration.engine.session import Handed, device_for, run_session

    flags = run.deployment
    blocks = {"num_gpu_blocks": run.num_gpu_blocks, "num_host_blocks": run.num_host_blocks}
    parts = make_parts(
        trace, flags, num_gpu_blocks=run.num_gpu_blocks, num_host_blocks=run.num_host_blocks
    )
    device = device_for(run.device, run.shape, kv_tokens=run.kv_tokens)
    run_session(
        Handed(
            steps=parts.stepper,
            content=parts.content,
            arrivals=parts.arrivals,
            prompt_tokens=parts.prompt_tokens,
            flags=asdict(flags) | blocks | {"seed": run.seed},
            trace=trace_json(trace),
        ),
        shape=run.shape,
        size=size_of(run),
        device=device,
        path=path,
        seed=run.seed,
        clock=run.clock,
        stop_s=run.minutes * 60,
        report=report,
    )


def size_of(run: EngineRun) -> EngineSize:
    """What the engine is built for."""
    from ...calibration.engine.runner import EngineSize

    flags = run.deployment
    return EngineSize(
        num_gpu_blocks=run.num_gpu_blocks,
        num_host_blocks=run.num_host_blocks,
        block_size=flags.block_size,
        max_model_len=flags.max_model_len,
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        enforce_eager=flags.enforce_eager,
    )
