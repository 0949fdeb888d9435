"""How figures look: one palette, one width, quiet axes.

Colours are Okabe and Ito's (2008), which stay apart for colour-blind readers; each category of the
pool keeps its colour everywhere. Ink, grid and free space are named values, so that the page can
swap them for a dark background (``render``).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#1c2127"
QUIET = "#5b6470"
GRID = "#d5dae0"
FREE = "#e6e9ed"
PAPER = "#ffffff"

CATEGORY_COLOURS = {
    "token_states": "#0072b2",
    "reserved": "#e69f00",
    "internal": "#d55e00",
    "external": "#cc79a7",
    "cached": "#009e73",
    "free": FREE,
}
ON_DARK = ("token_states",)
"""Categories whose colour takes white text; the others take black."""
MEASURE = "#56b4e9"
"""For what is no category: requests, times."""
BLACK, WHITE = "#111111", "#fefefe"

WIDTH_IN = 5.0
"""Narrow, so that text is still read when the figure is shrunk to a phone."""
FONT_PT = 10.5


def fresh() -> AbstractContextManager[None]:
    """Matplotlib's own defaults: a user's matplotlibrc must not change a report."""
    return matplotlib.style.context("default")


def new_figure(height_in: float) -> Figure:
    """An empty figure of the common width."""
    return Figure(figsize=(WIDTH_IN, height_in), facecolor=PAPER, layout="constrained")


def quiet(axes: Axes, *, grid: str = "x") -> None:
    """Thin grid behind the data, no box."""
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(colors=QUIET, labelcolor=INK, labelsize=FONT_PT - 1, length=3)
    axes.xaxis.label.set(color=INK, size=FONT_PT)
    axes.yaxis.label.set(color=INK, size=FONT_PT)
    axes.set_facecolor("none")


def row_titles(axes: Axes, titles: list[str], *, above: float = 0.36) -> None:
    """Name each row of horizontal marks above it, at the left: the marks keep the whole width."""
    axes.set_yticks([])
    for row, title in enumerate(titles):
        axes.annotate(
            title,
            (0, row - above),
            xycoords=("axes fraction", "data"),
            ha="left",
            va="bottom",
            color=INK,
            size=FONT_PT,
            parse_math=False,
        )


def legend(
    figure: Figure, handles: list[object], *, columns: int = 3, handle_length: float = 1.2
) -> None:
    """One frameless legend below the axes; dashed lines need long handles to be told apart."""
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=FONT_PT - 0.5,
        labelcolor=INK,
        handlelength=handle_length,
        columnspacing=1.2,
    )
