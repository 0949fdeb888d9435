"""KV pools of real start-ups beside the predicted ones."""

from __future__ import annotations

from functools import cache
from statistics import mean, median
from typing import NamedTuple

from support.startups import startups


class Met(NamedTuple):
    """Start-ups that settled no constant and held no freed memory back: errors of the KV pool."""

    errors: tuple[float, ...]
    """Absolute, ascending."""
    num_segments: int
    worst_segment: float
    """Of the others: the largest miss, as a share of the requested memory."""

    @property
    def median(self) -> float:
        return median(self.errors)

    @property
    def mean(self) -> float:
        return mean(self.errors)

    @property
    def worst(self) -> float:
        return self.errors[-1]


@cache
def met() -> Met:
    """All held-out rows."""
    held_out = [row for row in startups() if row.use == "held out"]
    errors = sorted(abs(row.error) for row in held_out if not row.holds_segment)
    kept = [row for row in held_out if row.holds_segment]
    return Met(tuple(errors), len(kept), max(abs(row.share) for row in kept))


def startups_block() -> str:
    """In words."""
    found = met()
    return (
        f"In {len(found.errors)} start-ups of real servers that settled no constant the KV pool "
        f"was met to {100 * found.median:.1f} % in the median and {100 * found.worst:.1f} % at "
        f"worst; {found.num_segments} more, of vLLM 0.29, kept freed memory back (up to "
        f"{100 * found.worst_segment:.1f} % of the requested memory, and inside the band)."
    )


def capacity_block() -> str:
    """Beside what others publish: the errors of the pool, in the words that each of them prints."""
    found = met()
    rows = [
        (
            "kvsim",
            f"{100 * found.mean:.2f} % mean, {100 * found.median:.2f} % median, "
            f"{100 * found.worst:.1f} % worst",
            f"{len(found.errors)} start-ups, held out",
            f"beside {found.num_segments} of vLLM 0.29 that kept freed memory back; most are an "
            "H100's",
        ),
        ("llm-d-planner", "0.34 % mean", "57 runs", "some of these start-ups are its own runs"),
        ("AIConfigurator", "2 % either way", "", "users report up to 4.6 times too much"),
        ("BLIS", "2.9 to 16.1 %", "", ""),
        ("Frontier", "at most 1.89 %", "16 H800", ""),
    ]
    head = ["| | error of the KV pool | over | beware |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])
