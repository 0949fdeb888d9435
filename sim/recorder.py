"""What happened, kept as it happens: segments of occupancy, pauses, step logs.

A *segment* is a run of steps with the same members: step ``j`` of it lasts ``first + j * slope``.
While it lasts, every decoding request fills one more slot a step, so the slot-time of a segment is
a closed form in the moments

    T(k) = sum of step times                       M(k) = sum over j of j * (time of step j)

and slots granted at step ``d`` add ``slots * (T(k) - T(d))``. Stepping one by one gives the same
sums.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from ..calibration.step_cost import Line
from .allocators import Growth, Usage
from .allocators.tiers import Tier


class Moment(NamedTuple):
    """A replica as a step begins, its schedule done."""

    num_running: int
    num_waiting: int
    blocked: bool
    """The head of the queue was refused for want of memory."""
    tokens: int
    """Slots that hold KV of the running requests during the step, shared ones counted once."""
    usage: Usage


class Segment(NamedTuple):
    """A run of steps; ``*_slot_ns`` are slots times nanoseconds."""

    start_ns: float
    duration_ns: float
    first_ns: float
    slope_ns: float
    num_steps: int
    num_decodes: int
    """Requests that got a token in every step, one step after their last."""
    num_running: int
    num_waiting: int
    blocked: bool
    token_slot_ns: float
    held_slot_ns: float
    internal_slot_ns: float
    external_slot_ns: float
    cached_slot_ns: float
    shared_slot_ns: float


OPENING = ("segment", "tokens", "held", "internal", "cached")
"""What the pool's slots hold as a run of several steps begins; the segment's place."""


class Recorder:
    """Collects the segments of one replica."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.openings = array("d")
        """Flat rows of :data:`OPENING`."""
        self.gaps_ns: list[float] = []
        """Inter-token times across a preemption or a step that left the request out."""
        self.gap_ends_ns: list[float] = []
        """When they ended."""
        self.num_steps = 0
        self.tiers: Sequence[Tier] = ()
        """Below the GPU: their levels are noted as each segment ends."""
        self.levels = array("q")
        """Flat rows of blocks per tier."""

    def record_step(
        self, start_ns: float, duration_ns: float, num_decodes: int, moment: Moment
    ) -> None:
        """Record a single step: :meth:`record` of a line of one step."""
        num_running, num_waiting, blocked, tokens, usage = moment
        held, internal, external, cached, shared, _ = usage
        self.num_steps += 1
        if self.tiers:
            self.levels.extend([tier.num_resident for tier in self.tiers])
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
                blocked,
                tokens * duration_ns,
                held * duration_ns,
                internal * duration_ns,
                external * duration_ns,
                cached * duration_ns,
                shared * duration_ns,
            )
        )

    def record_idle(self, start_ns: float, duration_ns: float, cached: int) -> None:
        """Nothing waits or runs; so many slots hold KV that a later request may find."""
        self.record_pause(start_ns, duration_ns, Moment(0, 0, False, 0, Usage(0, 0, 0, cached)))

    def record_pause(self, start_ns: float, duration_ns: float, moment: Moment) -> None:
        """No step runs: members wait until their cached beginnings have come up."""
        self.record_step(start_ns, duration_ns, 0, moment)
        self.segments[-1] = self.segments[-1]._replace(num_steps=0)
        self.num_steps -= 1

    def record(
        self,
        *,
        start_ns: float,
        line: Line,
        num_steps: int,
        num_decodes: int,
        moment: Moment,
        slots_per_token: int = 1,
        growths: Sequence[Growth] = (),
    ) -> None:
        """Record a run of steps: ``num_decodes`` requests add a token in each."""
        first, slope = line.first_ns, line.slope_ns
        span = line.span_ns(num_steps)
        usage = moment.usage
        self.openings.extend(_opening(len(self.segments), moment, growths))
        held, internal = usage.held * span, usage.internal * span
        cached, shared, tokens = usage.cached * span, usage.shared * span, moment.tokens * span
        for offset, slots, unused, evicted, dead, more_shared in growths:
            left = span - line.span_ns(offset)
            held += slots * left
            if unused:
                internal += unused * left
            if evicted:
                cached -= evicted * left
            if dead or more_shared:
                shared += more_shared * left
                tokens -= (dead + more_shared) * left
        pairs = num_steps * (num_steps - 1) // 2
        spread = first * pairs + slope * (pairs * (2 * num_steps - 1) / 3)
        self.num_steps += num_steps
        if self.tiers:
            self.levels.extend([tier.num_resident for tier in self.tiers])
        self.segments.append(
            Segment(
                start_ns,
                span,
                first,
                slope,
                num_steps,
                num_decodes,
                moment.num_running,
                moment.num_waiting,
                moment.blocked,
                tokens + num_decodes * slots_per_token * spread,
                held,
                internal,
                usage.external * span,
                cached,
                shared,
            )
        )


def _opening(
    segment: int, moment: Moment, growths: Sequence[Growth]
) -> tuple[int, int, int, int, int]:
    """The moment, with what the first step itself takes."""
    tokens, usage = moment.tokens, moment.usage
    held, internal, cached = usage.held, usage.internal, usage.cached
    for offset, slots, unused, evicted, dead, shared in growths:
        if offset:
            break  # they come in order of their steps
        held += slots
        internal += unused
        cached -= evicted
        tokens -= dead + shared
    return segment, tokens, held, internal, cached
