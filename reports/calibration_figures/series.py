"""What the calibration figures share: colours in order, marks, ceilings, logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from .. import words
from ..calibration_data import Calibration
from ..calibration_words import origin
from ..style import CATEGORY_COLOURS, FONT_PT, INK, MEASURE, QUIET

TERA, GIGA = 1e12, 1e9
COLOURS = (
    MEASURE,
    CATEGORY_COLOURS["token_states"],
    CATEGORY_COLOURS["cached"],
    CATEGORY_COLOURS["reserved"],
    CATEGORY_COLOURS["internal"],
    CATEGORY_COLOURS["external"],
)
"""From cold to warm, so that the lines of growing batches have an order."""
MARKS = ("o", "s", "D", "^", "v", "p")
FAMILY_STYLES = {
    "decode": (CATEGORY_COLOURS["token_states"], "o"),
    "prefill": (CATEGORY_COLOURS["reserved"], "s"),
    "mixed": (CATEGORY_COLOURS["external"], "D"),
    "gemm": (CATEGORY_COLOURS["cached"], "^"),
    "elementwise": (CATEGORY_COLOURS["internal"], "v"),
}
"""A family keeps its colour and mark in every figure."""
MOST_TICKS = 6
DASHED = (0, (5, 2))
READ: dict[str, Any] = {"color": INK, "linewidth": 1.3, "linestyle": "-"}
COPY: dict[str, Any] = {"color": INK, "linewidth": 1.1, "linestyle": DASHED}
SHEET: dict[str, Any] = {"color": QUIET, "linewidth": 1.1, "linestyle": (0, (1, 1.5))}


def key(label: str, **style: Any) -> Line2D:
    """An entry of the legend."""
    return Line2D([], [], label=label, **{"linestyle": "none", "markersize": 6, **style})


def spread(values: Sequence[int], most: int = len(COLOURS)) -> list[int]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def bandwidths(calibration: Calibration) -> list[tuple[str, float, dict[str, Any]]]:
    """Words, bytes/s and style of each roof of the memory that is known."""
    adjective, found = origin(calibration.profile).adjective, []
    for name, style in (("read", READ), ("copy", COPY)):
        rate = calibration.ceiling(name)
        if rate:
            found.append((f"{name} {tera(rate)} TB/s, {adjective}", rate, style))
    if calibration.gpu is not None:
        rate = calibration.gpu.memory_bandwidth_bytes_per_s
        found.append((f"{tera(rate)} TB/s, datasheet", rate, SHEET))
    return found


def draw_bandwidths(axes: Axes, calibration: Calibration) -> list[Line2D]:
    """Level lines over an axis in TB/s, and their legend."""
    handles = []
    for label, rate, style in bandwidths(calibration):
        axes.axhline(rate / TERA, zorder=1.5, **style)
        handles.append(key(label, **style))
    return handles


def log_axis(axes: Axes, which: str, *, base: int = 10) -> None:
    """Powers as plain numbers, no minor ticks."""
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("log", base=base)
    axis.set_major_locator(LogLocator(base=base))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def token_axis(axes: Axes, values: Sequence[float], which: str = "x") -> None:
    """Ticks at measured values, thinned from the left where they would meet."""
    log_axis(axes, which, base=2)
    axis = getattr(axes, f"{which}axis")
    ordered = sorted(set(values))
    axis.set_major_locator(FixedLocator(thinned(ordered)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def thinned(values: Sequence[float], most: int = MOST_TICKS) -> list[float]:
    """Powers of two that stand at least a sixth of the logarithmic span apart; all where few."""
    powers = [value for value in values if log2(value).is_integer()]
    if len(powers) < 2:
        return list(values)
    least = (values[-1] / values[0]) ** (1 / most) * 0.999
    kept = [powers[-1]]
    for value in reversed(powers[:-1]):
        if kept[-1] / value >= least:
            kept.append(value)
    return kept[::-1]


def short(tokens: float) -> str:
    """``512``, ``4k``, ``1M``."""
    whole = round(tokens)
    for letter, size in (("M", 1 << 20), ("k", 1 << 10)):
        if whole >= size and whole % size == 0:
            return f"{whole // size}{letter}"
    return f"{whole:,}"


def tera(rate: float) -> str:
    """In TB/s or TFLOP/s."""
    return words.number(rate / TERA)


def open_mark(colour: str) -> dict[str, Any]:
    """A mark that is not filled: what the fit has not seen."""
    return {"markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": 1.1}


def beside_bar(axes: Axes, value: float, y: float, text: str) -> None:
    """Words at the end of a horizontal bar."""
    style: dict[str, Any] = {"va": "center", "color": INK, "size": FONT_PT - 2}
    left = value >= 0
    axes.annotate(
        text,
        (value, y),
        xytext=(3 if left else -3, 0),
        textcoords="offset points",
        ha="left" if left else "right",
        **style,
    )
