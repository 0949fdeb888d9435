"""The terms of one step: where its time goes, on what figure each rests, what binds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One part of a step's time."""

    name: str
    ns: float
    source: str
    bytes: float = 0.0
    """Moved from memory (over the link, for communication)."""
    flops: float = 0.0
    bound: str = "latency"
    """``bandwidth``, ``compute``, ``link``, ``latency`` or ``host``."""
    distance: float | None = None
    """Octaves to the nearest measured shape; None where nothing was measured."""
    extrapolated: bool = False
    doubt: float = 0.0
    """Of the coefficients behind it, relative; 0 where only the source's own band is known."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; the time in seconds."""
        return {
            "name": self.name,
            "s": self.ns / 1e9,
            "bound": self.bound,
            "bytes": self.bytes,
            "flops": self.flops,
            "source": self.source,
            "distance_octaves": self.distance,
            "extrapolated": self.extrapolated,
        }


LATENCY_FACTOR = 3.0
"""Longer than this many times its roofline, a kernel is bound by its own latency."""


def bound_of(ns: float, read_ns: float, compute_ns: float) -> str:
    """What binds a kernel, from its time and the least times of its bytes and its FLOPs."""
    roof = max(read_ns, compute_ns)
    if ns > LATENCY_FACTOR * roof:
        return "latency"
    return "bandwidth" if read_ns >= compute_ns else "compute"
