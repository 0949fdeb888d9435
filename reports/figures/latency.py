"""Latency percentiles: a row per candidate, a mark per percentile, a panel per time."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ...sim.plan import Plan
from .. import words
from ..picture import Picture
from ..sheets import latency_sheet
from ..style import FONT_PT, INK, MEASURE, QUIET, legend, new_figure, quiet, row_titles

PANELS = {"ttft_s": "time to first token", "tpot_s": "time per output token", "e2e_s": "end to end"}
MARKS = {"p50": "o", "p90": "s", "p95": "D", "p99": "|"}
_LOG_FROM = 10.0
"""Spread from which an axis is logarithmic."""


def latency(plan: Plan) -> Picture:
    """TTFT, TPOT and E2E of the finished requests."""
    titles = [one.title for one in plan.candidates]
    figure = new_figure(0.8 + len(PANELS) * (0.62 + 0.4 * len(titles)))
    panels = figure.subplots(len(PANELS), 1, squeeze=False)[:, 0]
    for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
        rows = [_points(getattr(one.summary, name)) for one in plan.candidates]
        _panel(axes, rows)
        row_titles(axes, titles, above=0.12)
        axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)
    handles = [_mark(name) for name in MARKS]
    legend(figure, list(handles), columns=4)
    return Picture(
        name="latency",
        title="Latency percentiles over the trace",
        caption="Each row is one allocator; the marks are the 50th, 90th, 95th and 99th percentile "
        "of the finished requests, further left is better. The axis is logarithmic where the times "
        "span more than a factor of 10.",
        alt="Median and 99th percentile: "
        + "; ".join(
            f"{one.title} "
            + ", ".join(
                f"{title} {words.seconds(getattr(one.summary, name).p50)} and "
                f"{words.seconds(getattr(one.summary, name).p99)}"
                for name, title in PANELS.items()
            )
            for one in plan.candidates
        )
        + ".",
        figure=figure,
        sheet=latency_sheet(plan),
    )


def _points(quantiles: object) -> dict[str, float]:
    """Percentiles in seconds; none where nothing finished."""
    values = {name: float(getattr(quantiles, name)) for name in MARKS}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _mark(name: str) -> Line2D:
    face = MEASURE if name == "p50" else "none"
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=MARKS[name],
        markersize=11 if name == "p99" else 7,
        markeredgewidth=1.6 if name == "p99" else 1.0,
        markerfacecolor=face,
        markeredgecolor=INK,
        label=name,
    )


def _panel(axes: Axes, rows: list[dict[str, float]]) -> None:
    for row, points in enumerate(rows):
        y = row + 0.16
        if points:
            axes.plot([min(points.values()), max(points.values())], [y, y], color=QUIET, lw=1.0)
        for name, value in points.items():
            mark = _mark(name)
            mark.set_data([value], [y])
            axes.add_line(mark)
        if not points:
            axes.annotate(
                "nothing finished", (0, y), xycoords=("axes fraction", "data"), color=QUIET
            )
    quiet(axes)
    axes.set_ylim(len(rows) - 0.6, -0.55)
    _scale(axes, [value for points in rows for value in points.values()])


def _ticks_per_decade(values: list[float]) -> tuple[float, ...]:
    return (1.0,) if max(values) > 60 * min(values) else (1.0, 2.0, 5.0)


def _scale(axes: Axes, values: list[float]) -> None:
    """Logarithmic over decades, else from zero; ticks in ms, s, min."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) > _LOG_FROM * min(positive):
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 1.6, max(positive) * 1.6)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=_ticks_per_decade(positive)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, max([*positive, 1e-9]) * 1.08)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: words.tick_s(x)))
