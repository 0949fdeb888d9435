"""Static batching, as FasterTransformer serves: a batch runs until its longest member is done.

A batch takes the waiting requests that fit, first come first served; nobody joins later. A member
that has its last token keeps its memory and its row until the batch ends: the row is computed as
padding, its answer returns with the batch (the Orca paper, section 3: requests that have finished
earlier "cannot return to the client").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..request import Request
from .orca import OrcaScheduler
from .step import Step


class StaticScheduler(OrcaScheduler):
    """A batch at a time; prompts enter whole, over several steps if there are many."""

    _open = True
    """The batch is still being filled."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._done: list[Request] = []

    def add(self, request: Request) -> bool:
        matters = super().add(request)
        return matters and (self._open or self.waiting.restless)

    def schedule(self, now_ns: float) -> Step:
        if not self.batch.requests:
            self._open = True
        step = self._new_step()
        self._run_running(step, now_ns)
        if self._open and not step.preempted:
            self._open = self._admit(step, now_ns)
        return step

    def could_admit(self) -> bool:
        self._open = self._open and super().could_admit()
        return self._open

    def retire(self, finished: Iterable[Request]) -> list[Request]:
        for request in finished:
            self._leave(request)
            if request.group is not None:
                self._leave_group(request, request.group)
            self._done.append(request)
            self.held_tokens += request.kv_tokens
            self.padding_rows += 1
        if self.batch.requests:
            return []
        leaving, self._done = self._done, []
        self.held_tokens = self.padding_rows = 0
        for request in leaving:
            self.allocator.release(request)
        return leaving

    def has_work(self) -> bool:
        return super().has_work() or bool(self._done)

    def cancel(self, request: Request) -> bool:
        return request not in self._done and super().cancel(request)

    def _may_admit(self) -> bool:
        if not self.waiting:
            return False
        group = self.waiting.head().group
        wanted = 1 if group is None else group.width
        return len(self.batch.requests) + len(self._done) + wanted <= self.limits.seats
