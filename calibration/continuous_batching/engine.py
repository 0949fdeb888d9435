"""Requests through transformers' continuous batching in real time, each step and token noted.

The library runs its own loop in its own thread; arrivals come from this one. Batches are
synchronous: a step is scheduled, run and answered before the next, so that what is noted of a step
is that step's. Noting costs two clock readings and a list of tuples a step.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from .attention import injected


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request to be played."""

    arrival_s: float
    prompt: Sequence[int]
    """Token ids."""
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingSettings:
    """The library's own flags, under its names.

    Raises:
        ValueError: a size below 1, a share outside [0, 1], or an unknown scheduler.
    """

    page_size: int = 16
    num_blocks: int
    max_batch_tokens: int = 8192
    max_requests_per_batch: int = 1024
    max_blocks_per_request: int
    """Of requests that decode through a block table."""
    allow_block_sharing: bool = True
    scheduler_type: str = "fifo"
    safety_margin: float | None = None
    cpu_offload_space: float = 0.0
    """GiB."""
    use_cuda_graph: bool = False

    def __post_init__(self) -> None:
        sizes = ("page_size", "num_blocks", "max_batch_tokens", "max_requests_per_batch")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}(={getattr(self, name)}) must be > 0.")
        if self.scheduler_type not in ("fifo", "prefill_first"):
            raise ValueError(
                f"scheduler_type(={self.scheduler_type!r}) must be fifo or prefill_first."
            )
        if self.safety_margin is not None and not 0 <= self.safety_margin <= 1:
            raise ValueError(f"safety_margin(={self.safety_margin}) must be in [0, 1].")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingStep:
    """One step; seconds since the replay began."""

    start_s: float
    """Its scheduling began."""
    scheduled_s: float
    """Its tensors were prepared: the model runs from here on."""
    end_s: float
    """Its tokens were with their requests."""
    given: tuple[tuple[int, int, int], ...]
    """Row, tokens and tokens computed before, of each request in it, in order."""
    kv_read_tokens: int
    fast_path: bool
    """Everybody decoded through a block table; else all KV was gathered first."""
    num_free_blocks: int
    num_cached_blocks: int
    num_waiting: int
    num_running: int
    offloaded: tuple[tuple[int, bool], ...]
    """Rows that gave way, and whether they went to host memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingAnswer:
    """What became of a request; seconds since the replay began."""

    row: int
    arrival_s: float
    """When it was handed in."""
    token_s: tuple[float, ...]
    """Ends of the steps that sampled them."""
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingLog:
    """A replay."""

    steps: tuple[BatchingStep, ...]
    answers: tuple[BatchingAnswer, ...]
    """In order of their rows."""


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
        watch = _Watch(manager.batch_processor)
        gc.collect()
        gc.freeze()
        try:
            begin = time.perf_counter()
            first = sum(one.arrival_s <= 0 for one in arrivals)
            handed_in = _feed(manager, arrivals, range(first), begin)
            manager.start()
            handed_in += _feed(manager, arrivals, range(first, len(arrivals)), begin)
            outputs = _await(manager, len(arrivals))
        finally:
            manager.stop(block=True, hard_stop=True)
            manager.destroy()
            gc.unfreeze()
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


class _Watch:
    """Looks over the shoulder of a batch processor; changes nothing.

    The library's own times of tokens do not outlive a soft reset: those here are ends of steps.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.token_times: dict[int, list[float]] = {}
        self._notes: list[tuple[Any, ...]] = []
        self._answered: list[int] = []
        self._start = self._scheduled = 0.0
        self._fast_path, self._kv_read = False, 0
        self._offloaded: dict[int, bool] = {}
        self._given: tuple[tuple[int, int, int], ...] = ()
        self._room: tuple[int, int, int, int] = (0, 0, 0, 0)
        self._wrap(processor, "prepare_next_batch", self._prepare)
        self._wrap(processor, "update_batch", self._update)
        self._wrap(processor.scheduler, "schedule_batch", self._schedule)
        self._wrap(processor.offloading_manager, "offload_requests", self._offload)

    def steps(self, begin: float) -> list[BatchingStep]:
        """All so far, on a clock that began then."""
        return [
            BatchingStep(
                start_s=start - begin,
                scheduled_s=scheduled - begin,
                end_s=end - begin,
                given=given,
                kv_read_tokens=kv_read,
                fast_path=fast_path,
                num_free_blocks=free,
                num_cached_blocks=cached,
                num_waiting=waiting,
                num_running=running,
                offloaded=offloaded,
            )
            for (
                (start, scheduled, end),
                (given, kv_read, fast_path),
                (free, cached, waiting, running),
                offloaded,
            ) in self._notes
        ]

    @staticmethod
    def _wrap(owner: Any, name: str, around: Any) -> None:
        inner = getattr(owner, name)
        setattr(owner, name, lambda *arguments: around(inner, *arguments))

    def _prepare(self, inner: Any) -> bool:
        self._start, self._offloaded = time.perf_counter(), {}
        ready = bool(inner())
        if ready:
            self._note_batch()
            self._scheduled = time.perf_counter()
        return ready

    def _schedule(self, inner: Any, *budgets: int) -> Any:
        answer = inner(*budgets)
        _, self._fast_path, _, self._kv_read = answer
        return answer

    def _offload(self, inner: Any) -> bool:
        running = self._processor.scheduler.active_requests
        before = dict(running)
        done = bool(inner())
        for name, state in before.items():
            if name not in running:
                self._offloaded[int(name)] = state.is_cpu_offloaded
        return done

    def _note_batch(self) -> None:
        batch = self._processor.inputs_and_outputs.requests_in_batch
        self._given = tuple(
            (int(one.state.request_id), one.query_length, _before(one)) for one in batch
        )
        self._answered = [int(one.state.request_id) for one in batch if one.has_new_token]
        pool, scheduler = self._processor.cache.pool, self._processor.scheduler
        allocators = self._processor.cache.cache_allocators.values()
        self._room = (
            pool.num_free_sectors + sum(pool.count_free_blocks(one.index) for one in allocators),
            sum(len(one.ledger.cached_blocks) for one in allocators),
            len(scheduler.waiting_requests),
            len(scheduler.active_requests),
        )

    def _update(self, inner: Any) -> None:
        inner()
        times = self._start, self._scheduled, time.perf_counter()
        for row in self._answered:
            self.token_times.setdefault(row, []).append(times[-1])
        about = self._given, self._kv_read, self._fast_path
        self._notes.append((times, about, self._room, tuple(self._offloaded.items())))


def _before(one: Any) -> int:
    """Tokens computed before; the library has already counted those of the step."""
    return int(one.state.position_offset - one.query_length)
