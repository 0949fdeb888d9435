"""What changes are worth: bars of the rate's difference, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...sim.planner.what_if import WhatIf
from .. import words
from ..confidence_sheets import per_s
from ..picture import Picture
from ..style import CATEGORY_COLOURS, INK, MEASURE, new_figure, quiet, row_titles
from ..what_if_sheets import difference, what_if_sheet

GAIN, LOSS = MEASURE, CATEGORY_COLOURS["reserved"]
_BAR = 0.36


def what_if_picture(found: Sequence[WhatIf], advice: str = "") -> Picture | None:
    """The best change at the top; None where none could be tried.

    Args:
        found: the changes.
        advice: the sentence that names the cheapest one that lifts what binds.
    """
    tried = [one for one in found if one.rate_per_s is not None]
    tried.sort(key=lambda one: -_delta(one)[1])
    if not tried:
        return None
    figure = new_figure(0.8 + 0.56 * len(tried))
    axes = figure.subplots()
    _draw(axes, tried)
    return Picture(
        name="what-if",
        title="What changes are worth, requests/s",
        caption=f"{advice} Each bar is the difference to the chosen plan in the requests a second "
        "that one replica holds; the line is its interval. Both servers meet the same traffic and "
        "stand at the same ends of the bands, so that the line is shorter than those of the two "
        "rates.".strip(),
        alt="What if: "
        + "; ".join(f"{one.title} {_text(one)} requests/s" for one in tried)
        + ". "
        + advice,
        figure=figure,
        sheet=what_if_sheet(found),
    )


def _draw(axes: Axes, tried: Sequence[WhatIf]) -> None:
    quiet(axes)
    for row, one in enumerate(tried):
        low, value, high = _delta(one)
        axes.barh(row, value, _BAR, color=GAIN if value >= 0 else LOSS, zorder=2)
        axes.plot([low, high], [row, row], color=INK, lw=1.4, zorder=3)
    axes.vlines([0.0] * len(tried), *_edges(len(tried)), color=INK, lw=1.2, zorder=4)
    row_titles(axes, [f"{one.title}: {_text(one)}" for one in tried], above=0.24)
    axes.set_ylim(len(tried) - 0.6, -0.7)
    ends = [end for one in tried for end in _delta(one)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = max(0.06 * (high - low), 1e-9)
    axes.set_xlim(low - room, high + room)
    axes.set_xlabel("requests/s more than the chosen plan, a replica")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.4g}"))


def _edges(rows: int) -> tuple[list[float], list[float]]:
    """Of the bars: the line of no change does not cross their names."""
    return [row - _BAR / 2 for row in range(rows)], [row + _BAR / 2 for row in range(rows)]


def _delta(one: WhatIf) -> tuple[float, float, float]:
    assert one.rate_per_s is not None, "only those that were tried"
    delta = one.rate_per_s.delta
    return delta.low, delta.value, delta.high


def _text(one: WhatIf) -> str:
    return words.NONE if one.rate_per_s is None else difference(one.rate_per_s, per_s)
