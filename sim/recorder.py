"""What happened, kept as it happens: segments of occupancy, pauses, step logs.

A *segment* is a run of steps with the same members: step ``j`` of it lasts ``first + j * slope``.
While it lasts, every decoding request fills one more slot a step, so the slot-time of a segment is
a closed form in the moments

    T(k) = sum of step times                       M(k) = sum over j of j * (time of step j)

and slots granted at step ``d`` add ``slots * (T(k) - T(d))``. Stepping one by one gives the same
sums.
"""

from __future__ import annotations

from typing import NamedTuple

from ..calibration.step_cost import Line
from .allocators import Growth, Usage


class Segment(NamedTuple):
    """A run of steps; ``*_slot_ns`` are slots times nanoseconds."""

    start_ns: float
    duration_ns: float
    first_ns: float
    slope_ns: float
    steps: int
    num_decodes: int
    """Requests that got a token in every step, one step after their last."""
    num_running: int
    num_waiting: int
    token_slot_ns: float
    held_slot_ns: float
    internal_slot_ns: float
    external_slot_ns: float


class Recorder:
    """Collects the segments of one replica."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.gaps_ns: list[float] = []
        """Inter-token times across a preemption or a step that left the request out."""
        self.num_steps = 0

    def run(
        self,
        *,
        start_ns: float,
        line: Line,
        steps: int,
        num_decodes: int,
        num_running: int,
        num_waiting: int,
        tokens: int,
        usage: Usage,
        growths: list[Growth],
    ) -> None:
        """Record ``steps`` decode steps; ``tokens`` slots are filled during the first of them."""
        first, slope = line.first_ns, line.slope_ns
        span = line.span_ns(steps)
        held, internal = usage.held * span, usage.internal * span
        for growth in growths:
            left = span - line.span_ns(growth.offset)
            held += growth.slots * left
            internal += growth.internal * left
        pairs = steps * (steps - 1) // 2
        moment = first * pairs + slope * (pairs * (2 * steps - 1) / 3)
        self.num_steps += steps
        self.segments.append(
            Segment(
                start_ns,
                span,
                first,
                slope,
                steps,
                num_decodes,
                num_running,
                num_waiting,
                tokens * span + num_decodes * moment,
                held,
                internal,
                usage.external * span,
            )
        )

    def step(
        self,
        *,
        start_ns: float,
        duration_ns: float,
        num_decodes: int,
        num_running: int,
        num_waiting: int,
        tokens: int,
        usage: Usage,
    ) -> None:
        """Record one step; ``tokens`` slots are filled during it."""
        self.num_steps += 1
        self.segments.append(
            Segment(
                start_ns,
                duration_ns,
                duration_ns,
                0.0,
                1,
                num_decodes,
                num_running,
                num_waiting,
                tokens * duration_ns,
                usage.held * duration_ns,
                usage.internal * duration_ns,
                usage.external * duration_ns,
            )
        )
