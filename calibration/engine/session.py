"""One run: the device is made ready, the trace is served in real time, the log is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .arrivals import Arrivals
from .clock import clock_named
from .facts import hardware, software
from .history import History
from .log import Header, LogWriter
from .loop import Loop, Served
from .quiet import no_garbage_collection, one_thread
from .runner import EngineSize, Runner
from .shape import LEAST_KV_TOKENS, LlamaShape, check_fits
from .steps import Content, Steps

Report = Callable[[str, int, int], None]
"""Told what is under way: a title, how much is done, of how much."""
PHASES = ("weights", "CUDA graphs", "serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """What somebody else decides: whom to run in which blocks, and what they say."""

    steps: Steps
    content: Content
    arrivals: Arrivals
    prompt_tokens: list[int]
    """Of each row of the trace."""
    flags: Mapping[str, Any]
    """For the log's head, as the next one."""
    trace: Mapping[str, Any]


def device_for(name: str, shape: LlamaShape, *, kv_tokens: int) -> torch.device:
    """The device of this name, which has memory enough.

    Raises:
        ValueError: it has too little, or there is none.
    """
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device(={name}) must be an NVIDIA GPU, and there is none.")
        check_fits(shape, torch.cuda.mem_get_info(device)[1], kv_tokens=kv_tokens)
    return device


def card_blocks(shape: LlamaShape, block_size: int) -> int:
    """Blocks of a pool that takes what weights and the rest leave of the card.

    Raises:
        ValueError: there is no card, or it leaves too little for a pool worth a load.
    """
    if not torch.cuda.is_available():
        raise ValueError("device(=cuda) must be an NVIDIA GPU, and there is none.")
    total = torch.cuda.mem_get_info()[1]
    check_fits(shape, total, kv_tokens=LEAST_KV_TOKENS)
    left = total - shape.needed_bytes(0)
    return int(left // (shape.kv_bytes_per_token * block_size))


def run_session(
    handed: Handed,
    *,
    shape: LlamaShape,
    size: EngineSize,
    device: torch.device,
    path: Path,
    seed: int,
    clock: str,
    stop_s: float,
    report: Report | None,
) -> Served:
    """Serve and write the log.

    Args:
        handed: scheduler, ledger, contents, arrivals.
        shape: the model.
        size: pools and limits.
        device: where it runs.
        path: of the log.
        seed: of weights and tokens.
        clock: of ``clock.CLOCKS``.
        stop_s: nobody is let in later.
        report: told about progress.
    """
    _say(report, 0)
    runner = Runner(shape, size, device=device, seed=seed)
    _say(report, 1)
    runner.capture()
    runner.warm()
    _say(report, 2)
    header = Header(
        engine="mini",
        hardware={**hardware(device), "clock": clock},
        software=software(),
        model=asdict(shape),
        flags=dict(handed.flags),
        trace=dict(handed.trace),
    )
    with LogWriter(path, header) as log, one_thread(), no_garbage_collection():
        served = Loop(
            steps=handed.steps,
            runner=runner,
            history=History(handed.content, vocab_size=shape.vocab_size, seed=seed),
            arrivals=handed.arrivals,
            clock=clock_named(clock),
            sink=log,
            prompt_tokens=handed.prompt_tokens,
            stop_ns=stop_s * 1e9,
        ).serve()
        log.end(asdict(served))
    _say(report, 3)
    return served


def _say(report: Report | None, done: int) -> None:
    if report is not None:
        report(PHASES[min(done, len(PHASES) - 1)], done, len(PHASES))
