"""Requests through transformers' continuous batching in real time, each step and token noted.

The library runs its own loop in its own thread; arrivals come from this one. Batches are
synchronous: a step is scheduled, run and answered before the next, so that what is noted of a step
is that step's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from ..engine.quiet import Compiles, no_garbage_collection
from .attention import injected
from .records import Arrival, BatchingAnswer, BatchingLog, BatchingSettings
from .watch import Watch


def run_continuous_batching(
    model: Any, arrivals: Sequence[Arrival], settings: BatchingSettings
) -> BatchingLog:
    """Play requests to a model of transformers that attends through kvsim's kernels.

    Args:
        model: a causal language model, where it is to run; its weights do not matter.
        arrivals: in order of their times; those at 0 wait when the first step begins.
        settings: of the library.

    Raises:
        ValueError: no requests, or requests out of order.
        RuntimeError: the library's loop ended with an error, which it names.
    """
    if not arrivals:
        raise ValueError("arrivals holds no requests.")
    if any(b.arrival_s < a.arrival_s for a, b in pairwise(arrivals)):
        raise ValueError("arrivals must be in order of arrival_s.")
    with injected(model):
        manager = model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
            continuous_batching_config=_config(settings),
        )
        manager.warmup()  # makes the batch processor, and captures graphs where there are some
        compiles = Compiles()
        watch = Watch(manager.batch_processor, compiles)
        try:
            with no_garbage_collection(), compiles.counted():
                begin = time.perf_counter()
                first = sum(one.arrival_s <= 0 for one in arrivals)
                handed_in = _feed(manager, arrivals, range(first), begin)
                manager.start()
                handed_in += _feed(manager, arrivals, range(first, len(arrivals)), begin)
                outputs = _await(manager, len(arrivals))
        finally:
            manager.stop(block=True, hard_stop=True)
            manager.destroy()
    answers = [
        BatchingAnswer(
            row=row,
            arrival_s=handed_in[row] - begin,
            token_s=tuple(at - begin for at in watch.token_times[row]),
            tokens=tuple(outputs[row].generated_tokens),
        )
        for row in range(len(arrivals))
    ]
    return BatchingLog(steps=tuple(watch.steps(begin)), answers=tuple(answers))


def _config(settings: BatchingSettings) -> ContinuousBatchingConfig:
    return ContinuousBatchingConfig(
        page_size=settings.page_size,
        num_blocks=settings.num_blocks,
        max_batch_tokens=settings.max_batch_tokens,
        max_requests_per_batch=settings.max_requests_per_batch,
        max_blocks_per_request=settings.max_blocks_per_request,
        allow_block_sharing=settings.allow_block_sharing,
        scheduler_type=settings.scheduler_type,
        safety_margin=settings.safety_margin,
        cpu_offload_space=settings.cpu_offload_space,
        use_cuda_graph=settings.use_cuda_graph,
        use_async_batching=False,
    )


def _feed(manager: Any, arrivals: Sequence[Arrival], rows: range, begin: float) -> list[float]:
    """Hand in these requests at their times; returns when that was."""
    handed_in = []
    for row in rows:
        one = arrivals[row]
        pause = begin + one.arrival_s - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        handed_in.append(time.perf_counter())
        manager.add_request(
            list(one.prompt),
            request_id=str(row),
            max_new_tokens=one.output_tokens,
        )
    return handed_in


def _await(manager: Any, count: int) -> dict[int, Any]:
    """All answers, by row."""
    outputs: dict[int, Any] = {}
    while len(outputs) < count:
        output = manager.get_result(timeout=1.0)
        if output is not None and output.error is not None:
            raise RuntimeError(f"transformers answered request {output.request_id}: {output.error}")
        if output is not None:
            outputs[int(output.request_id)] = output
        elif not manager.is_running():
            raise RuntimeError("transformers' generation loop has ended before its requests.")
    return outputs
