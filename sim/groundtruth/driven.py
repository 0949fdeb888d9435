"""A replica whose clock is set instead of run: whoever has an engine calls it step by step.

What happens when a step is scheduled and when its tokens are there is the simulated replica's own
code; the time in between is what the engine needed.
"""

from __future__ import annotations

from typing import Any

from simpy import Environment

from ..replica import Replica
from ..schedulers import Step


class SetClock(Environment):
    """A SimPy clock that somebody sets."""

    def set(self, now_ns: float) -> None:
        """It is so late now."""
        self._now = now_ns


class DrivenReplica(Replica):
    """A :class:`Replica` whose process never runs; arguments are the same, without the clock."""

    def __init__(self, **parts: Any) -> None:
        self.clock = SetClock()
        super().__init__(self.clock, exact_steps=True, **parts)

    def begin(self, now_ns: float) -> Step | None:
        """Decide the next step; None where nothing waits or runs.

        Raises:
            RuntimeError: a request outgrew an empty pool twice and would do so for ever.
        """
        self.clock.set(now_ns)
        self.scheduler.waiting.step_ended()
        if self._gone:
            self._drop_cancelled()
        if not self.scheduler.has_work():
            return None
        self.scheduler.last_token_ns = now_ns
        step = self.scheduler.schedule(now_ns)
        if not step.order:
            self._leave(self.scheduler.retire(()))
            if self._starts_over_for_ever(step):
                raise RuntimeError(f"{step.preempted[0]} outgrows the pool for ever.")
        return step

    def end(self, step: Step, now_ns: float) -> None:
        """Its tokens are there."""
        self.clock.set(now_ns)
        self._leave(self.scheduler.retire(self._advance(step, now_ns)))
        if self._check:
            self.allocator.check()
