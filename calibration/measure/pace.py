"""Which points the time that is left will do for.

Points are in random order, so a run that is slower than expected would end with something missing
of every family. Instead its pace is watched: expected seconds of what is left, times the pace so
far, against the time left; families that do not fit are put off from the last of ``FAMILIES`` on,
and come back when the run is faster than it looked. The anchors of the end keep their time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..profile.values import FAMILIES
from .point import Point

TRUSTED_S = 10.0
"""Expected seconds of what is done, before a pace is believed."""
RESERVE = 1.3
"""For the anchors of the end: families differ in their pace."""


class Pace:
    """Expected against real time."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._expected_s = 0.0
        self._spent_s = 0.0

    def add(self, point: Point, spent_s: float) -> None:
        """A point is done."""
        self._expected_s += point.seconds
        self._spent_s += spent_s

    @property
    def factor(self) -> float:
        """Real seconds for an expected one."""
        if self._expected_s < TRUSTED_S:
            return 1.0
        return self._spent_s / self._expected_s

    def next(self, todo: Sequence[Point], elapsed_s: float) -> Point | None:
        """The first point that there is time for; None where the time is over."""
        left_s = self._budget_s - elapsed_s
        if left_s <= 0:
            return None
        put_off = self.put_off(todo, left_s)
        for point in todo:
            if point.role == "anchor" or point.family not in put_off:
                return point
        return None

    def put_off(self, todo: Sequence[Point], left_s: float) -> set[str]:
        """Families that the time left does not do for."""
        seconds: Counter[str] = Counter()
        anchors_s = 0.0
        for point in todo:
            if point.role == "anchor":
                anchors_s += point.seconds
            else:
                seconds[point.family] += point.seconds  # type: ignore[assignment]
        left_s -= self.factor * RESERVE * anchors_s
        needed_s = self.factor * sum(seconds.values())
        there = [name for name in FAMILIES if name in seconds]
        dropped: set[str] = set()
        for name in reversed(there[1:]):
            if needed_s <= left_s:
                break
            dropped.add(name)
            needed_s -= self.factor * seconds[name]
        return dropped if left_s > 0 else set(there)
