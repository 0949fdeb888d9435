"""One point of a calibration: what is measured, as plain data, before anything is on a card.

``x`` holds what the point asks for; what the kernel is launched with (slots, tiles) joins it when
the operands are built, and the sample keeps both. ``seconds`` is expected, not measured:

    seconds = FIXED_S + RETRIED * max(SAMPLE_S, NUM_SAMPLES * call_s)

with ``call_s`` from a nominal card of 3 TB/s and 600 TFLOP/s; a session corrects it by its pace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIXED_S = 0.05
"""Operands, warming up and capturing."""
RETRIED = 1.2
"""A noisy point is measured twice."""
SAMPLE_S = 0.03
NUM_SAMPLES = 20
"""So many samples of a point, or 30 ms of them, whichever is more."""
NOMINAL_BYTES_PER_S = 3e12
NOMINAL_FLOPS_PER_S = 6e14
LAUNCH_S = 5e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What to measure."""

    family: str
    x: Mapping[str, Any]
    role: str = "fit"
    flags: tuple[str, ...] = ()
    seconds: float = FIXED_S
    """Expected to take, operands included."""
    memory_bytes: int = 0
    """Of the card, for its operands."""

    @property
    def key(self) -> str:
        """The point's name: equal for equal points, in every run."""
        return json.dumps([self.family, self.role, list(self.flags), self.x], sort_keys=True)

    def __str__(self) -> str:
        shape = " ".join(f"{name}={_brief(value)}" for name, value in self.x.items())
        return f"{self.family} {shape}"


def expected_s(*, moved_bytes: float = 0.0, flops: float = 0.0) -> float:
    """Seconds that a point is expected to take whose call moves and computes so much."""
    bound_s = max(moved_bytes / NOMINAL_BYTES_PER_S, flops / NOMINAL_FLOPS_PER_S)
    return FIXED_S + RETRIED * max(SAMPLE_S, NUM_SAMPLES * (LAUNCH_S + bound_s))


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
