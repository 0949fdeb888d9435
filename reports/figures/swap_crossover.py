"""Swap against recompute for the chosen server, with the batch that its backlog runs."""

from __future__ import annotations

from dataclasses import replace

from ...sim.plan import Plan
from ..moved_words import Moved, swaps_sentence
from ..picture import Picture
from ..swap_figure import swap_picture


def swap_crossover(plan: Plan) -> Picture | None:
    """By block size and by length; None where layers keep different tokens."""
    if plan.crossover is None:
        return None
    picture = swap_picture(plan.crossover)
    swapped = swaps_sentence(Moved.of(plan.chosen.summary.to_json()))
    return replace(picture, caption=f"{picture.caption} {swapped}".strip())
