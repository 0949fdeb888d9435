"""One serving engine: schedule, run, update, step after step.

Between two events the batch is fixed and every request gains one token a step, so many steps are
advanced at once (a *macro-step*): as many as there are before the next request ends, before memory
runs short, before the cost line bends. An arrival that could be admitted cuts the run at the end of
the step in which it arrives. ``exact_steps`` runs one step at a time, with the same result: to the
last bit where step times are whole nanoseconds, to rounding elsewhere (there, an arrival in the
very nanosecond in which a step ends may fall on either side of it).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, NamedTuple

from simpy import Environment, Event, Interrupt

from ..calibration.step_cost import Batch, Line, StepCost
from .allocators import Allocator, Growth, TokensOf, Usage
from .batch import RunningBatch
from .clock import Arrival, StepEnd
from .forking import decoders_of, search
from .links import Links
from .moved import Mover
from .recorder import Moment, Recorder
from .request import Request
from .schedulers import Scheduler, Step


class StepRecord(NamedTuple):
    """One engine step as it went, for a log."""

    scheduled_ns: float
    start_ns: float
    duration_ns: float
    shape: Batch
    step: Step
    moment: Moment
    """When it had been scheduled."""
    num_evicted_blocks: int
    left: list[Request]
    """Requests that left at its end."""
    usage_after: Usage


StepLog = Callable[[StepRecord], None]
Watch = Callable[[float, TokensOf], None]
"""Told since when (ns) the pool is as it is now, and what is in it."""


class Replica:
    """A SimPy process that serves the requests submitted to it.

    Args:
        env: the clock, in nanoseconds.
        allocator: the KV pool.
        batch: the running batch, shared with the scheduler.
        scheduler: decides each step.
        cost: step times.
        recorder: takes what happened.
        on_finish: called with each request that leaves, at the time it leaves.
        exact_steps: never advance more than one step at a time.
        check: verify the allocator's ledger at every event.
        log_step: called with a record of each single step.
        watch: shown the pool whenever a step or a run of steps begins, and after a pause.
        mover: takes the time of copies and swaps; None = they take none.
        links: to the tiers below the GPU; none where the allocator has none.
    """

    _step_is_held = False
    """Whether a run begins with the memory of its first step granted."""

    def __init__(
        self,
        env: Environment,
        *,
        allocator: Allocator,
        batch: RunningBatch,
        scheduler: Scheduler,
        cost: StepCost,
        recorder: Recorder,
        on_finish: Callable[[Request], None],
        exact_steps: bool = False,
        check: bool = False,
        log_step: StepLog | None = None,
        watch: Watch | None = None,
        mover: Mover | None = None,
        links: Links | None = None,
    ) -> None:
        self.env = env
        self.allocator = allocator
        self.batch = batch
        self.scheduler = scheduler
        scheduler.notes_longest = cost.uses_longest
        self.cost = cost
        self.recorder = recorder
        self._on_finish = on_finish
        self._exact = exact_steps
        self._check = check
        self._log_step = log_step
        self._watch = watch
        self._mover = mover
        self._idle: Event | None = None
        self._in_step = False
        self._in_run = False
        self._stuck = False
        self._gone: list[Request] = []
        self._links = links
        self._run_of: tuple[float, Line, int] | None = None
        """Of a run under way: when it began, its line, how many steps it was to have."""
        self._loaded: list[Request] = []
        self._process = env.process(self._serve())

    def submit(self, request: Request) -> None:
        """A request arrives now."""
        matters = self.scheduler.add(request)
        if self._idle is not None:
            self._idle.succeed()
            self._idle = None
        elif matters and self._in_run:
            self._in_run = False
            self._process.interrupt()

    def cancel(self, request: Request) -> None:
        """The client of a request gives up now; it leaves before the next schedule."""
        if request.finish_ns == request.finish_ns:  # it has its answer
            return
        self._gone.append(request)
        self.look_up()

    def look_up(self) -> None:
        """Something has happened: wake up, or end the run of steps with the one under way."""
        if self._idle is not None:
            self._idle.succeed()
            self._idle = None
        elif self._in_run:
            self._in_run = False
            self._process.interrupt()

    @property
    def in_step(self) -> bool:
        """Whether a step is under way, so that who arrives now has to wait for its end."""
        return self._in_step

    def held_tokens(self) -> int:
        """Tokens whose KV the running requests have now, in the middle of a run of steps, too."""
        batch, steps = self.batch, 0
        if self._run_of is not None:
            start, line, most = self._run_of
            steps = steps_until(line, start, self.env.now, most) - 1 + self._step_is_held
        tokens = batch.context_tokens + batch.prefill_tokens + batch.parked_tokens
        return tokens + steps * batch.num_decodes

    def _serve(self) -> Generator[Event, Any, None]:
        while not self._stuck:
            self.scheduler.waiting.step_ended()
            if self._loaded:
                self._end_loads()
            if self._gone:
                self._drop_cancelled()
            if not self.scheduler.has_work():
                yield from self._idle_away()
                continue
            steps = self._steps_ahead()
            yield from self._run(steps) if steps else self._step()

    def _run(self, steps: int) -> Generator[Event, Any, None]:
        """Several steps in which everybody decodes; what matters to them cuts them short."""
        env, batch, scheduler = self.env, self.batch, self.scheduler
        start, num_decodes = env.now, batch.num_decodes
        longest = batch.longest_context_tokens if self.cost.uses_longest else 0
        line = self.cost.decode_line(
            Batch(num_decodes, batch.context_tokens, (), scheduler.padding_rows, longest)
        )
        steps = min(steps, line.num_steps)
        moment = self._moment()
        if self._watch is not None:
            self._watch(start, partial(self._tokens_of, (), self._step_is_held))
        self._run_of = start, line, steps
        self._in_step = self._in_run = True
        try:
            yield StepEnd(env, line.span_ns(steps))
        except Interrupt:
            steps = steps_until(line, start, env.now, steps)
            yield StepEnd(env, start + line.span_ns(steps) - env.now)
        self._in_step = self._in_run = False
        self._run_of = None
        growths, ended = self._advance_run(steps)
        self.recorder.record(
            start_ns=start,
            line=line,
            num_steps=steps,
            num_decodes=num_decodes,
            slots_per_token=self.allocator.slots_per_token,
            moment=moment,
            growths=growths,
        )
        scheduler.after_run(steps)
        if ended:
            self._leave(scheduler.retire(ended))
        if self._check:
            self.allocator.check()

    def _advance_run(self, steps: int) -> tuple[list[Growth], list[Request]]:
        """So many steps of decoding have passed; what they took, and who ends with the last."""
        batch = self.batch
        growths = self.allocator.decode(batch.step, steps)
        batch.step += steps
        return growths, batch.ended() if batch.next_end() == batch.step else []

    def _step(self) -> Generator[Event, Any, None]:
        """One scheduled step."""
        env, start = self.env, self.env.now
        self.scheduler.last_token_ns = start
        step = self.scheduler.schedule(start)
        self._start_loads(step)
        shape = self.scheduler.shape(step)
        moment = self._moment(left_out=len(step.held_back))
        evicted = self.allocator.num_evicted_blocks
        if not shape.num_tokens - shape.num_padding_rows:
            left = self._leave(self.scheduler.retire(()))
            self._log(start, 0.0, shape, step, moment, evicted, left)
            self._stuck = self._starts_over_for_ever(step)
            if not left:
                self._check_progress(step)
            if not left and not step.preempted:
                yield from self._pause()
            return
        duration = self.cost.step_ns(shape)
        if self._mover is not None:
            duration = self._mover.step_ns(duration)
        if self._watch is not None:
            self._watch(start, partial(self._tokens_of, step.held_back, True))
        self._in_step = True
        yield StepEnd(env, duration)
        self._in_step = False
        num_decodes = self.batch.num_decodes - len(step.held_back) - len(step.resumed)
        self.recorder.record_step(start, duration, num_decodes, moment)
        left = self._leave(self.scheduler.retire(self._advance(step, env.now)))
        if self._check:
            self.allocator.check()
        self._log(start, duration, shape, step, moment, evicted, left)

    def _start_loads(self, step: Step) -> None:
        """The links take what the admitted of a step wait for."""
        for request in step.loads:
            assert self._links is not None, "who loads has tiers"
            assert request.load is not None, "it waits for a load"
            now = self.env.now
            end = self._links.send(request.load, now)
            request.loads_ns += (now, end)
            event = Arrival(self.env, end - now)
            assert event.callbacks is not None, "an event that has not occurred has callbacks"
            event.callbacks.append(partial(self._load_ended, request))

    def _load_ended(self, request: Request, _: Event) -> None:
        """Seen by the next schedule, as an arrival is."""
        self._loaded.append(request)
        self.look_up()

    def _end_loads(self) -> None:
        loaded, self._loaded = self._loaded, []
        for request in loaded:
            self.scheduler.end_load(request)

    def _drop_cancelled(self) -> bool:
        """Requests whose client has gone leave; whether there were any.

        Blocks on their way from a tier are being written: who waits for them leaves afterwards.
        """
        loading = self.batch.loading
        gone, self._gone = self._gone, [one for one in self._gone if one in loading]
        if self._gone:
            gone = [one for one in gone if one not in loading]
        for request in gone:
            answered = request.finish_ns == request.finish_ns
            known = None if request.group is None else request.group.known_of(request)
            if not answered and self.scheduler.cancel(request):
                request.cancelled = True
                request.finish_ns = self.env.now
                request.total_tokens = request.known if known is None else known
                self._on_finish(request)
        return bool(gone)

    def _moment(self, *, left_out: int = 0) -> Moment:
        """The coming step; ``left_out`` decoding requests get no token in it."""
        batch, scheduler = self.batch, self.scheduler
        usage = self.allocator.usage(blocked=scheduler.blocked)
        tokens = batch.context_tokens + batch.prefill_tokens + batch.parked_tokens
        return Moment(
            batch.num_requests,
            len(scheduler.waiting),
            scheduler.blocked,
            self._slots(tokens + scheduler.held_tokens - left_out, usage),
            usage,
        )

    def _tokens_of(
        self, held_back: Sequence[Request], with_step: bool, requests: Sequence[Request]
    ) -> list[int]:
        """Tokens whose KV is there, of who decodes with or without the one of the coming step."""
        last = self.batch.step - 1 + with_step
        tokens = [one.base + last if one.decoding else one.computed for one in requests]
        if held_back:
            return [n - (one in held_back) for n, one in zip(tokens, requests, strict=True)]
        return tokens

    def _slots(self, tokens: int, usage: Usage) -> int:
        """Slots that so many tokens of the running requests fill."""
        return tokens * self.allocator.slots_per_token - usage.shared - usage.dead

    def _check_progress(self, step: Step) -> None:
        """A step of nothing is right only where nothing could run."""
        scheduler = self.scheduler
        if self._check and scheduler.waiting and not self.batch.requests and not step.preempted:
            head = scheduler.waiting.head()
            never = scheduler.why_never(head) or self.allocator.why_never(head)
            assert never, f"{head} could run and does not"

    def _starts_over_for_ever(self, step: Step) -> bool:
        """A request outgrew an empty pool twice: the engine would go on like this for ever."""
        return any(
            request.row.num_preemptions > 1 and bool(self.allocator.why_never(request))
            for request in step.preempted
        )

    def _log(
        self,
        start_ns: float,
        duration_ns: float,
        shape: Batch,
        step: Step,
        moment: Moment,
        num_evicted_blocks: int,
        left: list[Request],
        scheduled_ns: float | None = None,
    ) -> None:
        if self._log_step is None:
            return
        after = self.allocator.usage(blocked=self.scheduler.blocked)
        at = start_ns if scheduled_ns is None else scheduled_ns
        record = (at, start_ns, duration_ns, shape, step, moment, num_evicted_blocks, left, after)
        self._log_step(StepRecord(*record))

    def _pause(self) -> Generator[Event, Any, None]:
        """Nothing runs: requests load, or the head of the queue does not fit."""
        if not self.batch.loading:
            yield self._sleep()
            return
        start, moment = self.env.now, self._moment()
        yield self._sleep()
        if self.env.now > start:
            self.recorder.record_pause(start, self.env.now - start, moment)

    def _idle_away(self) -> Generator[Event, Any, None]:
        """Nothing waits or runs; what is cached stays."""
        start, cached = self.env.now, self.allocator.usage(blocked=False).cached
        yield self._sleep()
        if self._watch is not None and self.env.now > start:
            self._watch(start, partial(self._tokens_of, (), False))
        if cached and self.env.now > start:
            self.recorder.record_idle(start, self.env.now - start, cached)

    def _sleep(self) -> Event:
        self._idle = self.env.event()
        return self._idle

    def _steps_ahead(self) -> int:
        """Steps until a request ends or memory is short; 0 where the next one must be scheduled."""
        if self._exact or not self.scheduler.only_decodes():
            return 0
        if self._mover is not None and self._mover.pending:
            return 0
        step = self.batch.step
        return self.allocator.decode_steps(step, self.batch.next_end() - step)

    def _advance(self, step: Step, end_ns: float) -> list[Request]:
        """A single step's tokens are there, or will be at ``end_ns``; returns who then ends."""
        batch, allocator = self.batch, self.allocator
        searching = dict(batch.beams) if batch.beams else {}
        if not (step.chunks or step.held_back or step.resumed or searching):
            batch.step += 1
            return batch.ended() if batch.next_end() == batch.step else []
        for request in step.held_back:
            if not request.cancelled:
                allocator.stop_decoding(request)
                batch.hold_back(request)
                allocator.start_decoding(request)
        for request in step.resumed:
            self._end_pause(request, end_ns)
        batch.step += 1
        for request in step.held_back:
            if not request.cancelled:
                allocator.learn(request, request.known_at(batch.step) - 1)
        finished = batch.ended()
        for request, _ in step.chunks:
            if request.cancelled:
                continue
            allocator.learn(request, request.computed)
            if request.computed == request.known:
                group = request.group
                if group is not None and group.forked and group.survival is not None:
                    searching[group] = None
                for one in decoders_of(request, batch, allocator):
                    self._first_token(one, end_ns)
                    if one.known == one.total_tokens:
                        finished.append(one)
                    else:
                        batch.start_decoding(one)
                        allocator.start_decoding(one)
        for group in searching:
            if group in batch.beams and group.members[0] not in step.held_back:
                search(group, batch, allocator)
        finished.sort(key=lambda request: request.sequence)
        return finished

    def _first_token(self, request: Request, now_ns: float) -> None:
        """The token sampled at the end of a prefill, the first ever or the first after a pause."""
        request.known += 1
        if request.known == request.prompt_tokens + 1:
            request.first_token_ns = now_ns
        if request.row.num_preemptions:
            request.row.pauses_ns[-1] = now_ns
        if request.silent_since_ns >= 0:
            self._end_pause(request, now_ns)

    def _end_pause(self, request: Request, now_ns: float) -> None:
        self.recorder.gaps_ns.append(now_ns - request.silent_since_ns)
        self.recorder.gap_ends_ns.append(now_ns)
        request.silent_since_ns = -1.0

    def _leave(self, leaving: list[Request]) -> list[Request]:
        for request in leaving:
            request.finish_ns = self.env.now
            self._on_finish(request)
        return leaving


def steps_until(line: Line, start_ns: float, now_ns: float, most: int) -> int:
    """The fewest steps of a line, at least one, that end at ``now_ns`` or later."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if start_ns + line.span_ns(middle) >= now_ns:
            high = middle
        else:
            low = middle + 1
    return low
