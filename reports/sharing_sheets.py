"""What sharing saved, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import words
from .moved_words import Moved, sharing_rows, swap_rows
from .sheet import Sheet

if TYPE_CHECKING:
    from ..sim.plan import Plan

ROWS = {"saved": "saved by sharing", "cached": "cached, held by nobody"}


def gib_per_slot(plan: Plan) -> float:
    """GiB of a slot of the chosen server's pool."""
    return plan.budget.kv_cache_bytes / words.GIB / plan.chosen.result.pool_slots


def sharing_sheet(plan: Plan) -> Sheet:
    """Mean and peak over the trace, and what prompts found."""
    segments, summary = plan.chosen.result.segments, plan.chosen.summary
    durations = segments["duration_s"]
    rows = []
    for name, title in ROWS.items():
        slots = segments[name]
        mean = float(np.average(slots, weights=durations)) if durations.any() else 0.0
        rows.append((title, *_gib(plan, mean), _gib(plan, float(slots.max(initial=0.0)))[0]))
    found = words.count(summary.prefix_hit_tokens)
    ratio = words.share(summary.prefix_hit_ratio)
    rows.append(("prompt tokens found in the cache", found, ratio, words.NONE))
    moved = Moved.of(summary.to_json())
    rows += [*sharing_rows(moved), *swap_rows(moved)]
    return Sheet(
        title="What sharing saves over the trace",
        columns=("what", "mean or sum", "share of the pool, the prompts, the time", "peak"),
        rows=tuple(rows),
    )


def _gib(plan: Plan, slots: float) -> tuple[str, str]:
    """In GiB and as a share of the pool."""
    size = f"{slots * gib_per_slot(plan):.2f} GiB"
    return size, words.share(slots / plan.chosen.result.pool_slots)
