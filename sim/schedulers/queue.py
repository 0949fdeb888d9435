"""Waiting queues by policy (``golden/RULES.md`` 1.6): who is the head, where a victim goes.

``fcfs``: arrivals at the back, a preempted request at the front. ``priority``: a heap by priority
(smaller is more urgent), arrival time and request id; a preempted request goes back to its place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from heapq import heappop, heappush

from ..request import Request

Key = tuple[int, float, int]


class WaitingQueue(ABC):
    """Requests that wait; the scheduler only ever looks at the head."""

    @abstractmethod
    def add(self, request: Request) -> None:
        """A request arrives."""

    @abstractmethod
    def put_back(self, request: Request) -> None:
        """A request was preempted."""

    @abstractmethod
    def head(self) -> Request:
        """The next to be admitted; the queue is not empty."""

    @abstractmethod
    def pop(self) -> Request:
        """Take the head out."""

    @abstractmethod
    def __len__(self) -> int: ...


class FcfsQueue(WaitingQueue):
    """First come, first served."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()

    def add(self, request: Request) -> None:
        self._requests.append(request)

    def put_back(self, request: Request) -> None:
        self._requests.appendleft(request)

    def head(self) -> Request:
        return self._requests[0]

    def pop(self) -> Request:
        return self._requests.popleft()

    def __len__(self) -> int:
        return len(self._requests)


class PriorityQueue(WaitingQueue):
    """The most urgent first."""

    def __init__(self) -> None:
        self._heap: list[tuple[Key, Request]] = []

    def add(self, request: Request) -> None:
        key = (request.priority, request.arrival_ns, request.tie_rank)
        heappush(self._heap, (key, request))

    def put_back(self, request: Request) -> None:
        self.add(request)

    def head(self) -> Request:
        return self._heap[0][1]

    def pop(self) -> Request:
        return heappop(self._heap)[1]

    def __len__(self) -> int:
        return len(self._heap)


QUEUES: dict[str, type[WaitingQueue]] = {"fcfs": FcfsQueue, "priority": PriorityQueue}
