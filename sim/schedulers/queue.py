"""Waiting queues by policy (``golden/RULES.md`` 1.6): who is the head, where a victim goes.

``fcfs``: arrivals at the back, a preempted request at the front; the most recently admitted request
is preempted first. ``priority``: a heap by priority (smaller is more urgent), arrival time and
request id; a preempted request goes back to its place; the least urgent is preempted first.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Protocol

from ..batch import RunningBatch
from ..request import Request

Key = tuple[float, float, int, int]


class WaitingQueue(Protocol):
    """Requests that wait; the scheduler only ever looks at the head."""

    restless: bool
    """What arrives is in its place when the step has ended: see :meth:`step_ended`."""

    def add(self, request: Request, /) -> None:
        """A request arrives."""

    def put_back(self, request: Request, /) -> None:
        """A request was preempted."""

    def head(self) -> Request:
        """The next to be admitted; the queue is not empty."""
        ...

    def take(self) -> Request:
        """Take the head out."""
        ...

    def remove(self, request: Request, /) -> None:
        """Take a request out, wherever it is."""

    def victim(self, batch: RunningBatch, /) -> Request:
        """Of the running requests the one to preempt next."""
        ...

    def may_change(self) -> bool:
        """Whether another request may become the head while the running ones merely decode."""
        ...

    def step_ended(self) -> None:
        """Between two steps, or two runs of steps: ``batch.step`` of them are done."""

    def __len__(self) -> int: ...


class Settled:
    """A queue whose order does not depend on what runs."""

    restless = False

    def may_change(self) -> bool:
        """Never."""
        return False

    def step_ended(self) -> None:
        """Changes nothing."""


class FcfsQueue(Settled, deque[Request]):
    """First come, first served."""

    add = deque.append  # the deque's own methods: this is the hottest queue
    put_back = deque.appendleft
    take = deque.popleft

    def __init__(self, _batch: RunningBatch) -> None:
        super().__init__()

    def head(self) -> Request:
        return self[0]

    def victim(self, batch: RunningBatch) -> Request:
        return batch.last()


class PriorityQueue(Settled, list[tuple[Key, Request]]):
    """The most urgent first: a heap."""

    def __init__(self, _batch: RunningBatch) -> None:
        super().__init__()

    def key(self, request: Request) -> Key:
        """What the queue is ordered by, smallest first; it does not change."""
        return request.priority, request.arrival_ns, request.tie_rank, request.sample

    def add(self, request: Request) -> None:
        heappush(self, (self.key(request), request))

    put_back = add

    def head(self) -> Request:
        return self[0][1]

    def take(self) -> Request:
        return heappop(self)[1]

    def remove(self, request: Request) -> None:  # type: ignore[override]  # by request, not entry
        self[:] = [entry for entry in self if entry[1] is not request]
        heapify(self)

    def victim(self, batch: RunningBatch) -> Request:
        # of equals the first in running order: ids do not count (golden/RULES.md 3.5)
        return max(batch.preemptible(), key=lambda request: self.key(request)[:2])
