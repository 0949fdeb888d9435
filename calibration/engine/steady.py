"""A clock that goes as fast as the processor does: for a CPU that is shared.

How fast a shared processor is drifts by tens of percent within seconds, whoever computes on it. So
a kernel of the engine's own kind is timed between steps, and time is counted in its launches:

    a step's time = its processor time * LAUNCH_NS / time of a launch before and behind it

A launch's time is the median of several, before and behind are averaged. The launches themselves
are not counted. A second of this clock is a second of a processor that
needs ``LAUNCH_NS`` for a launch; nobody waits, as with ``clock.ProcessorClock``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from .steps import Work

LAUNCH_NS = 1_000_000.0
"""Of what :func:`small_kernel` launches."""
NUM_LAUNCHES = 5
"""Timed behind each step."""


class SteadyClock:
    """Processor time of the thread that serves, corrected for the processor's speed.

    Args:
        launch: what is timed; by default :func:`small_kernel`.
        read_ns: the processor's time.
    """

    def __init__(
        self,
        launch: Callable[[], object] | None = None,
        read_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._launch = launch or small_kernel()
        self._read_ns = read_ns
        self.start()

    def start(self) -> None:
        """It is zero now."""
        self._launching_ns = 0
        self._now_ns = 0.0
        self._launch()  # the first one is slow
        self._last_ns = self._launch_ns()
        self._speed = LAUNCH_NS / self._last_ns
        self.scale = 1.0
        self._raw_ns = self.stamp_ns()

    def now_ns(self) -> float:
        """Since it was started."""
        return self._now_ns + (self.stamp_ns() - self._raw_ns) * self._speed

    def wait_until(self, time_ns: float) -> None:
        """At once."""
        self._now_ns += max(0.0, time_ns - self.now_ns())

    def after(self, work: Work) -> float:
        """The time now, by the speed before the step and behind it."""
        raw_ns, behind_ns = self.stamp_ns(), self._launch_ns()
        self.scale = 2 * LAUNCH_NS / (self._last_ns + behind_ns)
        self._now_ns += (raw_ns - self._raw_ns) * self.scale
        self._raw_ns, self._last_ns = raw_ns, behind_ns
        self._speed = LAUNCH_NS / behind_ns
        return self._now_ns

    def stamp_ns(self) -> float:
        """Processor time without the launches of this clock; ``scale`` makes it the clock's."""
        return float(self._read_ns() - self._launching_ns)

    def _launch_ns(self) -> float:
        times = [self._read_ns()]
        for _ in range(NUM_LAUNCHES):
            self._launch()
            times.append(self._read_ns())
        self._launching_ns += times[-1] - times[0]
        return max(1.0, float(median(after - before for before, after in pairwise(times))))


def small_kernel() -> Callable[[], object]:
    """A launch of the KV write for one token, which writes nothing."""
    import torch

    from ...kernels.kv_write import write_kv

    token = torch.zeros(1, 1, 16)
    pool = torch.zeros(2, 8, 1, 16)
    nowhere = torch.full((1,), -1, dtype=torch.int64)
    return lambda: write_kv(token, token, pool, pool, nowhere)
