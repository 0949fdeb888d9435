"""Where the labels of points go so that none covers another: the nearest free place of a few.

All in one unit of length, both axes alike. Places lie on rings around a point; one is free where
its box meets no box or point placed before, stays inside the frame, and its leader crosses no box.
The points that come first get the better places. Lines to avoid cost something, but may be crossed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import cos, hypot, pi, sin
from typing import NamedTuple

RINGS = (9.0, 14.0, 22.0, 32.0, 44.0, 58.0, 74.0, 92.0, 112.0, 134.0, 158.0)
ANGLES = 24
GAP = 2.0
COVERS, LEAVES, CROSSES, ON_LINE = 1000.0, 5000.0, 400.0, 25.0
"""Penalties against a unit of distance."""


class Box(NamedTuple):
    """A rectangle; in a frame from (0, 0)."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box, gap: float = 0.0) -> bool:
        """Whether they overlap, or come nearer than ``gap``."""
        return (
            self.left < other.right + gap
            and other.left < self.right + gap
            and self.bottom < other.top + gap
            and other.bottom < self.top + gap
        )

    def within(self, width: float, height: float) -> bool:
        """Whether it lies inside the frame."""
        return self.left >= 0 and self.bottom >= 0 and self.right <= width and self.top <= height

    def crossed_by(self, line: Line) -> bool:
        """Whether a straight line passes through (at one of its sampled points)."""
        (x0, y0), (x1, y1) = line
        steps = max(2, int(hypot(x1 - x0, y1 - y0) / 3))
        return any(
            self.left <= x0 + (x1 - x0) * i / steps <= self.right
            and self.bottom <= y0 + (y1 - y0) * i / steps <= self.top
            for i in range(steps + 1)
        )


Point = tuple[float, float]
Line = tuple[Point, Point]


def places(
    points: Sequence[tuple[Point, float]],
    sizes: Sequence[Point],
    *,
    frame: Point,
    taken: Sequence[Box] = (),
    lines: Sequence[Line] = (),
) -> list[Box]:
    """A box for each label.

    Args:
        points: centre and radius of each.
        sizes: width and height of each label.
        frame: width and height.
        taken: boxes that are there already.
        lines: to keep off, where there is a choice.
    """
    discs = [Box(x - r, y - r, x + r, y + r) for (x, y), r in points]
    placed: list[Box] = []
    leaders: list[Line] = []
    for index, ((point, radius), size) in enumerate(zip(points, sizes, strict=True)):
        others = [*taken, *placed]
        best, least = None, float("inf")
        for ring, step in product(RINGS, range(ANGLES)):
            angle = 2 * pi * step / ANGLES
            box = _box(point, radius + ring, angle, size)
            cost = ring + 3.0 * (step % 2)
            cost += COVERS * sum(box.meets(other, GAP) for other in [*others, *discs])
            cost += LEAVES * (not box.within(*frame))
            leader = (point, anchor(box, point))
            cost += CROSSES * sum(other.crossed_by(leader) for other in others)
            cost += CROSSES * sum(box.crossed_by(line) for line in leaders)
            cost += (
                CROSSES
                / 8
                * sum(disc.crossed_by(leader) for i, disc in enumerate(discs) if i != index)
            )
            cost += ON_LINE * sum(box.crossed_by(line) for line in lines)
            if cost < least:
                best, least = box, cost
        assert best is not None, "there is always a cheapest place"
        placed.append(best)
        leaders.append((point, anchor(best, point)))
    return placed


def anchor(box: Box, point: Point) -> Point:
    """The point of the box that is nearest to ``point``: where its leader ends."""
    return min(max(point[0], box.left), box.right), min(max(point[1], box.bottom), box.top)


def _box(point: Point, away: float, angle: float, size: Point) -> Box:
    """The label's nearest edge is so far away in that direction."""
    width, height = size
    x, y = point[0] + away * cos(angle), point[1] + away * sin(angle)
    left = x - width * (1 - cos(angle)) / 2
    bottom = y - height * (1 - sin(angle)) / 2
    return Box(left, bottom, left + width, bottom + height)
