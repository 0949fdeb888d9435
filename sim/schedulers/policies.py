"""Scheduling policies: one queue and one line here each."""

from __future__ import annotations

from collections.abc import Callable

from ..batch import RunningBatch
from .fair import FairQueue
from .queue import FcfsQueue, PriorityQueue, WaitingQueue
from .sjf import ShortestJobQueue

POLICIES: dict[str, Callable[[RunningBatch], WaitingQueue]] = {
    "fair": FairQueue,
    "fcfs": FcfsQueue,
    "priority": PriorityQueue,
    "sjf": ShortestJobQueue,
}
