"""Which figure stands in which section of a plan's page; a section without figures is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

FIRST_FIGURE = "requests-at-once"
"""Beside the answer, on the first screen."""
DECISION = "What to deploy"
BUDGET = "Memory budget"
SECTIONS: dict[str, tuple[str, ...]] = {
    DECISION: ("options-cost", "options-rate", "slo", "how-sure", "answer-tornado", "what-if"),
    BUDGET: ("memory-budget",),
    "Where the bytes go": ("where-the-bytes-go", "memory-map"),
    "Occupancy": ("kv-occupancy", "concurrency"),
    "Latency": ("latency", "latency-cdf"),
    "Block size and sharing": ("block-sizes", "prefix-curve", "sharing", "memory-tiers"),
    "Preemption": ("swap-crossover",),
    "Sensitivity": ("tornado",),
}
"""Section to the names of its figures, in the order of the page."""
OTHERS = "More"

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section(Generic[Entry]):
    """A title and what stands below it."""

    title: str
    figures: tuple[Entry, ...]

    @property
    def id(self) -> str:
        """Its anchor on the page: ``section-where-the-bytes-go``."""
        return anchor(self.title)


def anchor(title: str) -> str:
    """A title as an anchor that no figure's name can be."""
    words = "".join(letter if letter.isalnum() else " " for letter in title.lower()).split()
    return "-".join(("section", *words))


def sections(figures: Mapping[str, Entry]) -> list[Section[Entry]]:
    """Figures by name, in their sections; those that no section names come last, in their order."""
    placed = [
        (title, tuple(figures[name] for name in names if name in figures))
        for title, names in SECTIONS.items()
    ]
    known = {FIRST_FIGURE, *(name for names in SECTIONS.values() for name in names)}
    others = tuple(figure for name, figure in figures.items() if name not in known)
    return [
        Section(title=title, figures=held) for title, held in [*placed, (OTHERS, others)] if held
    ]
