"""Who sends the requests of a trace, and when.

Arrivals come at the trace's times, or ``delay_s`` after the previous turn of a session has ended,
or, with ``concurrency``, whenever one of so many clients is free (closed loop): a client takes the
next session when the last turn of its own is answered. A client may give up first (``cancel_s``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from simpy import Environment, Event
from simpy.core import StopSimulation

from ..calibration.step_cost import NS_PER_S
from .clock import Arrival
from .request import Request
from .sequences import Family
from .servable import Arrivals

Progress = Callable[[int], None]
"""Told how many requests are done, now and then."""
OnDone = Callable[[Request], bool]
"""Told of each request that leaves; True ends the run there."""

_PROGRESS_EVERY = 256


class Front(Protocol):
    """What clients talk to: a server, or what stands before several of them."""

    def why_rejected(self, request: Request, /) -> str: ...
    def submit(self, sequences: Sequence[Request], /) -> None: ...
    def cancel(self, request: Request, /) -> None: ...


class Clients:
    """The clients of one simulation.

    Args:
        env: the clock, in nanoseconds.
        trace: what arrives.
        requests: its rows.
        families: sequences of the rows that have several; loses those that are rejected.
        front: takes the requests; it tells :meth:`done` of each sequence that leaves.
        progress: told how many requests are done.
        on_done: told of each request that leaves; ends the run when it says so.
    """

    def __init__(
        self,
        env: Environment,
        trace: Arrivals,
        requests: Sequence[Request],
        families: dict[int, Family],
        front: Front,
        *,
        progress: Progress | None = None,
        on_done: OnDone | None = None,
    ) -> None:
        self.env = env
        self.trace = trace
        self.requests = requests
        self.front = front
        self.num_done = 0
        never = np.full(len(requests), np.nan)
        self._cancel_s = (never if trace.cancel_s is None else trace.cancel_s).tolist()
        self._families = families
        self._progress = progress
        self._on_done = on_done
        self._replies: dict[int, Event] = {}
        self._turns: dict[int, list[tuple[Request, float]]] = {}
        self._session: list[int] = []
        """First turn of each request's session."""
        self._turns_left: dict[int, int] = {}

    def start_open_loop(self) -> float:
        """Arrivals at the trace's times, later turns of sessions after their previous turn.

        Returns the time between the first and the last of the trace's arrivals, nanoseconds.
        """
        arrival_s = self.trace.arrival_s
        assert arrival_s is not None, "the caller has checked it"
        times_ns = np.round(np.asarray(arrival_s) * NS_PER_S)
        if self.trace.delay_s is not None:
            for row in range(len(self.requests)):
                self._await_turn(row)
        order = np.flatnonzero(~np.isnan(times_ns))
        self.env.process(self._feed(order.tolist(), times_ns[order].tolist()))
        return float(np.ptp(times_ns[order])) if len(order) else 0.0

    def start_closed_loop(self, concurrency: int) -> None:
        """So many clients, each playing one session after another; most are one request long."""
        for row in range(len(self.requests)):
            self._await_turn(row)
        roots = [
            request for request in self.requests if self._session[request.index] == request.index
        ]
        queue = iter(roots)
        for _ in range(min(concurrency, len(roots))):
            self.env.process(self._client(queue))

    def sequences_of(self, request: Request) -> list[Request]:
        """What the engine sees as requests."""
        family = self._families.get(request.index)
        return [request] if family is None else family.sequences

    def done(self, request: Request) -> None:
        """A sequence was answered or rejected: whoever waits for the reply goes on."""
        family = self._families.get(request.index)
        if family is not None and not family.ends():
            return
        self.num_done += 1
        if self._progress is not None and self.num_done % _PROGRESS_EVERY == 0:
            self._progress(self.num_done)
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
        request.reject_reason = self.front.why_rejected(request)
        sequences = self.sequences_of(request)
        for one in sequences:
            one.arrival_ns = one.queued_ns = self.env.now
        if request.reject_reason:
            self._families.pop(request.index, None)
            self.done(request)
            return
        self.front.submit(sequences)
        patience_s = self._cancel_s[request.index]
        if patience_s == patience_s:  # not NaN
            for one in sequences:
                self._in(round(patience_s * NS_PER_S), partial(self.front.cancel, one))

    def _in(self, delay_ns: float, act: Callable[[], None]) -> None:
        """Do something so much later, before anything else at that instant."""
        event = Arrival(self.env, delay_ns)
        assert event.callbacks is not None, "an event that has not occurred has callbacks"
        event.callbacks.append(lambda _: act())
