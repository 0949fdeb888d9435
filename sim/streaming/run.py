"""A stream through one server: :func:`simulate_stream` is ``simulate`` without its memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

from simpy import Environment, Event

from ...calibration.step_cost import StepCost
from ...traces.chunks import Stream
from ..clients import Progress
from ..clock import Arrival
from ..deployment import Deployment
from ..engine import hash_block_size
from ..moved import Moved, Moves
from ..request import Request
from ..result import Columns, request_columns
from ..serving import ServingEngine
from ..simulation import rare_garbage_collection
from ..tier_use import TierUse
from .contents import Contents
from .feed import Feed, Row
from .fold import RequestFold, SegmentFold

_PROGRESS_EVERY = 256
_REQUESTS_KEPT = 8_192
_SEGMENTS_KEPT = 8_192
_NS_PER_S = 1e9

Sink = Callable[[Columns], None]
"""Takes the columns of some thousand requests that have left (see ``Result.requests``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """One simulated server, folded."""

    requests: RequestFold
    segments: SegmentFold
    pool_slots: int
    num_steps: int
    peak_waiting: int
    num_length_capped: int
    moved: Moved
    tiers: tuple[TierUse, ...]
    notes: tuple[str, ...] = ()


def simulate_stream(
    stream: Stream,
    *,
    deployment: Deployment,
    cost: StepCost,
    num_gpu_blocks: int,
    concurrency: int | None = None,
    exact_steps: bool = False,
    check: bool = False,
    progress: Progress | None = None,
    moves: Moves | None = None,
    num_host_blocks: int | None = None,
    sink: Sink | None = None,
) -> Streamed:
    """Replay a stream through one server; the arguments are those of ``simulate``.

    Args:
        sink: told of requests as they leave, some thousand at a time.

    Raises:
        ValueError: as ``simulate``; a parent too far above its row; a closed loop of sessions.
    """
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"concurrency(={concurrency}) must be > 0.")
    if concurrency is None and stream.sample.arrival_s is None:
        raise ValueError(
            "trace has lengths only: give rate, concurrency or arrival_process backlog."
        )
    if concurrency is not None and stream.sample.parent is not None:
        raise ValueError(
            f"concurrency(={concurrency}) with sessions does not stream: simulate the trace whole."
        )
    run = _Run(
        stream,
        deployment=deployment,
        cost=cost,
        num_gpu_blocks=num_gpu_blocks,
        exact_steps=exact_steps,
        check=check,
        progress=progress,
        moves=moves,
        num_host_blocks=num_host_blocks,
        sink=sink,
    )
    return run.closed_loop(concurrency) if concurrency is not None else run.open_loop()


class _Run:
    """One simulation: its clock, its replica, the requests in it."""

    def __init__(
        self,
        stream: Stream,
        *,
        deployment: Deployment,
        cost: StepCost,
        num_gpu_blocks: int,
        exact_steps: bool,
        check: bool,
        progress: Progress | None,
        moves: Moves | None,
        num_host_blocks: int | None,
        sink: Sink | None,
    ) -> None:
        self.env = Environment()
        self.deployment = deployment
        self.engine = ServingEngine(
            self.env,
            stream,
            deployment=deployment,
            cost=cost,
            num_gpu_blocks=num_gpu_blocks,
            on_finish=self._done,
            exact_steps=exact_steps,
            check=check,
            moves=moves,
            num_host_blocks=num_host_blocks,
        )
        caches = deployment.enable_prefix_caching
        self._feed = Feed(stream.chunks(), with_chains=caches)
        self._contents: Contents | None = None
        if caches:
            cut_at = hash_block_size(deployment)
            self._contents = Contents(cut_at, self._feed, self.engine.allocator.keeps)
        self._live: dict[int, Request] = {}
        self._left: list[Request] = []
        self._forgotten: list[Request] = []
        self._capped: set[int] = set()
        self._replies: dict[int, Event] = {}
        self._progress, self._sink = progress, sink
        self._num_done = self._num_capped = 0
        self.requests = RequestFold()
        self.segments = SegmentFold(self.engine.allocator.pool_slots)

    def open_loop(self) -> Streamed:
        """Arrivals at the stream's times; later turns of sessions after their previous turn."""
        self.env.process(self._arrivals())
        return self._finish()

    def closed_loop(self, concurrency: int) -> Streamed:
        """So many clients, each sending its next request when the last one is answered."""
        queue = self._feed.due()
        for _ in range(concurrency):
            self.env.process(self._client(queue))
        return self._finish()

    def _arrivals(self) -> Generator[Event, None, None]:
        env = self.env
        for time_ns, row in self._feed.due():
            if time_ns > env.now:
                yield Arrival(env, time_ns - env.now)
            self._arrive(row)

    def _client(self, queue: Iterator[tuple[float, Row]]) -> Generator[Event, None, None]:
        for _, row in queue:
            reply = self._replies[row.number] = self.env.event()
            self._arrive(row)
            yield reply

    def _arrive(self, row: Row) -> None:
        request = self._request(row)
        request.arrival_ns = request.queued_ns = self.env.now
        request.reject_reason = self.engine.why_rejected(request)
        if request.reject_reason:
            self._done(request)
            return
        self.engine.submit([request])
        if row.cancel_s == row.cancel_s:  # not NaN
            self._in(round(row.cancel_s * _NS_PER_S), partial(self.engine.cancel, request))

    def _request(self, row: Row) -> Request:
        """The request of a row, its output ending where the engine stops."""
        prompt, output = row.prompt_tokens, row.output_tokens
        longest = self.deployment.max_model_len
        if prompt < longest < prompt + output:
            output = longest - prompt
            self._capped.add(row.number)
        request = Request(
            index=row.number,
            prompt_tokens=prompt,
            output_tokens=output,
            priority=row.priority,
            tenant=row.tenant,
        )
        if self._contents is not None:
            request.path = self._contents.path(row)
        self._live[row.number] = request
        if self._contents is not None:
            self._contents.sweep(self._live.values())
        return request

    def _done(self, request: Request) -> None:
        """A request was answered or rejected: it is folded, and whoever waits for it goes on."""
        self._num_done += 1
        if self._progress is not None and self._num_done % _PROGRESS_EVERY == 0:
            self._progress(self._num_done)
        index = request.index
        turns = self._feed.turns
        if turns:
            for turn, delay_ns in turns.pop(index, ()):
                self._in(delay_ns, partial(self._arrive, turn))
        del self._live[index]
        self._leave(request)
        if self._replies:
            self._replies.pop(index).succeed()

    def _leave(self, request: Request) -> None:
        if self._capped and request.index in self._capped:
            self._capped.remove(request.index)
            self._num_capped += not (request.reject_reason or request.cancelled)
        self._left.append(request)
        if len(self._left) >= _REQUESTS_KEPT:
            self._fold_requests()
        if len(self.engine.recorder.segments) >= _SEGMENTS_KEPT:
            self.segments.add(self.engine.recorder)

    def _fold_requests(self) -> None:
        if not self._left:
            return
        columns = request_columns(self._left, {})
        self.requests.add(columns)
        if self._sink is not None:
            self._sink(columns)
        for request in self._forgotten:  # of the time before: nobody holds them any more
            del request.row  # a cycle, which would keep them until garbage is looked for
        self._forgotten, self._left = self._left, []

    def _in(self, delay_ns: float, act: Callable[[], None]) -> None:
        """Do something so much later, before anything else at that instant."""
        event = Arrival(self.env, delay_ns)
        assert event.callbacks is not None, "an event that has not occurred has callbacks"
        event.callbacks.append(lambda _: act())

    def _finish(self) -> Streamed:
        with rare_garbage_collection():
            self.env.run()
        for turns in [*self._feed.turns.values()]:  # whose parents never ended
            for row, _ in turns:
                self._request(row)
        for request in sorted(self._live.values(), key=lambda request: request.index):
            self._leave(request)
        self._fold_requests()
        self.segments.add(self.engine.recorder)
        return Streamed(
            requests=self.requests,
            segments=self.segments,
            pool_slots=self.engine.allocator.pool_slots,
            num_steps=self.engine.recorder.num_steps,
            peak_waiting=max(self.engine.peak_waiting, self.segments.peak_waiting),
            num_length_capped=self._num_capped,
            moved=self.engine.moved(),
            tiers=self.engine.tier_uses(),
            notes=() if self._contents is None else self._contents.notes,
        )
