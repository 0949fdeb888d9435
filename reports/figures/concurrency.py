"""Requests running and waiting over the trace: a panel per candidate, on common axes."""

from __future__ import annotations

from matplotlib.ticker import MaxNLocator

from ...sim.candidate import Candidate
from ...sim.plan import Plan
from .. import words
from ..picture import Picture
from ..resample import Binned, resample
from ..sheets import running_sheet
from ..style import FONT_PT, INK, MEASURE, QUIET, new_figure, quiet
from .clock import time_axis

NUM_BINS = 300
_LEAST_WAITING = 0.1
"""Height of the waiting axis in that of the running one: one request in passing is no queue."""
COLUMNS = {"num_running": ("running", MEASURE), "num_waiting": ("waiting", QUIET)}


def concurrency(plan: Plan) -> Picture:
    """Running at the left, waiting at the right; each column on one scale."""
    rows = len(plan.candidates)
    figure = new_figure(0.9 + 1.1 * rows)
    grid = figure.subplots(rows, len(COLUMNS), sharex=True, sharey="col", squeeze=False)
    binned = [_binned(one) for one in plan.candidates]
    unit = time_axis([bins.edges_s[-1] for bins in binned if bins is not None])
    for panels, one, bins in zip(grid, plan.candidates, binned, strict=True):
        for axes, (name, (word, colour)) in zip(panels, COLUMNS.items(), strict=True):
            quiet(axes, grid="y")
            axes.set_ylabel(word)
            if bins is not None:
                time = bins.edges_s / unit.seconds
                axes.stairs(bins.means[name], time, fill=True, color=colour)
        panels[0].set_title(one.title, loc="left", size=FONT_PT - 1, color=INK, pad=3)
    for axes in grid[-1]:
        axes.set_xlabel(f"time, {unit.name}")
        axes.set_xlim(left=0)
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.set_ylim(bottom=0)
    running, waiting = grid[0]
    waiting.set_ylim(top=max(waiting.get_ylim()[1], _LEAST_WAITING * running.get_ylim()[1]))
    return Picture(
        name="concurrency",
        title="Requests running and waiting over the trace",
        caption="Means over 1/300 of the time each. Requests that run at the left, those "
        "that wait for memory or a seat at the right. An allocator whose right panel is flat "
        "serves this trace without queueing. All panels share the time axis, each column one "
        "scale; a panel that goes on longer took longer to finish.",
        alt="Mean and peak of requests running, mean waiting: "
        + "; ".join(_words(one) for one in plan.candidates)
        + ".",
        figure=figure,
        sheet=running_sheet(plan),
    )


def _binned(one: Candidate) -> Binned | None:
    segments = one.result.segments
    if not len(segments["start_s"]):
        return None
    return resample(segments, one.result.pool_slots, NUM_BINS)


def _words(one: Candidate) -> str:
    summary = one.summary
    return (
        f"{one.title} {words.mean(summary.mean_running)}, {summary.peak_running}, "
        f"{words.mean(summary.mean_waiting)}"
    )
