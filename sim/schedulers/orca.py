"""Orca: iteration-level scheduling (Yu et al., OSDI 2022).

Every iteration runs all requests of the batch, one token each, and whole prompts of newly admitted
ones: no chunks. At most ``max_num_batched_tokens`` prompt tokens enter in one iteration, but a
longer prompt is let in alone. First come first served.
"""

from __future__ import annotations

from ..request import Request
from .base import Scheduler
from .step import Step


class OrcaScheduler(Scheduler):
    """Iteration-level scheduling with whole prompts."""

    def why_never(self, request: Request) -> str:
        return ""

    def schedule(self, now_ns: float) -> Step:
        step = self._new_step()
        self._run_running(step, now_ns)
        if not step.preempted:
            self._admit(step, now_ns)
        return step

    def could_admit(self) -> bool:
        self.blocked = False
        if not self._may_admit():
            return False
        head = self.waiting.head()
        return self._ask(head, head.known)

    def _may_admit(self) -> bool:
        return bool(self.waiting) and self._has_seats(self.waiting.head())

    def _run_running(self, step: Step, now_ns: float) -> None:
        requests, number = self.batch.requests, self.batch.step
        for request in self._order(self._in_bulk()):
            if request not in requests:
                continue  # preempted in this walk
            if not request.decoding:
                continue  # its group has not forked
            if self._make_room(request, request.known_at(number), step, now_ns):
                self._give_decode(request, step)

    def _admit(self, step: Step, now_ns: float) -> bool:
        """Admit what fits; returns whether only the prompt tokens of the iteration stopped it."""
        self.blocked = False
        budget = self.limits.max_num_batched_tokens
        while self._may_admit():
            head = self.waiting.head()
            found = self._found(head)
            if head.known - found > budget and step.chunks:
                return True
            if not self._ask(head, head.known):
                return False
            budget -= self._take_head(head.known - found, step, now_ns, cached=found)
        return False
