"""Several runs in one drawing: distributions and courses over time, a style for each run.

A run is told by its colour and by its dashes, in the order in which runs were named. Names come
from folders, so they are drawn as they stand: no mathematics, no glyph that the font lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from . import words
from .figures.clock import time_axis
from .style import CATEGORY_COLOURS, FONT_PT, INK, MEASURE, legend, new_figure, quiet

Floats = NDArray[np.float64]

COLOURS = (
    CATEGORY_COLOURS["token_states"],
    CATEGORY_COLOURS["internal"],
    CATEGORY_COLOURS["cached"],
    CATEGORY_COLOURS["external"],
    CATEGORY_COLOURS["reserved"],
    MEASURE,
)
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
MOST_POINTS = 400
"""Of a distribution; longer ones are drawn at even quantiles."""
LONGEST_NAME = 28
PERCENT = FuncFormatter(lambda y, _: f"{100 * y:.3g} %")
_WIDE_NAME = 18
_LOG_FROM = 30.0
"""Spread between the 5th percentile and the largest value from which an axis is logarithmic."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One run in one panel; (num_points,) each."""

    x: Floats
    y: Floats
    steps: bool = False
    """Whether a value holds until the next one."""


def style(position: int) -> dict[str, Any]:
    """Colour and dashes of the run at this position."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": DASHES[(position + position // len(COLOURS)) % len(DASHES)],
        "linewidth": 1.6,
    }


def drawn_name(name: str) -> str:
    """A name as a figure can hold it: short, and only glyphs of the font."""
    plain = "".join(letter if _drawable(letter) else "?" for letter in name)
    if len(plain) <= LONGEST_NAME:
        return plain
    half = (LONGEST_NAME - 3) // 2
    return f"{plain[:half]}...{plain[-half:]}"


def distribution(values: Floats) -> Curve | None:
    """The empirical CDF of what is known; None where nothing is."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return None
    num = min(len(known), MOST_POINTS)
    shares = np.arange(1, num + 1) / num
    x = known if num == len(known) else np.quantile(known, shares, method="inverted_cdf")
    return Curve(x=np.append(x[0], x), y=np.append(0.0, shares), steps=True)


def panels(
    rows: Sequence[tuple[str, Sequence[Curve | None]]],
    names: Sequence[str],
    *,
    over_time: bool,
    shares: Sequence[str] = (),
) -> Figure:
    """A panel under the other, a curve per run.

    Args:
        rows: title of each panel with the curve of each run; None where it has none.
        names: of the runs.
        over_time: x is time, and panels share it; else each has its own times as x, y is a share.
        shares: titles of panels over time whose values are shares.
    """
    figure = new_figure(0.55 + 1.65 * len(rows) + 0.22 * ((len(names) + 1) // 2))
    grid = figure.subplots(len(rows), 1, squeeze=False, sharex=over_time)[:, 0].tolist()
    for axes, (title, curves) in zip(grid, rows, strict=True):
        for position, curve in enumerate(curves):
            if curve is not None:
                how = "steps-post" if curve.steps else "default"
                axes.plot(curve.x, curve.y, drawstyle=how, **style(position))
        quiet(axes, grid="both")
        axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=4)
        axes.set_ylim(bottom=0)
        if title in shares:
            axes.yaxis.set_major_formatter(PERCENT)
    shown = [curve for _, curves in rows for curve in curves if curve is not None]
    if over_time:
        _clock(grid, shown)
    else:
        for axes, (_, curves) in zip(grid, rows, strict=True):
            _times(axes, [curve for curve in curves if curve is not None])
    named(figure, [Line2D([], [], **style(at)) for at in range(len(names))], names)
    return figure


def named(figure: Figure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """A legend of names as they stand, numbered: matplotlib hides what begins with ``_``."""
    shown = [drawn_name(name) for name in names]
    for position, (handle, name) in enumerate(zip(handles, shown, strict=True), start=1):
        handle.set_label(f"{position}  {name}")
    legend(figure, list(handles), columns=1 if max(map(len, shown)) > _WIDE_NAME else 2)
    for text in figure.legends[-1].get_texts():
        text.set_parse_math(False)


def _drawable(letter: str) -> bool:
    """In DejaVu Sans: Latin, Greek, Cyrillic."""
    code = ord(letter)
    return 0x20 <= code < 0x7F or 0xA1 <= code < 0x250 or 0x370 <= code < 0x530


def _clock(grid: Sequence[Axes], curves: Sequence[Curve]) -> None:
    """Seconds, minutes or hours below the lowest panel; every panel from 0 on."""
    unit = time_axis([float(curve.x[-1]) for curve in curves if len(curve.x)])
    for axes in grid:
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / unit.seconds:g}"))
        axes.set_xlim(left=0)
    grid[-1].set_xlabel(f"time, {unit.name}")


def _times(axes: Axes, curves: Sequence[Curve]) -> None:
    """Times along x, logarithmic where they are spread wide; shares along y."""
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter(PERCENT)
    positive = np.concatenate([curve.x[curve.x > 0] for curve in curves] or [np.ones(1)])
    if len(positive) and positive.max() > _LOG_FROM * np.quantile(positive, 0.05):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(base=10, numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: words.tick_s(x)))
