"""A trace through one server: the feeder of arrivals, the replica, the result.

The parts are values of their own, which a fleet takes as well: ``clients`` send, a
``serving.ServingEngine`` serves, ``result.collect`` gathers.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from simpy import Environment

from ..calibration.step_cost import StepCost
from .allocators import TokensOf
from .clients import Clients, OnDone, Progress
from .content import content_paths
from .deployment import Deployment
from .engine import hash_block_size
from .map_recorder import MapRecorder
from .moved import Moves
from .replica import StepLog
from .request import Request
from .result import Result, collect
from .sequences import Family, check_widths, families_of, make_requests
from .servable import Arrivals
from .serving import ServingEngine


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
        num_gpu_blocks=num_gpu_blocks,
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
    """One simulation: its clock, its clients, its engine."""

    def __init__(
        self,
        trace: Arrivals,
        *,
        tie_rank: Sequence[int] | None,
        deployment: Deployment,
        cost: StepCost,
        num_gpu_blocks: int,
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
        self.trace = trace
        self.requests = make_requests(trace, deployment)
        for request, rank in zip(self.requests, tie_rank or (), strict=False):
            request.tie_rank = rank
        self.families = families_of(trace, self.requests)
        if deployment.enable_prefix_caching:
            engine_requests, fan_out = engine_requests_of(self.requests, self.families)
            paths = content_paths(trace, hash_block_size(deployment), fan_out)
            for request, path in zip(engine_requests, paths, strict=True):
                request.path = path
        self.engine = ServingEngine(
            self.env,
            trace,
            deployment=deployment,
            cost=cost,
            num_gpu_blocks=num_gpu_blocks,
            on_finish=lambda request: self.clients.done(request),
            exact_steps=exact_steps,
            check=check,
            log_step=log_step,
            watch=None if memory_map is None else self._watch,
            moves=moves,
            num_host_blocks=num_host_blocks,
        )
        self.clients = Clients(
            self.env,
            trace,
            self.requests,
            self.families,
            self.engine,
            progress=progress,
            on_done=on_done,
        )
        self._memory_map = memory_map

    def open_loop(self) -> Result:
        """Arrivals at the trace's times; later turns of sessions after their previous turn."""
        self._start_map(self.clients.start_open_loop())
        return self._finish()

    def closed_loop(self, concurrency: int) -> Result:
        """So many clients, each with one request after another."""
        self.clients.start_closed_loop(concurrency)
        self._start_map(0.0)
        return self._finish()

    def _start_map(self, span_ns: float) -> None:
        if self._memory_map is not None:
            num_requests = len(self.requests)
            self._memory_map.start(
                self.engine.allocator, num_requests=num_requests, span_ns=span_ns
            )

    def _watch(self, since_ns: float, tokens_of: TokensOf) -> None:
        assert self._memory_map is not None, "who looks is known"
        blocked, now_ns = self.engine.scheduler.blocked, self.env.now
        num_done = self.clients.num_done
        self._memory_map.look(since_ns, now_ns, num_done, tokens_of, blocked=blocked)

    def _finish(self) -> Result:
        with rare_garbage_collection():
            self.env.run()
        if self._memory_map is not None:
            self._memory_map.finish(self.env.now)
        for family in self.families.values():
            if family.left:
                family.add_up()
        engine = self.engine
        return collect(
            self.requests,
            engine.recorder,
            pool_slots=engine.allocator.pool_slots,
            peak_waiting=engine.peak_waiting,
            num_length_capped=count_capped(self.trace, self.requests),
            families={index: family.sequences for index, family in self.families.items()},
            moved=engine.moved(),
            tiers=engine.tier_uses(),
        )


def engine_requests_of(
    requests: Sequence[Request], families: Mapping[int, Family]
) -> tuple[list[Request], list[int] | None]:
    """What the engine sees as requests, and how many each row is; None: one each."""
    if not families:
        return list(requests), None
    rows = [
        families[request.index].sequences if request.index in families else [request]
        for request in requests
    ]
    return [one for row in rows for one in row], [len(row) for row in rows]


def count_capped(trace: Arrivals, requests: Sequence[Request]) -> int:
    """Requests whose output was cut at ``max_model_len``."""
    asked = (trace.prompt_tokens + trace.output_tokens).tolist()
    return sum(
        not (request.reject_reason or request.cancelled) and request.total_tokens < tokens
        for request, tokens in zip(requests, asked, strict=True)
    )
