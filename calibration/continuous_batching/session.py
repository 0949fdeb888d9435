"""One run of transformers' loop: the model is made, the requests are played, the log is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from ..engine.facts import hardware, software
from ..engine.log import Header
from ..engine.loop import Served
from ..engine.shape import LlamaShape
from .engine import run_continuous_batching
from .log import NAME, write_log
from .model import random_llama
from .records import Arrival, BatchingSettings

Report = Callable[[str, int, int], None]
"""Told what is under way: a title, how much is done, of how much."""
PHASES = ("weights", "warm up", "serve")
WARM_PROMPTS = (1, 2, 5, 16, 33, 100)
"""Lengths of prompts, several at once, after which the common variants of kernels are compiled."""


def run_session(
    arrivals: Sequence[Arrival],
    settings: BatchingSettings,
    *,
    shape: LlamaShape,
    max_model_len: int,
    device: torch.device,
    seed: int,
    flags: Mapping[str, Any],
    trace: Mapping[str, Any],
    num_left_out: int,
    path: Path,
    report: Report | None,
) -> Served:
    """Play requests and write the log.

    Args:
        arrivals: in order of their times.
        settings: the library's.
        shape: of the model.
        max_model_len: of a request, tokens.
        device: where it runs.
        seed: of the weights.
        flags: of the server, for the log's head; with ``num_gpu_blocks``.
        trace: what it serves, for the log's head.
        num_left_out: requests of the trace that are not among ``arrivals``.
        path: of the log.
        report: told about progress.
    """
    _say(report, 0)
    model = random_llama(shape, device, seed=seed, max_model_len=max_model_len)
    _say(report, 1)
    if device.type == "cuda":
        most = min(max_model_len, settings.num_blocks * settings.page_size)
        run_continuous_batching(model, _warming(most), settings)
    _say(report, 2)
    header = Header(
        engine=f"{NAME} {transformers.__version__}",
        hardware={**hardware(device), "clock": "wall"},
        software={**software(), NAME: transformers.__version__},
        model=asdict(shape),
        flags=dict(flags),
        trace=dict(trace),
    )
    log = run_continuous_batching(model, arrivals, settings)
    served = write_log(path, header, log, arrivals, num_left_out=num_left_out)
    _say(report, 3)
    return served


def _warming(most: int) -> list[Arrival]:
    lengths = [length for length in WARM_PROMPTS if length + 3 <= most]
    return [
        Arrival(arrival_s=0.0, prompt=[row % 7] * length, output_tokens=1 + row % 3)
        for row, length in enumerate([*lengths, *lengths])
    ]


def _say(report: Report | None, done: int) -> None:
    if report is not None:
        report(PHASES[min(done, len(PHASES) - 1)], done, len(PHASES))
