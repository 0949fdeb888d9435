"""Most requests at once against their length: a line per combination, both axes logarithmic.

A line is what the KV pool holds, requests admitted in turn; it ends in a mark at the longest
context. Above a dashed line ``max_num_seqs`` decides, not memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from ..calibration.combinations import Combination
from . import words
from .capacity_sheets import drawn_of, labels, requests_sheet
from .picture import Picture
from .style import CATEGORY_COLOURS, FONT_PT, INK, MEASURE, PAPER, QUIET, legend, new_figure, quiet

Curve = tuple[list[int], list[int]]
"""Lengths in tokens and requests at once."""
COLOURS = (
    CATEGORY_COLOURS["token_states"],
    CATEGORY_COLOURS["internal"],
    CATEGORY_COLOURS["cached"],
    CATEGORY_COLOURS["external"],
    CATEGORY_COLOURS["reserved"],
    MEASURE,
    INK,
    QUIET,
)
MARKS = ("o", "s", "D", "^", "v", "<", ">", "p")
"""Lines are told apart without colours, too."""
WIDTH_PT, WIDER_PT = 1.5, 0.28
"""Of the last line, and what each before it has more: one that is covered can still be seen."""
SHORTEST_TOKENS = 256
POINTS = 600
MOST_TICKS = 6
LONG_LABEL = 26
"""Letters from which the legend has one column."""
_OPEN = {"markerfacecolor": PAPER, "markeredgewidth": 1.6}
_HALO = (withStroke(linewidth=2.5, foreground=PAPER),)


def capacity_picture(found: Sequence[Combination]) -> Picture:
    """The combinations that fit, at most ``MOST_LINES`` of them (``drawn_of``)."""
    names = dict(zip(map(id, found), labels(found), strict=True))
    fitting = [one for one in found if one.budget is not None]
    drawn = drawn_of(found)
    shown = [names[id(one)] for one in drawn]
    figure = new_figure(3.6 + 0.23 * (len(drawn) + 1))
    axes = figure.subplots()
    quiet(axes, grid="both")
    first = _first(drawn)
    handles = []
    for number, one in enumerate(drawn):
        assert one.budget is not None, "those that fit have a budget"
        curve = _curve(one, one.budget.steady_requests_of, first)
        width = WIDTH_PT + WIDER_PT * (len(drawn) - 1 - number)
        handles.append(_line(axes, one, curve, number, shown[number], width))
    if len(drawn) == 1:
        handles += _as_the_engine_counts(axes, drawn[0], first)
    _scales(axes, drawn)
    _limits(axes, drawn)
    handles += _demands(axes, drawn)
    if any(one.length_bound == "KV pool" for one in drawn):
        handles.append(_key("open: the pool ends it", marker="o", color=QUIET, **_OPEN))
    longest_label = max(len(str(handle.get_label())) for handle in handles)
    legend(figure, list(handles), columns=1 if longest_label > LONG_LABEL else 2)
    more = f" ({len(drawn)} of {len(fitting)})" if len(drawn) < len(fitting) else ""
    return Picture(
        name="requests-by-length",
        title=f"Most requests at once, by their length{more}",
        caption="What the KV pool holds, requests admitted in turn. Each line ends at the longest "
        "context; above a dashed line max_num_seqs decides.",
        alt="Requests at once against their length: "
        + "; ".join(
            f"{name} up to {words.count(one.longest_tokens)} tokens"
            for name, one in zip(shown, drawn, strict=True)
        )
        + ".",
        figure=figure,
        sheet=requests_sheet(drawn, _ticks(drawn)),
    )


def _key(label: str, **style: Any) -> Line2D:
    return Line2D([], [], label=label, **{"linestyle": "none", "markersize": 6, **style})


def _line(
    axes: Axes, one: Combination, curve: Curve, number: int, label: str, width: float
) -> Line2D:
    tokens, held = curve
    colour = COLOURS[number]
    mark: dict[str, Any] = {"marker": MARKS[number], "markersize": 6, "color": colour}
    if one.length_bound == "KV pool":
        mark |= _OPEN
    axes.plot(tokens, held, color=colour, linewidth=width)
    axes.plot(tokens[-1:], held[-1:], zorder=4, clip_on=False, **mark)
    return _key(label, **{**mark, "linestyle": "-", "linewidth": 2})


def _as_the_engine_counts(axes: Axes, one: Combination, first: int) -> list[Line2D]:
    assert one.budget is not None, "it is drawn"
    if not one.budget.windowed:
        return []
    style: dict[str, Any] = {"color": COLOURS[0], "linewidth": 1.2, "linestyle": (0, (1, 1.5))}
    axes.plot(*_curve(one, one.budget.requests_of, first), **style)
    return [_key("admitted together", **style)]


def _curve(one: Combination, count: Callable[[int], int], first: int) -> Curve:
    """Whole lengths, evenly spaced on a logarithmic axis up to the longest, and the counts."""
    longest = one.longest_tokens
    first = min(first, longest)
    steps = {round(first * (longest / first) ** (i / POINTS)) for i in range(POINTS + 1)}
    tokens = sorted(steps)
    return tokens, [count(length) for length in tokens]


def _first(drawn: Sequence[Combination]) -> int:
    """Where the lines begin: at least four octaves before the longest ends."""
    longest = max(one.max_model_len for one in drawn)
    return max(1, min(SHORTEST_TOKENS, longest // 16))


def _span(drawn: Sequence[Combination]) -> tuple[float, float]:
    longest = max(one.max_model_len for one in drawn)
    asked = [answer.demand.tokens for one in drawn for answer in one.answers]
    return min([_first(drawn), *asked]) / 1.15, max([longest, *asked]) * 1.25


def _ticks(drawn: Sequence[Combination]) -> list[int]:
    """Powers of 2, or of 4, 8 ..., so that their labels have room."""
    low, high = _span(drawn)
    exponents = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    return [2**e for e in exponents[:: -(-len(exponents) // MOST_TICKS)]]


def _scales(axes: Axes, drawn: Sequence[Combination]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(*_span(drawn))
    axes.set_ylim(bottom=0.8)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(drawn)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("tokens of a request, prompt and output")
    axes.set_ylabel("requests at once")


def _limits(axes: Axes, drawn: Sequence[Combination]) -> None:
    """Dashed: max_num_seqs; dotted, where all have the same: the length that is allowed."""
    note: dict[str, Any] = {"textcoords": "offset points", "color": QUIET, "size": FONT_PT - 2}
    for seats in sorted({one.budget.max_num_seqs for one in drawn if one.budget}):
        axes.axhline(seats, color=QUIET, linewidth=1, linestyle=(0, (5, 3)))
        axes.annotate(
            f"max_num_seqs {words.count(seats)}",
            (0.985, seats),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            ha="right",
            path_effects=_HALO,
            **note,
        )
    lengths = {(one.max_model_len, one.length_source) for one in drawn}
    if len(lengths) > 1:
        return
    ((length, source),) = lengths
    axes.axvline(length, color=QUIET, linewidth=1, linestyle=(0, (1, 2)))
    name = "max_model_len" if source == "max_model_len" else "the model's length"
    axes.annotate(
        f"{name} {words.count(length)}",
        (length, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        ha="right",
        **note,
    )


def _demands(axes: Axes, drawn: Sequence[Combination]) -> list[Line2D]:
    """A cross per demand: a combination holds it where its line does not pass below."""
    demands = dict.fromkeys(answer.demand for one in drawn for answer in one.answers)
    style = {"marker": "+", "markersize": 11, "markeredgewidth": 2, "color": INK}
    for demand in demands:
        point = (demand.tokens, demand.num_requests)
        axes.plot(*point, zorder=5, linestyle="none", **style)  # type: ignore[arg-type]
        axes.annotate(
            str(demand),
            point,
            xytext=(7, 6),
            textcoords="offset points",
            size=FONT_PT - 1.5,
            color=INK,
            path_effects=_HALO,
        )
    return [_key("asked for", **style)] if demands else []
