"""Sharing over the trace: memory that is held once instead of several times, and cached."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ...sim.plan import Plan
from .. import words
from ..moved_words import Moved, copies_sentence
from ..picture import Picture
from ..resample import bin_means
from ..sharing_sheets import ROWS, gib_per_slot, sharing_sheet
from ..style import CATEGORY_COLOURS, FONT_PT, INK, MEASURE, QUIET, new_figure, quiet
from .clock import time_axis

NUM_BINS = 300
COLOURS = {"saved": MEASURE, "cached": CATEGORY_COLOURS["cached"]}
_MEANINGS = {
    "saved": "Saved by sharing: memory that several running requests hold together and that each "
    "would need for itself.",
    "cached": "Cached: KV that nobody holds but that a later prompt may find; it gives way as soon "
    "as memory is short.",
}
_MEANS = "Means over 1/300 of the time each, dashed over all of it."


def sharing(plan: Plan) -> Picture | None:
    """Two panels over time; None where the chosen server shares nothing."""
    result, summary = plan.chosen.result, plan.chosen.summary
    segments = result.segments
    if not len(segments["start_s"]):
        return None
    if not (summary.prefix_hit_tokens or segments["saved"].any()):
        return None
    starts, durations = segments["start_s"], segments["duration_s"]
    edges = np.linspace(starts[0], starts[-1] + durations[-1], NUM_BINS + 1)
    unit = time_axis([float(edges[-1])])
    shown = {name: title for name, title in ROWS.items() if segments[name].any()}
    if not shown:
        return None
    figure = new_figure(0.9 + 1.65 * len(shown))
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    means = dict.fromkeys(ROWS, 0.0)
    for axes, (name, title) in zip(panels, shown.items(), strict=True):
        values = bin_means(starts, durations, segments[name], edges) * gib_per_slot(plan)
        axes.stairs(values, edges / unit.seconds, fill=True, color=COLOURS[name])
        means[name] = float(np.average(segments[name], weights=durations)) * gib_per_slot(plan)
        _name(axes, f"{title}, GiB", means[name])
    panels[-1].set_xlim(edges[0] / unit.seconds, edges[-1] / unit.seconds)
    panels[-1].set_xlabel(f"time, {unit.name}")
    found = f"{words.count(summary.prefix_hit_tokens)} prompt tokens "
    found += f"({words.share(summary.prefix_hit_ratio)})"
    copies = copies_sentence(Moved.of(summary.to_json()))
    caption = [*(_MEANINGS[name] for name in shown), _MEANS]
    if summary.prefix_hit_tokens:
        caption.append(f"Over the trace {found} were found and not computed again.")
    return Picture(
        name="sharing",
        title="What sharing saves (paged)",
        caption=" ".join(filter(None, (*caption, copies))),
        alt=f"Over time, sharing saves {means['saved']:.2f} GiB on average, at most "
        f"{float(segments['saved'].max()) * gib_per_slot(plan):.2f} GiB; "
        f"{means['cached']:.2f} GiB are cached on average; {found} were found. {copies}".strip(),
        figure=figure,
        sheet=sharing_sheet(plan),
    )


def _name(axes: Axes, title: str, mean: float) -> None:
    quiet(axes, grid="y")
    axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)
    axes.axhline(mean, color=QUIET, lw=1.2, linestyle=(0, (4, 3)))
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.15 * mean, 1e-6))
    axes.annotate(
        f"mean {mean:.2f}",
        (0.995, mean),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=INK,
        size=FONT_PT - 1.5,
    )
