"""The winner's and the runner-up's figures as intervals, one below the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...sim.planner.confidence import Certainty, Confidence
from ...sim.planner.interval import Interval
from .. import words
from ..confidence_sheets import confidence_sheet, per_s, spanned, usd
from ..picture import Picture
from ..style import CATEGORY_COLOURS, FONT_PT, INK, MEASURE, legend, new_figure, quiet, row_titles

PANELS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("rate_per_s", "requests/s that hold, a replica", per_s),
    ("usd_per_hour", "USD an hour for the target", usd),
    ("usd_per_million_output_tokens", "USD per million output tokens", usd),
)
WIDE, NARROW = MEASURE, CATEGORY_COLOURS["token_states"]


def confidence_picture(found: Confidence) -> Picture:
    """A panel for each figure that both have."""
    options = [found.winner, *([] if found.runner_up is None else [found.runner_up])]
    panels = [
        (title, shown, ends)
        for name, title, shown in PANELS
        if (ends := _finite([getattr(one, name) for one in options])) is not None
    ]
    figure = new_figure(0.9 + 1.0 * len(panels) + 0.5 * len(panels) * len(options))
    column = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (title, shown, ends) in zip(column, panels, strict=True):
        _draw(axes, title, shown, [one.title for one in options], ends)
    _by_traffic(column[0], options)
    column[-1].set_xlabel("point: as planned")
    handles = [
        Line2D([], [], color=WIDE, lw=5, label="bands and other traffic"),
        Line2D([], [], color=NARROW, lw=2.4, label="other traffic alone"),
    ]
    legend(figure, list(handles), columns=2)
    return Picture(
        name="how-sure",
        title="How sure the answer is",
        caption=f"{found.first_line} A point is the plan's own figure; the light bar reaches from "
        "the bands of step times and KV blocks at their worse ends, with the 5th percentile of "
        f"{found.num_runs} runs on other traffic of the same kind, to their better ends with the "
        "95th. The thin dark bar is other traffic alone.",
        alt=_alt(options),
        figure=figure,
        sheet=confidence_sheet(found),
    )


def _finite(ends: Sequence[Interval | None]) -> list[Interval] | None:
    """None where one is missing, or has an end that is not drawn."""
    held = [one for one in ends if one is not None and one.high < float("inf")]
    return held if len(held) == len(ends) else None


def _draw(
    axes: Axes,
    title: str,
    shown: Callable[[float], str],
    names: Sequence[str],
    ends: Sequence[Interval],
) -> None:
    quiet(axes)
    axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)
    for row, one in enumerate(ends):
        axes.plot([one.low, one.high], [row, row], color=WIDE, lw=5, solid_capstyle="butt")
        axes.plot([one.value], [row], marker="o", color=INK, markersize=5, zorder=4)
    texts = [spanned(one, shown) for one in ends]
    row_titles(axes, [f"{name}: {text}" for name, text in zip(names, texts, strict=True)])
    axes.set_ylim(len(ends) - 0.6, -0.8)
    low, high = min(one.low for one in ends), max(one.high for one in ends)
    room = max(0.08 * (high - low), 0.02 * high, 1e-12)
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.4g}"))


def _by_traffic(axes: Axes, options: Sequence[Certainty]) -> None:
    for row, one in enumerate(options):
        ends = one.rate_by_traffic_per_s
        axes.plot([ends.low, ends.high], [row, row], color=NARROW, lw=2.4, zorder=3)


def _alt(options: Sequence[Certainty]) -> str:
    parts = []
    for one in options:
        figures = [
            f"{title} {spanned(ends, shown)}"
            for name, title, shown in PANELS
            if (ends := getattr(one, name)) is not None
        ]
        parts.append(f"{one.title}: {words.listing(figures)}")
    return "Intervals. " + "; ".join(parts) + "."
