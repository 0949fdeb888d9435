"""Bars of a tornado: how far one input moves a figure, the strongest at the top.

Drawn from anything that has a base, its factors with a low and a high end, and both bands together
at their ends; a panel names the attribute of these that it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ...sim.sensitivity import BAND
from .. import words
from ..interval import NOUNS
from ..sensitivity_sheets import at
from ..style import CATEGORY_COLOURS, FONT_PT, FREE, INK, MEASURE, QUIET, legend, new_figure, quiet

LOW, HIGH = MEASURE, CATEGORY_COLOURS["token_states"]
"""The input at its low and at its high end: light and dark."""
_BAR = 0.5
_LITTLE = 1e-3
"""Relative change below which no bar can be seen."""
_LOG_FROM = 10.0
"""Spread from which a time axis is logarithmic."""
HOW_TO_READ = (
    "Each bar shows how far one input moves a figure, the others kept; the upright line is the "
    "plan's own figure, the strongest input stands at the top. Filled bars are error bands: the "
    "truth is expected within them. Hollow bars are what-ifs, 20 % less and more. The grey ground "
    "is the interval: all bands at their worse ends together, and at their better ends. Light is "
    "the input's low end, dark its high end."
)


class Factor(Protocol):
    """One input at either end."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def low_input(self) -> float: ...
    @property
    def high_input(self) -> float: ...
    @property
    def is_given(self) -> bool: ...
    @property
    def low(self) -> Any: ...
    @property
    def high(self) -> Any: ...


class Found(Protocol):
    """The base, all bands at their ends, every input on its own."""

    @property
    def base(self) -> Any: ...
    @property
    def low(self) -> Any: ...
    @property
    def high(self) -> Any: ...
    @property
    def factors(self) -> Sequence[Factor]: ...
    @property
    def bands(self) -> Sequence[Factor]: ...


class Panel(NamedTuple):
    """One figure of the answer."""

    field: str
    title: str
    text: Callable[[float], str]
    is_time: bool = False
    leaves_out: tuple[str, ...] = ()
    """Factors that cannot matter to it."""


def shown_panels(found: Found, panels: Sequence[Panel]) -> list[Panel]:
    """Those of which the base has the figure."""
    return [panel for panel in panels if getattr(found.base, panel.field) is not None]


def factor_bars(found: Found, panels: Sequence[Panel]) -> Figure:
    """The panels below each other."""
    rows = [_rows(found, panel) for panel in panels]
    heights = [len(one) + 0.9 for one in rows]
    figure = new_figure(1.0 + 0.46 * sum(heights))
    column = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel, shown in zip(column, panels, rows, strict=True):
        _draw(axes, panel, shown, found)
    column[-1].set_xlabel("upright line: as planned")
    legend(figure, list(_handles(found)), columns=2)
    return figure


def _rows(found: Found, panel: Panel) -> list[Factor]:
    """Those that can matter to this figure, strongest first."""
    shown = [one for one in found.factors if one.name not in panel.leaves_out]
    return sorted(shown, key=lambda one: -_effect(found, one, panel.field))


def _effect(found: Found, factor: Factor, field: str) -> float:
    """Farthest that it moves the figure, relative."""
    base = getattr(found.base, field)
    ends = [getattr(end, field) for end in (factor.low, factor.high)]
    moved = [abs(end - base) / base for end in ends if end is not None and base]
    return max(moved, default=0.0)


def _draw(axes: Axes, panel: Panel, rows: list[Factor], found: Found) -> None:
    base = getattr(found.base, panel.field)
    values = [base]
    low, high = getattr(found.low, panel.field), getattr(found.high, panel.field)
    if found.bands and low is not None and high is not None:
        axes.axvspan(min(low, high), max(low, high), color=FREE, lw=0, zorder=0)
        values += [low, high]
    for row, factor in enumerate(rows):
        ends = [getattr(end, panel.field) for end in (factor.low, factor.high)]
        _bars(axes, row, factor, ends, base)
        values += [end for end in ends if end is not None]
    axes.axvline(base, color=INK, lw=1.2, zorder=4)
    quiet(axes)
    heading = f"{panel.title}: {panel.text(base)}"
    axes.set_title(heading, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)
    axes.set_yticks(range(len(rows)), [_label(one) for one in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    _scale(axes, values, is_time=panel.is_time)
    _annotate(axes, panel, rows, base)


def _bars(axes: Axes, row: int, factor: Factor, ends: list[float | None], base: float) -> None:
    """From the base to each end; the longer one behind where both lie on one side."""
    pairs = [
        (end, colour)
        for end, colour in zip(ends, (LOW, HIGH), strict=True)
        if end is not None and abs(end - base) > _LITTLE * base
    ]
    for end, colour in sorted(pairs, key=lambda pair: -abs(pair[0] - base)):
        face = colour if factor.kind == BAND else "none"
        axes.barh(
            row, end - base, _BAR, left=base, color=face, edgecolor=colour, linewidth=1.6, zorder=3
        )


def _annotate(axes: Axes, panel: Panel, rows: list[Factor], base: float) -> None:
    """The figure at the outer ends of each bar, or why there is no bar."""
    for row, factor in enumerate(rows):
        ends = [getattr(end, panel.field) for end in (factor.low, factor.high)]
        moved = [end for end in ends if end is not None and abs(end - base) > _LITTLE * base]
        if not moved:
            _say(axes, _why_no_bar(factor, ends, base), base, row, after=True)
        if (least := min(moved, default=base)) < base:
            _say(axes, panel.text(least), least, row, after=False)
        if (most := max(moved, default=base)) > base:
            _say(axes, panel.text(most), most, row, after=True)


def _say(axes: Axes, text: str, x: float, row: int, *, after: bool) -> None:
    axes.annotate(
        text,
        (x, row),
        xytext=(4 if after else -4, 0),
        textcoords="offset points",
        ha="left" if after else "right",
        va="center",
        color=INK,
        size=FONT_PT - 1.5,
        zorder=5,
        parse_math=False,
    )


def _why_no_bar(factor: Factor, ends: list[float | None], base: float) -> str:
    if factor.is_given:
        return "given, no band"
    if None in ends:
        return "no request fits"
    return "no effect" if all(end == base for end in ends) else "next to no effect"


def _scale(axes: Axes, values: list[float], *, is_time: bool) -> None:
    """Room for the figures at the ends; logarithmic where times spread far."""
    least, most = min(values), max(values)
    if is_time and least > 0 and most > _LOG_FROM * least:
        room = (most / least) ** 0.24
        axes.set_xscale("log")
        axes.set_xlim(least / room, most * room)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", color=QUIET)
    else:
        spread = max(most - least, 0.1 * abs(most), 1e-12)
        axes.set_xlim(least - 0.24 * spread, most + 0.24 * spread)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    ticks = words.tick_s if is_time else "{:,.4g}".format
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: ticks(x)))


def _label(factor: Factor) -> str:
    if factor.is_given:
        return NOUNS[factor.name]
    if factor.unit == "blocks":
        ends = f"{words.count(factor.low_input)} to {words.count(factor.high_input)}"
        return f"{NOUNS[factor.name]}\n{ends}"
    if factor.unit == "switch":
        return f"{NOUNS[factor.name]}\n{at(factor, factor.low_input)}"
    return f"{NOUNS[factor.name]}\n{at(factor, factor.low_input)} to {factor.high_input:.2f}"


def _handles(found: Found) -> list[Patch]:
    handles = [
        Patch(facecolor=LOW, edgecolor=LOW, label="input at its low end"),
        Patch(facecolor=HIGH, edgecolor=HIGH, label="at its high end"),
        Patch(facecolor="none", edgecolor=QUIET, linewidth=1.6, label="hollow: what if"),
    ]
    if found.bands:
        handles.append(Patch(facecolor=FREE, label="interval: all bands"))
    return handles


def alt_of(found: Found, panels: Sequence[Panel]) -> str:
    parts = []
    for panel in panels:
        text, base = panel.text, getattr(found.base, panel.field)
        ends = [
            f"{NOUNS[one.name]} {_between(one, panel)}"
            for one in _rows(found, panel)
            if _effect(found, one, panel.field) > _LITTLE
        ]
        parts.append(f"{panel.title} {text(base)}: {', '.join(ends) or 'nothing moves it'}")
    return "Tornado: " + "; ".join(parts) + "."


def _between(factor: Factor, panel: Panel) -> str:
    ends = [getattr(end, panel.field) for end in (factor.low, factor.high)]
    return " to ".join(words.NONE if end is None else panel.text(end) for end in ends)
