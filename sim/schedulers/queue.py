"""Waiting queues by policy (``golden/RULES.md`` 1.6): who is the head, where a victim goes.

``fcfs``: arrivals at the back, a preempted request at the front. ``priority``: a heap by priority
(smaller is more urgent), arrival time and request id; a preempted request goes back to its place.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Protocol

from ..request import Request

Key = tuple[int, float, int, int]


class WaitingQueue(Protocol):
    """Requests that wait; the scheduler only ever looks at the head."""

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

    def __len__(self) -> int: ...


class FcfsQueue(deque[Request]):
    """First come, first served."""

    add = deque.append  # the deque's own methods: this is the hottest queue
    put_back = deque.appendleft
    take = deque.popleft

    def head(self) -> Request:
        return self[0]


class PriorityQueue(list[tuple[Key, Request]]):
    """The most urgent first: a heap."""

    def add(self, request: Request) -> None:
        key = (request.priority, request.arrival_ns, request.tie_rank, request.sample)
        heappush(self, (key, request))

    put_back = add

    def head(self) -> Request:
        return self[0][1]

    def take(self) -> Request:
        return heappop(self)[1]

    def remove(self, request: Request) -> None:  # type: ignore[override]  # by request, not entry
        self[:] = [entry for entry in self if entry[1] is not request]
        heapify(self)


QUEUES: dict[str, type[WaitingQueue]] = {"fcfs": FcfsQueue, "priority": PriorityQueue}
