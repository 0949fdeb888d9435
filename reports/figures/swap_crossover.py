"""Swap against recompute for the chosen server, with the batch that its backlog runs."""

from __future__ import annotations

from ...sim.plan import Plan
from ..picture import Picture
from ..swap_figure import swap_picture


def swap_crossover(plan: Plan) -> Picture | None:
    """By block size and by length; None where layers keep different tokens."""
    found = getattr(plan, "crossover", None)
    return None if found is None else swap_picture(found)
