"""Plans beside each other: what each allocator holds and gives under backlog, a bar per plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ..sim.comparison import Comparison
from ..sim.metric_directions import PLAN_METRICS, value_at
from ..sim.stored import Stored
from . import words
from .compare_sheets import value_words
from .overlay import COLOURS, named
from .picture import Picture
from .sheet import Sheet
from .style import FONT_PT, INK, new_figure, quiet, row_titles

BARS = {
    "backlog.mean_running": "requests at once under backlog",
    "memory_backlog.mean_running": "requests at once, by memory alone",
    "backlog.output_tokens_per_s": "output tokens/s under backlog",
}
_NAME_IN, _BAR_IN, _SPACE_IN = 0.24, 0.19, 0.1


def plan_bars(comparison: Comparison) -> Picture:
    """What each plan's allocators hold and give under backlog, a bar per plan."""
    titles = list(dict.fromkeys(one["title"] for run in comparison.runs for one in _all(run)))
    names = comparison.names
    panel_in = _row_in(len(names)) * len(titles)
    figure = new_figure(0.4 + len(BARS) * (0.55 + panel_in) + 0.22 * len(names))
    grid = figure.subplots(len(BARS), 1, squeeze=False)[:, 0]
    for axes, (path, title) in zip(grid, BARS.items(), strict=True):
        _bars(axes, comparison.runs, titles, path)
        axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=8)
    named(figure, [Patch(color=_colour(at)) for at in range(len(names))], names)
    return Picture(
        name="under-backlog",
        title="Each allocator under backlog",
        caption="A bar for each plan, longer is better: requests that run at once while others "
        "wait, with the flags as given and by memory alone, and the tokens that come out of it. "
        "No bar: the allocator is not in that plan, or can hold no request of its trace.",
        alt="Requests at once under backlog: "
        + "; ".join(
            f"{run.name} "
            + ", ".join(
                f"{one['title']} {value_words(value_at(one, 'backlog.mean_running'), 'mean')}"
                for one in _all(run)
            )
            for run in comparison.runs
        )
        + ".",
        figure=figure,
        sheet=_bar_sheet(comparison, titles),
    )


def _row_in(num_plans: int) -> float:
    """Height of an allocator's name, its bars and the space below them, inches."""
    return _NAME_IN + _BAR_IN * num_plans + _SPACE_IN


def _bars(axes: Axes, runs: Sequence[Stored], titles: Sequence[str], path: str) -> None:
    """Rows of one unit each: name, bars, space."""
    row_in, longest = _row_in(len(runs)), 1e-9
    for row, title in enumerate(titles):
        for position, run in enumerate(runs):
            value = _value(run, title, path)
            if value is None:
                continue
            y = row + (_NAME_IN + _BAR_IN * (position + 0.5)) / row_in
            axes.barh(y, value, 0.85 * _BAR_IN / row_in, color=_colour(position))
            axes.annotate(
                words.count(value),
                (value, y),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                size=FONT_PT - 2.5,
            )
            longest = max(longest, value)
    quiet(axes)
    row_titles(axes, list(titles), above=-0.9 * _NAME_IN / row_in)
    axes.set_xlim(0, longest * 1.16)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylim(len(titles), 0)


def _colour(position: int) -> str:
    return COLOURS[position % len(COLOURS)]


def _bar_sheet(comparison: Comparison, titles: Sequence[str]) -> Sheet:
    return Sheet(
        title="Under backlog",
        columns=("plan", "allocator", *BARS.values()),
        rows=tuple(
            (
                run.name,
                title,
                *(value_words(_value(run, title, path), PLAN_METRICS[path].unit) for path in BARS),
            )
            for title in titles
            for run in comparison.runs
        ),
        text_columns=(0, 1),
    )


def _value(run: Stored, title: str, path: str) -> float | None:
    found = next((one for one in _all(run) if one["title"] == title), {})
    return value_at(found, path)


def _all(run: Stored) -> Sequence[Mapping[str, Any]]:
    candidates: Sequence[Mapping[str, Any]] = run.values["candidates"]
    return candidates
