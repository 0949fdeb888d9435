"""Events with an explicit order at equal times.

At one instant first come the arrivals, then wake-ups, then the ends of engine steps: a step that
ends at t is followed by a schedule that sees every request that arrived at or before t. A reply to
a finished request comes after that schedule, as a client needs time to react.
"""

from __future__ import annotations

from simpy import Environment, Event
from simpy.events import URGENT

_AFTER_NORMAL = 2


class Arrival(Event):
    """Occurs ``delay_ns`` from now, before anything else at that instant."""

    def __init__(self, env: Environment, delay_ns: float) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        env.schedule(self, URGENT, delay_ns)


class StepEnd(Event):
    """Occurs ``delay_ns`` from now, after everything else at that instant."""

    def __init__(self, env: Environment, delay_ns: float) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        env.schedule(self, _AFTER_NORMAL, delay_ns)  # type: ignore[arg-type]  # any int sorts
