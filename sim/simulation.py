"""A trace through one server: the feeder of arrivals, the replica, the result.

Arrivals come at the trace's times, or ``delay_s`` after the previous turn of a session has ended,
or, with ``concurrency``, whenever one of so many clients is free (closed loop): a client takes the
next session when the last turn of its own is answered.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
from simpy import Environment, Event
from simpy.core import StopSimulation

from ..calibration.step_cost import NS_PER_S, StepCost
from .allocators import Allocator, TokensOf
from .async_replica import AsyncReplica
from .batch import RunningBatch
from .clock import Arrival
from .content import content_paths
from .deployment import Deployment
from .engine import hash_block_size, make_allocator, make_scheduler, make_swap
from .links import Links
from .map_recorder import MapRecorder
from .moved import Mover, Moves
from .recorder import Recorder
from .replica import Replica, StepLog
from .request import Request
from .result import Result, collect
from .sequences import Family, check_widths, copies, make_requests, moves_blocks, shares, widths
from .servable import Arrivals, why_rejected
from .tier_use import tier_uses

Progress = Callable[[int], None]
"""Told how many requests are done, now and then."""
OnDone = Callable[[Request], bool]
"""Told of each request that leaves; True ends the run there."""

_PROGRESS_EVERY = 256


def simulate(
    trace: Arrivals,
    *,
    deployment: Deployment,
    cost: StepCost,
    num_gpu_blocks: int,
    concurrency: int | None = None,
    exact_steps: bool = False,
    check: bool = False,
    tie_rank: Sequence[int] | None = None,
    log_step: StepLog | None = None,
    progress: Progress | None = None,
    on_done: OnDone | None = None,
    memory_map: MapRecorder | None = None,
    moves: Moves | None = None,
    num_host_blocks: int | None = None,
) -> Result:
    """Replay a trace through one server.

    Args:
        trace: what arrives; lengths alone are enough with ``concurrency``.
        deployment: the server's flags.
        cost: step times.
        num_gpu_blocks: blocks of the KV pool, the null block included; a contiguous allocator
            gets the same memory, ``num_gpu_blocks * block_size`` slots.
        concurrency: closed loop with so many clients, each sending its next request, or
            the first of its next session, when the last one is answered; the trace's times are not
            used, the pauses within sessions are.
        exact_steps: one engine step at a time: slower, same result.
        check: verify the allocator's ledger at every event.
        tie_rank: order among requests of one priority and arrival time; by default the trace's.
        log_step: called after each step; implies ``exact_steps``.
        progress: told how many requests are done.
        on_done: told of each request that leaves; ends the run when it says so, and who is there
            then stays unfinished.
        memory_map: looks at the pool now and then, and changes nothing.
        moves: what copies and swaps cost; None = no time.
        num_host_blocks: blocks of host memory for swaps; by default what ``swap_space`` holds.

    Raises:
        ValueError: no requests, no arrival times, concurrency below 1, no block for a request,
            more sequences than seats, a swap space that holds no block.
    """
    if not len(trace.prompt_tokens):
        raise ValueError("trace holds no requests.")
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"concurrency(={concurrency}) must be > 0.")
    if concurrency is None and trace.arrival_s is None:
        raise ValueError(
            "trace has lengths only: give rate, concurrency or arrival_process backlog."
        )
    check_widths(trace, deployment)
    run = _Run(
        trace,
        tie_rank=tie_rank,
        deployment=deployment,
        cost=cost,
        allocator=make_allocator(deployment, num_gpu_blocks, sharing=shares(trace, deployment)),
        exact_steps=exact_steps or log_step is not None,
        check=check,
        log_step=log_step,
        progress=progress,
        on_done=on_done,
        memory_map=memory_map,
        moves=moves,
        num_host_blocks=num_host_blocks,
    )
    return run.closed_loop(concurrency) if concurrency is not None else run.open_loop()


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """A simulation makes many values that stay and little garbage: looking for it costs a tenth."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Run:
    """One simulation: its clock, its replica, its requests."""

    def __init__(
        self,
        trace: Arrivals,
        *,
        tie_rank: Sequence[int] | None,
        deployment: Deployment,
        cost: StepCost,
        allocator: Allocator,
        exact_steps: bool,
        check: bool,
        log_step: StepLog | None,
        progress: Progress | None,
        on_done: OnDone | None,
        memory_map: MapRecorder | None,
        moves: Moves | None,
        num_host_blocks: int | None,
    ) -> None:
        self.env = Environment()
        self.deployment = deployment
        self.allocator = allocator
        self.recorder = Recorder()
        self.requests = make_requests(trace, deployment)
        self.recorder.tiers = allocator.tiers
        for request, rank in zip(self.requests, tie_rank or (), strict=False):
            request.tie_rank = rank
        self._families = self._sequences(trace)
        if deployment.enable_prefix_caching:
            engine_requests, fan_out = self._engine_requests()
            paths = content_paths(trace, hash_block_size(deployment), fan_out)
            for request, path in zip(engine_requests, paths, strict=True):
                request.path = path
        self.trace = trace
        never = np.full(len(self.requests), np.nan)
        self._cancel_s = (never if trace.cancel_s is None else trace.cancel_s).tolist()
        batch = RunningBatch()
        swap = make_swap(
            deployment, cost=cost, moves=moves, batch=batch, num_host_blocks=num_host_blocks
        )
        self.scheduler = make_scheduler(
            deployment,
            allocator,
            batch,
            exact_steps=exact_steps,
            keep_log=log_step is not None,
            swap=swap,
        )
        self._mover = Mover(
            allocator,
            swap,
            moves,
            slots_per_block=deployment.block_size,
            overlap=deployment.swap_overlap,
        )
        engine = AsyncReplica if deployment.async_scheduling else Replica
        self.replica = engine(
            self.env,
            allocator=allocator,
            batch=batch,
            scheduler=self.scheduler,
            cost=cost,
            recorder=self.recorder,
            on_finish=self._done,
            exact_steps=exact_steps,
            check=check,
            log_step=log_step,
            watch=None if memory_map is None else self._watch,
            mover=self._mover if swap is not None or moves_blocks(trace, deployment) else None,
            links=Links(deployment.tiers) if deployment.tiers else None,
        )
        self._memory_map = memory_map
        self.peak_waiting = 0
        self._num_done = 0
        self._progress = progress
        self._on_done = on_done
        self._replies: dict[int, Event] = {}
        self._turns: dict[int, list[tuple[Request, float]]] = {}
        self._session: list[int] = []
        """First turn of each request's session."""
        self._turns_left: dict[int, int] = {}

    def open_loop(self) -> Result:
        """Arrivals at the trace's times; later turns of sessions after their previous turn."""
        arrival_s = self.trace.arrival_s
        assert arrival_s is not None, "simulate() has checked it"
        times_ns = np.round(np.asarray(arrival_s) * NS_PER_S)
        if self.trace.delay_s is not None:
            for row in range(len(self.requests)):
                self._await_turn(row)
        order = np.flatnonzero(~np.isnan(times_ns))
        self._start_map(float(np.ptp(times_ns[order])) if len(order) else 0.0)
        self.env.process(self._feed(order.tolist(), times_ns[order].tolist()))
        return self._finish()

    def closed_loop(self, concurrency: int) -> Result:
        """So many clients, each playing one session after another; most are one request long."""
        for row in range(len(self.requests)):
            self._await_turn(row)
        roots = [
            request for request in self.requests if self._session[request.index] == request.index
        ]
        queue = iter(roots)
        self._start_map(0.0)
        for _ in range(min(concurrency, len(roots))):
            self.env.process(self._client(queue))
        return self._finish()

    def _await_turn(self, row: int) -> None:
        """A later turn comes so long after the answer to the one before."""
        parent, delay_s = self.trace.parent, self.trace.delay_s
        root = row
        if parent is not None and delay_s is not None and not np.isnan(delay_s[row]):
            before = int(parent[row])
            turn = (self.requests[row], float(round(delay_s[row] * NS_PER_S)))
            self._turns.setdefault(before, []).append(turn)
            root = self._session[before]
        self._session.append(root)
        self._turns_left[root] = self._turns_left.get(root, 0) + 1

    def _sequences(self, trace: Arrivals) -> dict[int, Family]:
        """The rows that have several sequences."""
        found = widths(trace)
        if found is None:
            return {}
        families = {}
        for request, width in zip(self.requests, found[0], strict=True):
            if width > 1:
                group = request.group
                several = copies(request, width) if group is None else list(group.members)
                families[request.index] = Family(several)
        return families

    def _engine_requests(self) -> tuple[list[Request], list[int] | None]:
        """What the engine sees as requests, and how many each row is."""
        if not self._families:
            return self.requests, None
        rows = [self._sequences_of(request) for request in self.requests]
        return [one for row in rows for one in row], [len(row) for row in rows]

    def _sequences_of(self, request: Request) -> list[Request]:
        family = self._families.get(request.index)
        return [request] if family is None else family.sequences

    def _start_map(self, span_ns: float) -> None:
        if self._memory_map is not None:
            num_requests = len(self.requests)
            self._memory_map.start(self.allocator, num_requests=num_requests, span_ns=span_ns)

    def _watch(self, since_ns: float, tokens_of: TokensOf) -> None:
        assert self._memory_map is not None, "who looks is known"
        blocked, now_ns = self.scheduler.blocked, self.env.now
        self._memory_map.look(since_ns, now_ns, self._num_done, tokens_of, blocked=blocked)

    def _finish(self) -> Result:
        with rare_garbage_collection():
            self.env.run()
        if self._memory_map is not None:
            self._memory_map.finish(self.env.now)
        for family in self._families.values():
            if family.left:
                family.add_up()
        at_starts = (segment.num_waiting for segment in self.recorder.segments)
        return collect(
            self.requests,
            self.recorder,
            pool_slots=self.allocator.pool_slots,
            peak_waiting=max(self.peak_waiting, max(at_starts, default=0)),
            num_length_capped=self._count_capped(),
            families={index: family.sequences for index, family in self._families.items()},
            moved=self._mover.moved(),
            tiers=tier_uses(self.deployment.tiers, self.allocator.tiers),
        )

    def _count_capped(self) -> int:
        asked = (self.trace.prompt_tokens + self.trace.output_tokens).tolist()
        return sum(
            not (request.reject_reason or request.cancelled) and request.total_tokens < tokens
            for request, tokens in zip(self.requests, asked, strict=True)
        )

    def _feed(self, order: list[int], times_ns: list[float]) -> Generator[Event, None, None]:
        env, requests = self.env, self.requests
        for index, time_ns in zip(order, times_ns, strict=True):
            if time_ns > env.now:
                yield Arrival(env, time_ns - env.now)
            self._arrive(requests[index])

    def _client(self, queue: Iterator[Request]) -> Generator[Event, None, None]:
        for request in queue:
            reply = self._replies[request.index] = self.env.event()
            self._arrive(request)
            yield reply

    def _arrive(self, request: Request) -> None:
        request.reject_reason = why_rejected(
            request, self.deployment, self.scheduler, self.allocator
        )
        sequences = self._sequences_of(request)
        for one in sequences:
            one.arrival_ns = one.queued_ns = self.env.now
        if request.reject_reason:
            self._families.pop(request.index, None)
            self._done(request)
            return
        for one in sequences[:1] if request.group is not None else sequences:
            self.replica.submit(one)
        patience_s = self._cancel_s[request.index]
        if patience_s == patience_s:  # not NaN
            for one in sequences:
                self._in(round(patience_s * NS_PER_S), partial(self.replica.cancel, one))
        if self.replica.in_step:
            self.peak_waiting = max(self.peak_waiting, len(self.scheduler.waiting))

    def _done(self, request: Request) -> None:
        """A request was answered or rejected: whoever waits for the reply goes on."""
        family = self._families.get(request.index)
        if family is not None and not family.ends():
            return
        self._num_done += 1
        if self._progress is not None and self._num_done % _PROGRESS_EVERY == 0:
            self._progress(self._num_done)
        if self._on_done is not None and self._on_done(request):
            self._end()
        for turn, delay_ns in self._turns.pop(request.index, ()):
            self._in(delay_ns, partial(self._arrive, turn))
        if self._replies:
            root = self._session[request.index]
            self._turns_left[root] -= 1
            if not self._turns_left[root]:
                self._replies.pop(root).succeed()

    def _end(self) -> None:
        """The run ends at this instant, as it does in SimPy with ``until``."""
        event = self.env.event()
        assert event.callbacks is not None, "an event that has not occurred has callbacks"
        event.callbacks.append(StopSimulation.callback)
        event.succeed()

    def _in(self, delay_ns: float, act: Callable[[], None]) -> None:
        """Do something so much later, before anything else at that instant."""
        event = Arrival(self.env, delay_ns)
        assert event.callbacks is not None, "an event that has not occurred has callbacks"
        event.callbacks.append(lambda _: act())
