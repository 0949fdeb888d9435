"""One run of transformers' continuous batching on a trace, into a log like the other engine's.

The library keeps its own scheduler and blocks: what kvsim hands it are tokens and flags.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...calibration.engine.history import History
from ...traces.embedded import trace_json
from ...traces.trace import Trace
from ..content import shared_prefixes
from ..deployment import Deployment
from ..request import Request
from ..schedulers import TRANSFORMERS
from ..sequences import make_requests
from .content import TraceContent
from .serve import EngineRun, Report

if TYPE_CHECKING:
    from ...calibration.continuous_batching.records import Arrival, BatchingSettings

RELEASE = "5.23"
"""Of transformers, whose functions are watched and replaced by name."""


def serve_by_transformers(
    trace: Trace, run: EngineRun, path: Path, report: Report | None = None
) -> None:
    """Let transformers serve a trace in real time and write the log.

    Args:
        trace: with an arrival time in every row.
        run: model, server (scheduler ``transformers`` or ``transformers_prefill_first``), pools.
        path: of the log, ``.jsonl`` or ``.jsonl.gz``.
        report: told about progress.

    Raises:
        ValueError: what the library does not run, a trace beyond its length or pool, another
            release, a card with too little memory or none at all.
    """
    _check_release()
    check_loop(trace, run)
    if run.clock != "wall":
        raise ValueError(
            f"clock(={run.clock}) must be wall with scheduler {run.deployment.scheduler}: the "
            "library's own loop waits for arrivals."
        )
    if run.device == "cpu":  # before the kernels are imported, which ask for it once
        os.environ.setdefault("TRITON_INTERPRET", "1")
    from ...calibration.continuous_batching.session import run_session
    from ...calibration.engine.session import device_for

    flags = replace(run.deployment, enforce_eager=True)  # no graphs are captured here
    blocks = {"num_gpu_blocks": run.num_gpu_blocks, "num_host_blocks": run.num_host_blocks}
    let_in = trace.arrival_s is not None and trace.arrival_s <= run.minutes * 60
    count = int(np.count_nonzero(let_in))
    run_session(
        arrivals_of(trace, run)[:count],
        settings_of(run),
        shape=run.shape,
        max_model_len=flags.max_model_len,
        device=device_for(run.device, run.shape, kv_tokens=run.kv_tokens),
        seed=run.seed,
        flags=asdict(flags) | blocks | {"seed": run.seed},
        trace=trace_json(trace),
        num_left_out=len(trace) - count,
        path=path,
        report=report,
    )


def check_loop(trace: Trace, run: EngineRun) -> None:
    """Refuse what the library's loop does not run, or kvsim's scheduler does not follow.

    Raises:
        ValueError: as it says.
    """
    flags = run.deployment
    if flags.scheduler not in TRANSFORMERS:
        raise ValueError(
            f"scheduler(={flags.scheduler}) must be {' or '.join(TRANSFORMERS)}: the library has "
            "its own."
        )
    needs: Mapping[str, tuple[object, ...]] = {
        "allocator": ("paged",),
        "preemption_mode": ("recompute", "swap"),
        "tensor_parallel_size": (1,),
        "pipeline_parallel_size": (1,),
        "swap_overlap": (False,),
    }
    for name, wanted in needs.items():
        if getattr(flags, name) not in wanted:
            raise ValueError(
                f"{name}(={getattr(flags, name)}) must be {' or '.join(map(str, wanted))}: "
                "transformers runs nothing else."
            )
    _check_rows(trace)
    total = trace.prompt_tokens + trace.output_tokens
    row = int(np.argmax(total))
    usable = (run.num_gpu_blocks - 1) * flags.block_size
    for name, most in (("max_model_len", flags.max_model_len), ("tokens of the pool", usable)):
        if total[row] > most:
            raise ValueError(
                f"trace has {total[row]} tokens in row {row}, which must be <= {name}(={most})."
            )
    if flags.enable_prefix_caching:
        _check_answers(trace)


def _check_rows(trace: Trace) -> None:
    if trace.arrival_s is None or np.isnan(trace.arrival_s).any():
        raise ValueError("trace must have an arrival time in every row: the loop is open.")
    for name, column in (("num_samples", trace.num_samples), ("beam_width", trace.beam_width)):
        if column is not None and (column > 1).any():
            raise ValueError(f"{name} must be <= 1 in every row: a request has one sequence.")
    if trace.cancel_s is not None and not np.isnan(trace.cancel_s).all():
        raise ValueError("cancel_s must be empty in every row: nobody gives up.")


def _check_answers(trace: Trace) -> None:
    """Prompts are fixed before the run, so that none can hold what is answered in it."""
    row_of, tokens = shared_prefixes(trace)
    beyond = tokens > np.where(row_of >= 0, trace.prompt_tokens[row_of], 0)
    if beyond.any():
        row = int(np.argmax(beyond))
        raise ValueError(
            f"trace shares {tokens[row]} tokens in row {row}, which must be <= the prompt of row "
            f"{row_of[row]}(={trace.prompt_tokens[row_of[row]]}): prompts are written before the "
            "answers."
        )


def arrivals_of(trace: Trace, run: EngineRun) -> list[Arrival]:
    """The requests with their token ids, drawn by the run's seed; beginnings in common are equal.

    Prompts that are equal to the last token get equal answers, whose blocks the library shares,
    too; the simulator takes answers to differ.
    """
    from ...calibration.continuous_batching.records import Arrival

    requests: list[Request] = make_requests(trace, run.deployment)
    content = TraceContent(
        trace, [[one] for one in requests], shared=run.deployment.enable_prefix_caching
    )
    history = History(content, vocab_size=run.shape.vocab_size, seed=run.seed)
    assert trace.arrival_s is not None, "check_loop() has looked"
    return [
        Arrival(
            arrival_s=arrival_s, prompt=history.tokens(row, 0, prompt), output_tokens=output_tokens
        )
        for row, (arrival_s, prompt, output_tokens) in enumerate(
            zip(
                trace.arrival_s.tolist(),
                trace.prompt_tokens.tolist(),
                trace.output_tokens.tolist(),
                strict=True,
            )
        )
    ]


def settings_of(run: EngineRun) -> BatchingSettings:
    """The run's flags under the library's names."""
    from ...calibration.continuous_batching.records import BatchingSettings

    flags: Deployment = run.deployment
    block_bytes = flags.block_size * run.shape.kv_bytes_per_token
    host: dict[str, Any] = {}
    if flags.preemption_mode == "swap":
        host = {"cpu_offload_space": (run.num_host_blocks * block_bytes + 1) / 2**30}
    return BatchingSettings(
        page_size=flags.block_size,
        num_blocks=run.num_gpu_blocks - 1,
        max_batch_tokens=flags.max_num_batched_tokens,
        max_requests_per_batch=flags.max_num_seqs,
        max_blocks_per_request=-(-flags.max_model_len // flags.block_size),
        allow_block_sharing=flags.enable_prefix_caching,
        scheduler_type="prefill_first" if flags.scheduler != TRANSFORMERS[0] else "fifo",
        safety_margin=flags.watermark,
        **host,
    )


def _check_release() -> None:
    try:
        found = version("transformers")
    except PackageNotFoundError:
        found = "none"
    if not found.startswith(f"{RELEASE}."):
        raise ValueError(
            f"transformers(={found}) must be {RELEASE}: pip install transformers=={RELEASE}.0."
        )
