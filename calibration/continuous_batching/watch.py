"""Looks over the shoulder of transformers' batch processor, and changes nothing.

The library's own times of tokens do not outlive a soft reset: those here are ends of steps. Noting
costs a handful of clock readings and a tuple a step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from ..engine.quiet import Compiles
from .records import BatchingStep


class Watch:
    """Notes the steps of a batch processor.

    Args:
        processor: the library's, whose functions are wrapped; its batches are synchronous.
        compiles: counts the kernels that are compiled meanwhile.
    """

    def __init__(self, processor: Any, compiles: Compiles) -> None:
        self._processor = processor
        self._compiles = compiles
        self.token_times: dict[int, list[float]] = {}
        """Of each row the ends of the steps that sampled its tokens, on the host's clock."""
        self._notes: list[tuple[tuple[float, ...], dict[str, Any]]] = []
        self._answered: list[int] = []
        self._times: list[float] = []
        self._batch: dict[str, Any] = {}
        self._offloaded: dict[int, bool] = {}
        self._moved = [0, 0]
        """Blocks out to host memory, and back."""
        self._stream = processor.inputs_and_outputs.compute_stream
        """None on a CPU."""
        event: Any = torch.cuda.Event
        self._events = [event(enable_timing=True) for _ in range(2)] if self._stream else []
        self._wrap(processor, "prepare_next_batch", self._prepare)
        self._wrap(processor, "update_batch", self._update)
        self._wrap(processor.scheduler, "schedule_batch", self._schedule)
        self._wrap(processor.model_runner, "compute_batch", self._compute)
        self._wrap(processor.inputs_and_outputs, "prepare_batch_tensors", self._tensors)
        self._wrap(processor.inputs_and_outputs, "retrieve_device_outputs", self._retrieve)
        self._wrap(processor.offloading_manager, "offload_requests", self._offload)
        self._wrap(processor.offloading_manager, "restore_scheduled_requests", self._restore)

    def steps(self, begin_s: float) -> Iterator[BatchingStep]:
        """All so far, on a clock that began then."""
        names = ("start_s", "scheduled_s", "prepared_s", "launched_s", "synced_s", "end_s")
        for times, batch in self._notes:
            stamps = {name: at - begin_s for name, at in zip(names, times, strict=True)}
            yield BatchingStep(**{**stamps, **batch})

    @staticmethod
    def _wrap(owner: Any, name: str, around: Any) -> None:
        inner = getattr(owner, name)
        setattr(owner, name, lambda *values, **named: around(inner, *values, **named))

    def _stamp(self) -> None:
        self._times.append(time.perf_counter())

    def _prepare(self, inner: Any) -> bool:
        self._times, self._offloaded, self._moved = [], {}, [0, 0]
        self._stamp()
        ready = bool(inner())
        if ready:
            self._note_batch()
            self._stamp()
        return ready

    def _schedule(self, inner: Any, *budgets: int) -> Any:
        answer = inner(*budgets)
        _, self._batch["fast_path"], _, self._batch["kv_read_tokens"] = answer
        return answer

    def _offload(self, inner: Any) -> bool:
        running = self._processor.scheduler.active_requests
        before = dict(running)
        done = bool(inner())
        for name, state in before.items():
            if name not in running:
                self._offloaded[int(name)] = state.is_cpu_offloaded
                if state.is_cpu_offloaded:
                    self._moved[0] += self._host_blocks(name)
        return done

    def _restore(self, inner: Any, batch: Any) -> None:
        back = [one.state for one in batch if one.state.is_cpu_offloaded]
        self._moved[1] += sum(self._host_blocks(state.request_id) for state in back)
        inner(batch)

    def _host_blocks(self, name: str) -> int:
        blocks = self._processor.offloading_manager._request_id_to_cpu_blocks[name]
        return sum(map(len, blocks.values()))

    def _tensors(self, inner: Any, **named: Any) -> None:
        self._stamp()
        inner(**named)

    def _compute(self, inner: Any, *values: Any) -> None:
        if not self._events:
            inner(*values)
            return
        self._events[0].record(self._stream)
        inner(*values)
        self._events[1].record(self._stream)

    def _retrieve(self, inner: Any) -> None:
        self._stamp()
        inner()
        self._stamp()

    def _note_batch(self) -> None:
        batch = self._processor.inputs_and_outputs.requests_in_batch
        self._answered = [int(one.state.request_id) for one in batch if one.has_new_token]
        pool, scheduler = self._processor.cache.pool, self._processor.scheduler
        allocators = self._processor.cache.cache_allocators.values()
        self._batch |= {
            "given": tuple(
                (int(one.state.request_id), one.query_length, _before(one)) for one in batch
            ),
            "num_free_blocks": pool.num_free_sectors
            + sum(pool.count_free_blocks(one.index) for one in allocators),
            "num_cached_blocks": sum(len(one.ledger.cached_blocks) for one in allocators),
            "num_waiting": len(scheduler.waiting_requests),
            "num_running": len(scheduler.active_requests),
        }

    def _update(self, inner: Any) -> None:
        inner()
        self._stamp()
        for row in self._answered:
            self.token_times.setdefault(row, []).append(self._times[-1])
        after = {
            "gpu_s": self._gpu_s(),
            "offloaded": tuple(self._offloaded.items()),
            "swapped_out_blocks": self._moved[0],
            "swapped_in_blocks": self._moved[1],
            "compiled": self._compiles.taken(),
        }
        self._notes.append((tuple(self._times), {**self._batch, **after}))

    def _gpu_s(self) -> float:
        if not self._events:
            return float("nan")
        begin, end = self._events
        return float(begin.elapsed_time(end)) / 1e3


def _before(one: Any) -> int:
    """Tokens computed before; the library has already counted those of the step."""
    return int(one.state.position_offset - one.query_length)
