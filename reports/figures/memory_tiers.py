"""Memory below the GPU: what it buys, and how full it is.

The curve is the bound of an LRU list over all memories together: prompts alone, one after another,
with nothing else in the pool and no time spent on loading.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from ...sim.plan import Plan
from ...traces.cache_curve import CacheCurve
from .. import words
from ..cache_curve import thinned
from ..picture import Picture
from ..style import CATEGORY_COLOURS, FONT_PT, INK, MEASURE, QUIET, new_figure, quiet
from ..tier_sheets import TITLES, bytes_per_token, hit_tokens, tier_sheet
from .clock import time_axis

NUM_POINTS = 300
_LEAST = 8
"""The axis begins at this part of the GPU's pool."""
_BEYOND = 5
"""It ends at so many times all memories, where the label of the diamond has room."""
_SHORT = {"host": "host", "secondary": "second tier"}
_SIMULATED = CATEGORY_COLOURS["internal"]
COLOURS = {"host": MEASURE, "secondary": CATEGORY_COLOURS["cached"]}


def memory_tiers(plan: Plan) -> Picture | None:
    """What memory buys and the level of each tier; None without tiers."""
    result, summary = plan.chosen.result, plan.chosen.summary
    if not result.tiers or not len(result.segments["start_s"]):
        return None
    curve = plan.cache_curve
    bought = curve is not None and len(curve.size_blocks) > 0
    num_levels = len(result.tiers)
    figure = new_figure((3.2 if bought else 0.5) + 1.5 * num_levels)
    ratios = ([2.0] if bought else []) + [1.0] * num_levels
    panels = figure.subplots(len(ratios), 1, squeeze=False, height_ratios=ratios)[:, 0]
    if bought and curve is not None:
        _buys(panels[0], plan, curve)
    _levels(list(panels[-num_levels:]), plan)
    hits, found = hit_tokens(summary), words.share(summary.prefix_hit_ratio)
    shares = ", ".join(
        f"{TITLES[name]} {words.share(count / max(1, summary.prefix_hit_tokens))}"
        for name, count in hits.items()
        if name == "gpu" or any(tier.name == name for tier in result.tiers)
    )
    return Picture(
        name="memory-tiers",
        title="Memory below the GPU for the prefix cache",
        caption=_caption(bought=bought)
        + f"Found: {found} of the prompt tokens, of these {shares}. Levels: what each tier holds.",
        alt=f"{found} of the prompt tokens were found, of these {shares}.",
        figure=figure,
        sheet=tier_sheet(plan),
    )


def _caption(*, bought: bool) -> str:
    if not bought:
        return ""
    return (
        "Blue: share of the prompt tokens that an LRU cache of so much memory in all finds, "
        "prompts alone, one after another: what more memory can buy at best. Dashed: the GPU's "
        "pool, and with each tier below it. Diamond: what the simulated server found; its pool "
        "also holds the requests that run and their answers. "
    )


def _buys(axes: Axes, plan: Plan, curve: CacheCurve) -> None:
    """Hit ratio against all memory in GiB, with the memories that the server has."""
    result, per_token = plan.chosen.result, bytes_per_token(plan)
    quiet(axes, grid="both")
    gib_per_block = curve.block_tokens * per_token / words.GIB
    marks = {"GPU": result.pool_slots * per_token / words.GIB}
    size = marks["GPU"]
    for tier in result.tiers:
        size += tier.size_bytes / words.GIB
        marks[f"+ {_SHORT[tier.name]}"] = size
    sizes, ratios = thinned(curve)
    gib = [block * gib_per_block for block in sizes]
    end = max(_BEYOND * size, gib[-1])
    axes.plot([*gib, end], [*ratios, ratios[-1]], drawstyle="steps-post", color=MEASURE, lw=2)
    simulated = 100 * plan.chosen.summary.prefix_hit_ratio
    top = max(ratios[-1], simulated, 1.0) * 1.4
    for place, (name, at) in enumerate(marks.items()):
        height = 0.98 - 0.1 * (len(marks) - 1 - place)  # no line through a later one's name
        axes.axvline(at, ymax=height, color=QUIET, lw=1.2, linestyle=(0, (4, 3)))
        axes.annotate(
            f"{name} {at:,.0f} GiB",
            (at, top * height),
            xytext=(-5, 0),
            textcoords="offset points",
            ha="right",
            va="top",
            color=INK,
            size=FONT_PT - 1,
        )
    axes.plot([size], [simulated], marker="D", markersize=8, color=_SIMULATED, zorder=4)
    axes.annotate(
        f"simulated {simulated:.1f} %",
        (size, simulated),
        xytext=(7, -7),
        textcoords="offset points",
        ha="left",
        va="top",
        color=INK,
        size=FONT_PT - 1,
    )
    axes.set_xscale("log")
    axes.set_xlim(max(gib[0], marks["GPU"] / _LEAST), end)
    axes.tick_params(which="minor", color=QUIET)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axes.set_ylim(0, top)
    axes.set_xlabel("memory for the cache in all, GiB")
    axes.set_ylabel("prompt tokens that hit, %")


def _levels(panels: list[Axes], plan: Plan) -> None:
    """GiB in each tier over time, with its size."""
    result = plan.chosen.result
    segments = result.segments
    ends = segments["start_s"] + segments["duration_s"]
    at = np.linspace(segments["start_s"][0], ends[-1], NUM_POINTS)
    unit = time_axis([float(ends[-1])])
    place = np.searchsorted(ends, at, side="right") - 1
    for axes, tier in zip(panels, result.tiers, strict=True):
        quiet(axes, grid="y")
        level = np.where(place >= 0, segments[f"{tier.name}_bytes"][place], 0) / words.GIB
        axes.fill_between(at / unit.seconds, level, step="post", color=COLOURS[tier.name])
        title = f"in {TITLES[tier.name]}, GiB, of {tier.size_bytes / words.GIB:,.0f}"
        axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)
        axes.set_ylim(0, max(1.1 * float(level.max()), 1e-6))
        axes.set_xlim(at[0] / unit.seconds, at[-1] / unit.seconds)
    panels[-1].set_xlabel(f"time, {unit.name}")
