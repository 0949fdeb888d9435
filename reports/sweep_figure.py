"""The Pareto front of a sweep: throughput against latency, cost as colour, a panel per trace."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from ..sim.sweep.show import THROUGHPUT, Row
from . import words
from .picture import Picture
from .style import FONT_PT, INK, QUIET, new_figure, quiet
from .sweep_sheets import latency_words, sweep_sheet

MOST_TRACES = 6
"""Panels; a table has the others."""
WIDE = 20
"""Times whose largest is this many times the smallest need a logarithmic axis."""
COLOURS = colormaps["viridis_r"]


def front_picture(rows: Sequence[Row], *, latency: str) -> Picture | None:
    """None where nothing is on a front."""
    front = [row for row in rows if row.on_front]
    if not front:
        return None
    traces = list(dict.fromkeys(row.trace for row in front))[:MOST_TRACES]
    shown = [row for row in rows if row.trace in traces and row.metrics.get(latency) is not None]
    prices = [row.usd_per_hour for row in shown if row.usd_per_hour]
    norm = LogNorm(min(prices), max(prices)) if len(set(prices)) > 1 else None
    figure = new_figure(0.6 + 2.7 * len(traces))
    panels = figure.subplots(len(traces), 1, squeeze=False)[:, 0]
    for axes, trace in zip(panels, traces, strict=True):
        _panel(axes, [row for row in shown if row.trace == trace], latency, norm)
        axes.set_title(trace, loc="left", color=INK, size=FONT_PT)
    panels[-1].set_xlabel(latency_words(latency))
    if norm is not None:
        colours = figure.colorbar(
            ScalarMappable(norm=norm, cmap=COLOURS),
            ax=list(panels),
            location="bottom",
            aspect=40,
            shrink=0.9,
        )
        colours.set_label("USD an hour, all GPUs", color=INK, size=FONT_PT - 0.5)
        colours.ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        colours.ax.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: ""))
        colours.set_ticks(
            sorted(set(prices)) if len(set(prices)) <= 5 else [min(prices), max(prices)]
        )
        colours.ax.tick_params(colors=QUIET, labelcolor=INK, labelsize=FONT_PT - 1)
        colours.outline.set_visible(False)
    return Picture(
        name="pareto-front",
        title="Throughput, latency and cost of every cell",
        caption="Up and to the left is better. Ringed cells are on the Pareto front of their "
        "trace: none is at least as cheap, as fast and as productive as they are and better in one "
        "of these. The colour is the price of the deployment an hour.",
        alt=f"{len(front)} of {len(rows)} cells are on the Pareto front: "
        + "; ".join(
            f"{row.name} with {words.count(row.metrics[THROUGHPUT] or 0)} output tokens a second "
            f"and {latency_words(latency)} {words.seconds(row.metrics[latency] or 0)}"
            for row in front[:8]
        )
        + ".",
        figure=figure,
        sheet=sweep_sheet(rows, latency=latency, front=True),
    )


def _panel(axes: Axes, rows: Sequence[Row], latency: str, norm: LogNorm | None) -> None:
    for row in rows:
        x, y = row.metrics.get(latency), row.metrics.get(THROUGHPUT)
        if x is None or y is None:
            continue
        price = row.usd_per_hour
        colour = QUIET if norm is None or price is None else COLOURS(norm(price))
        axes.scatter(
            [x],
            [y],
            s=62 if row.on_front else 34,
            color=[colour],
            edgecolors=INK if row.on_front else QUIET,
            linewidths=1.6 if row.on_front else 0.6,
            zorder=3 if row.on_front else 2,
        )
    quiet(axes, grid="both")
    axes.set_ylabel("output tokens/s")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: words.count(y)))
    axes.set_ylim(0, 1.1 * max(row.metrics.get(THROUGHPUT) or 0 for row in rows))
    _times(axes, [at for row in rows if (at := row.metrics.get(latency)) is not None])


def _times(axes: Axes, values: Sequence[float]) -> None:
    """From 0, or logarithmic where they are spread wide."""
    if min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: ""))
    else:
        axes.set_xlim(0, 1.1 * max(values) or 1)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: words.tick_s(x)))
