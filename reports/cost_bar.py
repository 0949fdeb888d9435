"""The bar of a step's time: a piece per term, largest first, coloured by what binds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, MaxNLocator

from . import words
from .style import CATEGORY_COLOURS, FONT_PT, INK, PAPER, QUIET, quiet

if TYPE_CHECKING:
    from ..calibration.costed_step import CostedStep

BOUNDS = {
    "bandwidth": (CATEGORY_COLOURS["token_states"], "o"),
    "compute": (CATEGORY_COLOURS["reserved"], "s"),
    "link": (CATEGORY_COLOURS["external"], "D"),
    "latency": (CATEGORY_COLOURS["cached"], "^"),
    "host": (QUIET, "v"),
}
"""Colour and mark of what binds a term."""
WHITE_ON = ("bandwidth", "latency", "host")
LABEL_PT, ROW_PT = FONT_PT - 2, 13.0
LEAST_NAMED = 0.01
"""Pieces of the bar that are shorter have no name of their own."""

Mark = tuple[str, float, int]
"""Words, where on the bar (points) and in which row below it; row -1 is inside."""


def bar_labels(step: CostedStep, width_pt: float) -> list[Mark]:
    """Each term's name: inside its piece where there is room, else below it, right-aligned.

    A name below goes to the first row in which it meets no earlier name and no leader of a lower
    one.
    """
    made: list[Mark] = []
    below: list[tuple[float, int]] = []
    for text, middle, piece in _pieces(step, width_pt):
        start, row = middle - text_width(text), 0
        if text_width(text) < piece:
            made.append((text, middle, -1))
            continue
        while any(other >= row and x > start - 2 for x, other in below):
            row += 1
        below.append((middle, row))
        made.append((text, middle, row))
    return made


def _pieces(step: CostedStep, width_pt: float) -> Iterator[tuple[str, float, float]]:
    """Words, middle and width in points; what is below ``LEAST_NAMED`` together at the end."""
    shares = [term.ns / 1e9 / step.step_s for term in step.terms]
    named = [share for share in shares if share >= LEAST_NAMED]
    left = 0.0
    for term, share in zip(step.terms, named, strict=False):
        yield f"{term.name} {words.share(share)}", (left + share / 2) * width_pt, share * width_pt
        left += share
    if len(named) < len(shares):
        rest, count = sum(shares[len(named) :]), len(shares) - len(named)
        yield f"{count} smaller {words.share(rest)}", (left + rest / 2) * width_pt, rest * width_pt


def draw_bar(axes: Axes, step: CostedStep, marks: Sequence[Mark], width_pt: float) -> None:
    """The terms one after another, milliseconds above, names below."""
    rows = 1 + max(row for _, _, row in marks)
    quiet(axes, grid="x")
    axes.grid(visible=False)
    left = 0.0
    for term in step.terms:
        ms, (colour, _) = term.ns / 1e6, BOUNDS[term.bound]
        axes.barh(0, ms, left=left, height=1.0, color=colour, edgecolor=PAPER, linewidth=0.8)
        left += ms
    for number, (text, middle, row) in enumerate(marks):
        bound = step.terms[number].bound
        _name_piece(axes, text, bound, middle / width_pt * left, row, gap=0.006 * left)
    axes.set_xlim(0, left)
    axes.set_ylim(-0.6 - 0.62 * rows, 0.6)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.spines["bottom"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: words.tick_s(ms / 1e3)))
    axes.tick_params(labelsize=LABEL_PT)


def _name_piece(axes: Axes, text: str, bound: str, middle: float, row: int, *, gap: float) -> None:
    style: dict[str, Any] = {"size": LABEL_PT, "va": "center"}
    if row < 0:
        colour = PAPER if bound in WHITE_ON else INK
        axes.text(middle, 0, text, ha="center", color=colour, **style)
        return
    y = -0.9 - 0.62 * row
    axes.plot([middle, middle], [-0.5, y - 0.2], color=QUIET, linewidth=0.6)
    axes.text(middle - gap, y, text, ha="right", color=INK, **style)


def text_width(text: str) -> float:
    """In points."""
    return float(TextPath((0, 0), text, size=LABEL_PT).get_extents().width) + 3
