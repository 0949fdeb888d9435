"""A serving engine that schedules ahead: vLLM's asynchronous mode, its default.

The next batch is scheduled when the current one starts (``golden/RULES.md`` 2.3), so the device
never waits for the scheduler. What the current batch will produce is counted as if it were there
already; only three things come later than in lock step: a request that arrives meanwhile misses the
batch just scheduled, one that ends keeps its memory and its seat through that schedule, and the
prefix cache learns an output token one step later.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, NamedTuple

from simpy import Event

from ..calibration.step_cost import Batch
from .allocators import Growth
from .clock import StepEnd
from .recorder import Moment
from .replica import Replica
from .request import Request
from .schedulers import Step


class _Ready(NamedTuple):
    """The batch that was scheduled and has not started."""

    scheduled_ns: float
    step: Step
    shape: Batch
    num_tokens: int
    moment: Moment | None
    """Where a log is kept."""
    num_evicted_blocks: int


_NOTHING_ELSE = Step()
"""A step in which everybody decodes."""


class AsyncReplica(Replica):
    """A :class:`Replica` whose schedule runs one batch ahead of the device."""

    _ready: _Ready | None = None
    _step_is_held = True

    def _serve(self) -> Generator[Event, Any, None]:
        while not self._stuck:
            self.scheduler.waiting.step_ended()
            if self._loaded:
                self._end_loads()
            cancelled = bool(self._gone) and self._drop_cancelled()
            if self._ready is None:
                if not self.scheduler.has_work():
                    yield from self._idle_away()
                    continue
                self._ready = self._schedule(last_token_ns=self.env.now)
            steps = 0 if cancelled else self._steps_ahead()
            if steps:
                yield from self._run(steps)
                shape = self.scheduler.shape(self._ready.step)
                num_tokens = shape.num_tokens
                busy = num_tokens or self.scheduler.has_work()
                ready = self._ready._replace(shape=shape, num_tokens=num_tokens)
                self._ready = ready if busy else None
            else:
                yield from self._turn(self._ready)

    def _turn(self, current: _Ready) -> Generator[Event, Any, None]:
        """A scheduled batch starts, the next one is scheduled, the batch ends.

        A batch of nothing, which takes no time, still has its place in the line.
        """
        start, step, batch = self.env.now, current.step, self.batch
        empty = not current.num_tokens
        duration = 0.0 if empty else self.cost.step_ns(current.shape)
        left_out = 0
        if step.held_back:
            left_out = sum(not request.cancelled for request in step.held_back)
        num_decodes = batch.num_decodes - left_out - len(step.resumed)
        tokens = batch.context_tokens + batch.prefill_tokens - left_out
        ended = self._advance(step, start + duration)
        self._park(ended)
        if step.chunks or step.held_back:
            self.allocator.in_flight = {**dict(step.chunks), **dict.fromkeys(step.held_back, 0)}
        following = self._schedule(last_token_ns=start + duration)
        self.allocator.in_flight = {}
        if following.step.hits:
            tokens += sum(following.step.hits.values())
        if following.step.preempted:
            tokens -= sum(request.lost_tokens for request in following.step.preempted)
        scheduler = self.scheduler
        usage = self.allocator.usage(blocked=scheduler.blocked)
        slots = self._slots(tokens, usage)
        num_waiting = len(scheduler.waiting)
        moment = Moment(batch.num_requests, num_waiting, scheduler.blocked, slots, usage)
        if not empty:
            if self._watch is not None:
                self._watch(start, partial(self._tokens_of, following.step.held_back, True))
            self._in_step = True
            yield StepEnd(self.env, duration)
            self._in_step = False
            self.recorder.record_step(start, duration, num_decodes, moment)
        left = self._leave(self.scheduler.retire(ended))
        if self._check:
            self.allocator.check()
        if current.moment is not None:
            evicted, scheduled_ns = current.num_evicted_blocks, current.scheduled_ns
            shape, moment = current.shape, current.moment
            self._log(start, duration, shape, step, moment, evicted, left, scheduled_ns)
        self._ready = following
        if following.num_tokens:
            return
        self._stuck = self._starts_over_for_ever(following.step)
        if not self.scheduler.has_work():
            self._ready = None
        elif empty and not step.preempted and not following.step.preempted:
            self._check_progress(following.step)
            self._ready = None
            yield from self._pause()

    def _schedule(self, *, last_token_ns: float) -> _Ready:
        """Decide the next batch; the tokens of the one before arrive at ``last_token_ns``."""
        now, scheduler, batch = self.env.now, self.scheduler, self.batch
        scheduler.last_token_ns = last_token_ns
        if self._just_decodes():
            self.allocator.decode(batch.step, 1)
            scheduler.after_run(1)
            longest = batch.longest_context_tokens if self.cost.uses_longest else 0
            step = _NOTHING_ELSE
            shape = Batch(batch.num_decodes, batch.context_tokens, (), 0, longest)
        else:
            step = scheduler.schedule(now)
            self._start_loads(step)
            shape = scheduler.shape(step)
        moment = None if self._log_step is None else self._moment()
        evicted = self.allocator.num_evicted_blocks
        return _Ready(now, step, shape, shape.num_tokens, moment, evicted)

    def _just_decodes(self) -> bool:
        """Whether scheduling comes to one more token for all, seen without asking one by one."""
        scheduler, batch = self.scheduler, self.batch
        full = not scheduler.waiting or len(batch.requests) >= scheduler.limits.seats
        return (
            full
            and not self._exact
            and scheduler.only_decodes()
            and self.allocator.decode_steps(batch.step, 1) == 1
        )

    def _park(self, ended: list[Request]) -> None:
        """Their last token is on its way."""
        for request in ended:
            if request.decoding:
                self.allocator.stop_decoding(request)
            self.batch.park(request)

    def _advance_run(self, steps: int) -> tuple[list[Growth], list[Request]]:
        batch, allocator, first = self.batch, self.allocator, self.batch.step + 1
        if batch.step + steps < batch.next_end():
            batch.step += steps
            return allocator.decode(first, steps), []
        growths = allocator.decode(first, steps - 1) if steps > 1 else []
        batch.step += steps
        ended = batch.ended()
        self._park(ended)
        if batch.num_decodes:
            last = allocator.decode(batch.step, 1)
            growths += [growth._replace(offset=steps - 1) for growth in last]
        return growths, ended

    def _steps_ahead(self) -> int:
        """Batches, from the one that is ready on, until a request ends or memory is short.

        The schedule that still sees the ended requests is among them, unless it may see more room.
        """
        assert self._ready is not None, "the caller has scheduled"
        step = self._ready.step
        if self._exact or step.chunks or step.held_back or step.resumed:
            return 0
        if not self.scheduler.only_decodes():
            return 0
        first = self.batch.step + 1
        limit = self.batch.next_end() - first
        limits = self.scheduler.limits
        budget_left = limits.max_num_batched_tokens > self.batch.num_decodes
        if not self.scheduler.waiting or (limits.enable_chunked_prefill and budget_left):
            limit += 1
        return self.allocator.decode_steps(first, limit)
