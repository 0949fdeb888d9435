"""The engine's clock: the real one, or one whose steps last as long as somebody says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from .steps import Work

StepNs = Callable[[Work], float]
"""How long a step lasts, by its rows."""

NEAR_NS = 200_000
"""A sleep may be so much too long: the last of a wait is spent looking at the clock."""


class Clock(Protocol):
    """Nanoseconds since the run began."""

    @property
    def scale(self) -> float:
        """Of the last step: what its stamps are multiplied by to be this clock's time."""
        ...

    def start(self) -> None: ...
    def now_ns(self) -> float: ...
    def wait_until(self, time_ns: float) -> None: ...
    def after(self, work: Work) -> float:
        """The time now that a step is over."""
        ...

    def stamp_ns(self) -> float:
        """For the parts of a step: only differences count."""
        ...


class RealClock:
    """The host's."""

    scale = 1.0
    _read = staticmethod(time.perf_counter_ns)

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """It is zero now."""
        self._start = self._read()

    def now_ns(self) -> float:
        """Since it was started."""
        return float(self._read() - self._start)

    def wait_until(self, time_ns: float) -> None:
        """Sleep, at last look."""
        while (left := time_ns - self.now_ns()) > 0:
            if left > NEAR_NS:
                time.sleep((left - NEAR_NS) / 1e9)

    def after(self, work: Work) -> float:
        """Whatever it is."""
        return self.now_ns()

    def stamp_ns(self) -> float:
        """The same time."""
        return self.now_ns()


class ProcessorClock(RealClock):
    """The processor time of the thread that serves: what the host's other work takes is not in it.

    Only where the engine computes on that thread: on a CPU. Nobody waits, the clock is put forward.
    """

    _read = staticmethod(time.thread_time_ns)

    def wait_until(self, time_ns: float) -> None:
        """At once."""
        self._start -= max(0, round(time_ns - self.now_ns()))


CLOCKS = ("wall", "processor", "steady")
"""Names: ``RealClock``, ``ProcessorClock``, ``steady.SteadyClock``."""


def clock_named(name: str) -> Clock:
    """A clock that begins now."""
    if name == "steady":
        from .steady import SteadyClock  # torch

        return SteadyClock()
    return RealClock() if name == "wall" else ProcessorClock()


class StepClock:
    """Moves by steps and waits only, so that a run's decisions can be repeated."""

    scale = 1.0

    def __init__(self, step_ns: StepNs) -> None:
        self._step_ns = step_ns
        self.start()

    def start(self) -> None:
        """It is zero now."""
        self._now_ns = 0.0

    def now_ns(self) -> float:
        """Since the beginning."""
        return self._now_ns

    def wait_until(self, time_ns: float) -> None:
        """At once."""
        self._now_ns = max(self._now_ns, time_ns)

    def after(self, work: Work) -> float:
        """So much later as the step lasts."""
        self._now_ns += self._step_ns(work)
        return self._now_ns

    def stamp_ns(self) -> float:
        """The host's time: what a step really took."""
        return float(time.perf_counter_ns())
