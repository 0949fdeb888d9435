"""One run of the engine on a trace, into a log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...calibration.engine.log import Header, LogWriter
from ...calibration.engine.shape import LlamaShape, check_fits
from ...traces import Trace
from ..deployment import Deployment
from .parts import check_engine, make_parts

Report = Callable[[str, int, int], None]
"""Told what is done: a title, how much of it, of how much."""
NUM_PHASES = 3


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

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ValueError(f"minutes(={self.minutes:g}) must be > 0.")
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
    import torch

    from ...calibration.engine.clock import RealClock
    from ...calibration.engine.facts import hardware, software
    from ...calibration.engine.history import History
    from ...calibration.engine.loop import Loop
    from ...calibration.engine.runner import EngineSize, Runner

    check_engine(trace, run.deployment)
    device = torch.device(run.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device(=cuda) must be an NVIDIA GPU, and there is none.")
        _, total = torch.cuda.mem_get_info(device)
        check_fits(run.shape, total, kv_tokens=run.kv_tokens)
    flags = run.deployment
    parts = make_parts(
        trace, flags, num_gpu_blocks=run.num_gpu_blocks, num_host_blocks=run.num_host_blocks
    )
    size = EngineSize(
        num_gpu_blocks=run.num_gpu_blocks,
        num_host_blocks=run.num_host_blocks,
        block_size=flags.block_size,
        max_model_len=flags.max_model_len,
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        enforce_eager=flags.enforce_eager,
    )
    _say(report, "weights", 0)
    runner = Runner(run.shape, size, device=device, seed=run.seed)
    _say(report, "CUDA graphs", 1)
    runner.capture()
    runner.warm()
    _say(report, "serve", 2)
    with LogWriter(path, _header(trace, run, hardware(device), software())) as log:
        served = Loop(
            steps=parts.stepper,
            runner=runner,
            history=History(parts.content, vocab_size=run.shape.vocab_size, seed=run.seed),
            arrivals=parts.arrivals,
            clock=RealClock(),
            sink=log,
            prompt_tokens=parts.prompt_tokens,
            stop_ns=run.minutes * 60e9,
        ).serve()
        log.end(asdict(served))
    _say(report, "serve", 3)


def _header(
    trace: Trace, run: EngineRun, hardware: dict[str, Any], software: dict[str, str]
) -> Header:
    """What identifies a run."""
    flags = asdict(run.deployment) | {
        "num_gpu_blocks": run.num_gpu_blocks,
        "num_host_blocks": run.num_host_blocks,
        "seed": run.seed,
    }
    return Header(
        engine="mini",
        hardware=hardware,
        software=software,
        model=asdict(run.shape),
        flags=flags,
        trace={"name": trace.name, "digest": trace.digest, "requests": len(trace)},
    )


def _say(report: Report | None, title: str, done: int) -> None:
    if report is not None:
        report(title, done, NUM_PHASES)
