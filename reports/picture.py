"""A figure with the words that belong to it."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from .sheet import Sheet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """What the page shows and what becomes ``<name>.png``."""

    name: str
    """File stem and HTML id: lower case, digits, hyphens."""
    title: str
    """What the figure shows."""
    caption: str
    """How to read it."""
    alt: str
    """Its content in a sentence or two, for those who cannot see it."""
    figure: Figure
    sheet: Sheet
    """The same as a table."""
