"""The highest request rate at which an objective holds: bisection on the rate."""

from __future__ import annotations

from dataclasses import dataclass

from ...traces import Trace
from ..job import Report
from ..saturated import saturate
from ..server import Server
from ..slo import SLO
from .probe import Probe, probe

TOLERANCE = 0.02
"""Relative width of the bracket in which the search ends."""
MOST_PROBES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSearch:
    """What a server does from rate to rate, and the highest rate that holds."""

    slo: SLO
    probes: tuple[Probe, ...]
    """By rate."""
    saturated_per_s: float
    """Requests a second under backlog: no rate above it can last."""
    best: Probe | None
    """The highest rate that holds; None where none does."""
    bound_by: str
    """What binds just above it."""

    @property
    def rate_per_s(self) -> float:
        """The highest rate that holds; 0 where none does."""
        return 0.0 if self.best is None else self.best.rate_per_s

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "rate_per_s": self.rate_per_s,
            "saturated_per_s": self.saturated_per_s,
            "bound_by": self.bound_by,
            "probes": [one.to_json() for one in self.probes],
        }


def search_rate(
    server: Server, trace: Trace, slo: SLO, *, title: str = "", report: Report | None = None
) -> RateSearch:
    """Bisect between nothing and what the server finishes under backlog.

    Args:
        server: what serves.
        trace: with arrival times, whose pattern is kept.
        slo: the objective.
        title: what to tell ``report``.
        report: told about progress.

    Raises:
        ValueError: the server can run no request of the trace.
    """
    _, backlog = saturate(server, trace, title=f"{title}: backlog", report=report)
    top = backlog.requests_per_s
    probes: dict[float, Probe] = {}

    def holds(rate: float) -> bool:
        found = probe(server, trace, rate, slo, title=f"{title}: {rate:.3g}/s", report=report)
        probes[rate] = found
        return found.holds

    low, high = 0.0, top
    if holds(top):
        low = top
    while high - low > TOLERANCE * high and len(probes) < MOST_PROBES:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    ordered = tuple(probes[rate] for rate in sorted(probes))
    return RateSearch(
        slo=slo,
        probes=ordered,
        saturated_per_s=top,
        best=probes.get(low),
        bound_by="",
    )
