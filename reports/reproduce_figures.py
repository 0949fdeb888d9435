"""The figures of published results: ours filled, the paper's hollow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from ..sim.reproduce.claim import Chart, Claim, Series
from . import words
from .overlay import style
from .picture import Picture
from .reproduce_sheets import check_sheet
from .style import CATEGORY_COLOURS, FONT_PT, INK, MEASURE, QUIET, legend, new_figure, quiet

_PANEL_IN, _HEAD_IN, _LEGEND_IN = 2.3, 0.35, 0.24
_BAR_IN, _GAP_IN = 0.22, 0.14
STACK_COLOURS = tuple(
    CATEGORY_COLOURS[name] for name in ("token_states", "reserved", "internal", "external")
)
_FEW = 8
"""Points of a line that are marked one by one."""


def claim_picture(claim: Claim) -> Picture | None:
    """Every chart of a claim in one figure, one under the other; None where it has none."""
    if not claim.charts:
        return None
    heights = [_height_in(chart) for chart in claim.charts]
    legends = _legend_rows(claim.charts)
    figure = new_figure(sum(heights) + _LEGEND_IN * legends)
    grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, chart in zip(grid, claim.charts, strict=True):
        draw = _draw_bars if chart.labels else _draw_lines
        draw(axes, chart)
        if len(claim.charts) > 1 or not chart.labels:
            axes.set_title(chart.title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=4)
    shared = _shared_handles(claim.charts)
    if shared:
        legend(figure, shared, columns=2)
    return Picture(
        name=claim.name,
        title=claim.source,
        caption=caption(claim.charts),
        alt="; ".join(
            f"{check.what}: paper {check.paper}, ours {check.ours:.4g}"
            for check in claim.checks[:_FEW]
        )
        + ".",
        figure=figure,
        sheet=check_sheet(claim),
    )


def caption(charts: Sequence[Chart]) -> str:
    """How to read them."""
    every = [series for chart in charts for series in chart.series]
    parts = []
    if any(chart.stacked for chart in charts):
        parts.append("Below each of ours the paper's bar.")
    elif any(series.paper for series in every):
        parts.append("Ours filled, the paper's figures hollow.")
    if any(chart.level is not None for chart in charts):
        parts.append(
            "Dashed: the level up to which a rate counts as sustained; the legend has the rates."
        )
    return " ".join(parts) or "Ours; the paper prints no values to stand beside them."


def _height_in(chart: Chart) -> float:
    if not chart.labels:
        return _PANEL_IN + _HEAD_IN
    bars = 1 if chart.stacked else len(chart.series)
    return _HEAD_IN + 0.35 + len(chart.labels) * (bars * _BAR_IN + _GAP_IN)


def _draw_bars(axes: Axes, chart: Chart) -> None:
    """Lying bars, a group for each label; the paper's are hollow."""
    quiet(axes)
    places = np.arange(len(chart.labels), dtype=float)
    if chart.stacked:
        _stack(axes, chart, places)
    else:
        _groups(axes, chart, places)
    axes.set_yticks(places, list(chart.labels))
    axes.invert_yaxis()
    axes.set_xlabel(chart.y_title)
    axes.margins(x=0.14)
    axes.set_xlim(left=0)
    if chart.shares:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))


def _stack(axes: Axes, chart: Chart, places: np.ndarray) -> None:
    left = np.zeros(len(places))
    for series, colour in zip(chart.series, STACK_COLOURS, strict=False):
        values = np.nan_to_num(np.array(series.y))
        axes.barh(places, values, 0.72, left=left, color=colour, label=series.name)
        left += values
    axes.set_xlim(0, 1)


def _groups(axes: Axes, chart: Chart, places: np.ndarray) -> None:
    number = len(chart.series)
    height = 0.8 / number
    for position, series in enumerate(chart.series):
        at = places + (position - (number - 1) / 2) * height
        values = np.array(series.y)
        look = _look(chart.series, series)
        axes.barh(at, np.nan_to_num(values), 0.9 * height, label=series.name, **look)
        for place, value in zip(at, values.tolist(), strict=True):
            if np.isfinite(value):
                _name_bar(axes, place, value, shares=chart.shares)


def _name_bar(axes: Axes, place: float, value: float, *, shares: bool) -> None:
    axes.annotate(
        words.share(value) if shares else words.number(value),
        (value, place),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        color=INK,
        size=FONT_PT - 2.5,
    )


def _look(every: Sequence[Series], series: Series) -> dict[str, Any]:
    if series.paper:
        return {"facecolor": "none", "edgecolor": QUIET, "linewidth": 1.3}
    ours = [one for one in every if not one.paper]
    if len(ours) == 1:
        return {"color": MEASURE}
    return {"color": style(ours.index(series))["color"]}


def _draw_lines(axes: Axes, chart: Chart) -> None:
    """A line for each series with its own legend; the paper's points are hollow."""
    quiet(axes, grid="both")
    position = 0
    for series in chart.series:
        if series.paper:
            axes.plot(
                series.x,
                series.y,
                linestyle="none",
                marker="o",
                markerfacecolor="none",
                markeredgecolor=INK,
                markersize=7,
                label=series.name,
            )
            continue
        marked: dict[str, Any] = (
            {"marker": "o", "markersize": 3.5} if len(series.x) <= 4 * _FEW else {}
        )
        axes.plot(series.x, series.y, label=series.name, **style(position), **marked)
        position += 1
    if chart.level is not None:
        axes.axhline(chart.level, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)))
    if chart.log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        _few_ticks(axes, chart)
    axes.set_ylim(0, chart.y_max)
    if chart.shares:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(chart.x_title)
    axes.set_ylabel(chart.y_title)
    axes.legend(frameon=False, fontsize=FONT_PT - 2, labelcolor=INK, loc="best", handlelength=1.8)


def _few_ticks(axes: Axes, chart: Chart) -> None:
    """A logarithmic axis of less than a decade has no round powers: 1, 2, 5 instead."""
    found = np.concatenate([np.array(series.x) for series in chart.series if len(series.x)])
    low, high = float(found.min()), float(found.max())
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    wide = high / low > 300
    steps = (1,) if wide else (1, 2, 5)
    ticks = [step * 10.0**power for power in decades for step in steps]
    axes.set_xticks([tick for tick in ticks if 0.9 * low <= tick <= 1.1 * high])
    axes.set_xlim(0.9 * low, 1.1 * high)


def _shared_handles(charts: Sequence[Chart]) -> list[object]:
    """One legend for all bars; lines have their own."""
    handles: dict[str, object] = {}
    for chart in charts:
        if not chart.labels:
            continue
        for series, colour in zip(chart.series, (*STACK_COLOURS, MEASURE), strict=False):
            if chart.stacked:
                handles[series.name] = Patch(color=colour, label=series.name)
            elif len(chart.series) > 1:
                handles[series.name] = Patch(label=series.name, **_look(chart.series, series))
    return list(handles.values())


def _legend_rows(charts: Sequence[Chart]) -> int:
    return (len(_shared_handles(charts)) + 1) // 2
