"""The KV pool over the trace: what each byte is used for, stacked over time (paged candidate)."""

from __future__ import annotations

import numpy as np

from ...sim.plan import Plan
from .. import words
from ..picture import Picture
from ..resample import resample
from ..sheets import CATEGORY_TITLES, pool_share_sheet
from ..style import CATEGORY_COLOURS, legend, new_figure, quiet
from .clock import time_axis
from .patches import VISIBLE_SHARE, category_patches

NUM_BINS = 600


def occupancy(plan: Plan) -> Picture:
    """Areas in GiB of the KV pool; their sum is the pool at every time."""
    result = plan.chosen.result
    gib_per_slot = plan.budget.kv_cache_bytes / words.GIB / result.pool_slots
    bins = resample(result.segments, result.pool_slots, NUM_BINS)
    unit = time_axis([float(bins.edges_s[-1])])
    figure = new_figure(3.3)
    axes = figure.subplots()
    floor = np.zeros(NUM_BINS)
    shown = VISIBLE_SHARE * result.pool_slots
    names = [name for name in CATEGORY_TITLES if bins.means[name].max() >= shown]
    for name in (name for name in CATEGORY_TITLES if bins.means[name].any()):
        top = floor + bins.means[name] * gib_per_slot
        axes.stairs(
            top,
            bins.edges_s / unit.seconds,
            baseline=floor,
            fill=True,
            color=CATEGORY_COLOURS[name],
        )
        floor = top
    quiet(axes, grid="y")
    axes.set_xlim(bins.edges_s[0] / unit.seconds, bins.edges_s[-1] / unit.seconds)
    axes.set_ylim(0, result.pool_slots * gib_per_slot)
    axes.set_xlabel(f"time, {unit.name}")
    axes.set_ylabel("KV pool, GiB")
    legend(figure, category_patches(names))
    held = 1 - bins.means["free"] / result.pool_slots
    return Picture(
        name="kv-occupancy",
        title="The KV pool over the trace (paged)",
        caption="What the pool is used for over time, means over 1/600 of the time each; the areas "
        "add up to the whole pool. Free space at the top is room for more traffic; an area that "
        "touches the top means that requests wait or are preempted.",
        alt=f"Stacked areas over time: the pool of {words.gib(plan.budget.kv_cache_bytes)} is on "
        f"average {words.share(float(held.mean()))} in use, at most "
        f"{words.share(float(held.max()))}.",
        figure=figure,
        sheet=pool_share_sheet(plan),
    )
