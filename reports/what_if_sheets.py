"""The table of what-ifs: each change, what it is worth and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from . import words
from .confidence_sheets import per_s, usd
from .sheet import Sheet

if TYPE_CHECKING:  # the values are only read
    from ..sim.planner.what_if import Delta, WhatIf

FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("rate_per_s", "requests/s", per_s),
    ("mean_running", "at once", words.mean),
    ("num_replicas", "replicas", words.count),
    ("usd_per_hour", "$ an hour", usd),
    ("usd_per_million_output_tokens", "$/M output tokens", usd),
)


def what_if_sheet(found: Sequence[WhatIf]) -> Sheet:
    """A row for each change; figures that none has are left out."""
    held = [
        (name, shown)
        for name, _, shown in FIGURES
        if any(getattr(one, name) is not None for one in found)
    ]
    names = [name for name, _ in held]
    return Sheet(
        title="What if: changes of the chosen plan, each with its difference",
        columns=("change", *(title for name, title, _ in FIGURES if name in names), "note"),
        rows=tuple(
            (one.title, *(_cell(getattr(one, name), shown) for name, shown in held), note(one))
            for one in found
        ),
        text_columns=(0, len(held) + 1),
    )


def note(one: WhatIf) -> str:
    """What the figures do not say."""
    if one.refused:
        return one.refused
    notes = [] if one.asked else ["tried because of what binds"]
    if not one.change.is_priced and one.change.is_ours:
        notes.append("its price is not known")
    if one.change.changes_answers:
        notes.append("the answers change")
    return "; ".join(notes)


def difference(found: Delta, shown: Callable[[float], str]) -> str:
    """``+1.20 (+0.80 to +1.50)``; the middle alone where the ends print like it."""
    if found.delta.low == found.delta.high == 0:
        return "no change"
    ends = [signed(one, shown) for one in (found.delta.low, found.delta.value, found.delta.high)]
    low, value, high = ends
    return value if low == value == high else f"{value} ({low} to {high})"


def signed(value: float, shown: Callable[[float], str]) -> str:
    """With its sign; ``0`` for nothing."""
    if value == 0:
        return "0"
    return f"{'+' if value > 0 else '-'}{shown(abs(value))}"


def _cell(found: Delta | None, shown: Callable[[float], str]) -> str:
    if found is None:
        return words.NONE
    return f"{shown(found.value)}, {difference(found, shown)}"
