"""Requests at once under backlog: with the flags as given, and by memory alone."""

from __future__ import annotations

from matplotlib.patches import Patch

from ...sim.candidate import Candidate
from ...sim.plan import Plan
from .. import words
from ..picture import Picture
from ..sheets import at_once_sheet
from ..style import FONT_PT, INK, MEASURE, QUIET, legend, new_figure, quiet, row_titles

_BAR = 0.22


def at_once(plan: Plan) -> Picture:
    """Two bars per candidate."""
    given = [_running(one, "backlog") for one in plan.candidates]
    alone = [_running(one, "memory_backlog") for one in plan.candidates]
    figure = new_figure(0.9 + 0.62 * len(given))
    axes = figure.subplots()
    most = max(*given, *alone, 1e-9)
    for row, (with_flags, by_memory) in enumerate(zip(given, alone, strict=True)):
        axes.barh(row, with_flags, _BAR, color=MEASURE)
        axes.barh(row + _BAR + 0.03, by_memory, _BAR, color="none", edgecolor=QUIET, linewidth=1.2)
        for offset, value in ((0.0, with_flags), (_BAR + 0.03, by_memory)):
            text = words.mean(value) if value else "no request fits"
            where = (value + 0.012 * most, row + offset)
            axes.annotate(text, where, va="center", color=INK, size=FONT_PT - 1)
    quiet(axes)
    row_titles(axes, [one.title for one in plan.candidates], above=0.15)
    axes.set_xlim(0, most * 1.12)
    axes.set_ylim(len(given) - 1 + 0.5, -0.5)
    axes.set_xlabel("requests running at once (mean)")
    handles = [
        Patch(color=MEASURE, label="flags as given"),
        Patch(facecolor="none", edgecolor=QUIET, label="memory alone (limits lifted)"),
    ]
    legend(figure, list(handles), columns=2)
    return Picture(
        name="requests-at-once",
        title="Requests at once under backlog",
        caption="Requests with the trace's lengths never run out. The filled bar is the mean "
        "number that runs with the flags as given; the outlined bar is what memory alone would "
        "hold. Where they differ, seats or the token budget bind and not the allocator.",
        alt="Bars of requests running at once: "
        + "; ".join(
            f"{one.title} {words.mean(a)}, by memory alone {words.mean(b)}"
            for one, a, b in zip(plan.candidates, given, alone, strict=True)
        )
        + ".",
        figure=figure,
        sheet=at_once_sheet(plan),
    )


def _running(one: Candidate, name: str) -> float:
    backlog = one.backlog if name == "backlog" else one.memory_backlog
    return 0.0 if backlog is None else backlog.mean_running
