"""Swap against recompute as a figure: by block size above, by length below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from . import swap_sheets, words
from .picture import Picture
from .style import CATEGORY_COLOURS, FONT_PT, INK, QUIET, legend, new_figure, quiet

if TYPE_CHECKING:
    from ..sim.crossover import Crossover, PreemptionCost

SWAP, RECOMPUTE = CATEGORY_COLOURS["token_states"], CATEGORY_COLOURS["internal"]
ALONE = (0, (4, 2))
GROUND = 0.16
FEW_DECADES = 100
"""High over low below which 2 and 5 are named as well."""
MOST_NAMED = 7
"""Lengths along the axis."""


def swap_picture(found: Crossover) -> Picture:
    """Two panels; the dashed uprights are the length and the block size of the other panel."""
    figure = new_figure(5.6)
    by_size, by_length = figure.subplots(2, 1)
    sizes = [one.block_size for one in found.by_block_size]
    _panel(by_size, found, sizes, found.by_block_size)
    by_size.axvline(found.block_size, color=QUIET, lw=1.0, linestyle=(0, (4, 3)), zorder=1)
    _title(by_size, f"a request of {words.tokens(found.tokens)}")
    _axis(by_size, sizes, "block size, tokens (dashed: the server's)")
    lengths = [one.tokens for one in found.by_length]
    _panel(by_length, found, lengths, found.by_length)
    by_length.axvline(found.tokens, color=QUIET, lw=1.0, linestyle=(0, (4, 3)), zorder=1)
    _title(by_length, f"blocks of {words.tokens(found.block_size)}")
    _axis(by_length, _named(lengths), "length of the request, tokens (dashed: as above)")
    legend(figure, list(_handles(found)), columns=1, handle_length=2.0)
    return Picture(
        name="swap-crossover",
        title="Preemption: swap against recompute",
        caption=_caption(found),
        alt=" ".join(swap_sheets.conclusions(found)),
        figure=figure,
        sheet=swap_sheets.size_sheet(found),
    )


def _panel(
    axes: Axes, found: Crossover, at: Sequence[int], costs: Sequence[PreemptionCost]
) -> None:
    """Both costs on a common axis, each on the ground of its band."""
    quiet(axes, grid="both")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    swaps = [one.swap_s for one in costs]
    again = [one.recompute_s for one in costs]
    ends = [one.swap_low_s for one in costs], [one.swap_high_s for one in costs]
    axes.fill_between(at, *ends, color=SWAP, alpha=GROUND, lw=0, zorder=1)
    band = found.cost.band
    ends = [band.low * value for value in again], [band.high * value for value in again]
    axes.fill_between(at, *ends, color=RECOMPUTE, alpha=GROUND, lw=0, zorder=1)
    if found.batch.num_decodes:
        alone = [one.recompute_alone_s for one in costs]
        axes.plot(at, alone, color=RECOMPUTE, lw=1.3, linestyle=ALONE, zorder=2)
    axes.plot(at, again, color=RECOMPUTE, lw=1.8, zorder=3)
    axes.plot(at, swaps, color=SWAP, lw=1.8, zorder=3)
    here = next(
        (x, one)
        for x, one in zip(at, costs, strict=True)
        if (one.block_size, one.tokens) == (found.block_size, found.tokens)
    )
    for value, colour in ((here[1].swap_s, SWAP), (here[1].recompute_s, RECOMPUTE)):
        axes.plot([here[0]], [value], "o", color=colour, markersize=5, zorder=4)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)


def _named(lengths: Sequence[int]) -> list[int]:
    """Powers of two, every second or third where there are many; else the ends."""
    powers = [n for n in lengths if n & (n - 1) == 0]
    if len(powers) < 2:
        return sorted({lengths[0], lengths[-1]})
    return powers[:: -(-len(powers) // MOST_NAMED)]


def _axis(axes: Axes, named: Sequence[int], label: str) -> None:
    axes.xaxis.set_major_locator(FixedLocator(list(named)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: words.count(x)))
    axes.set_xlabel(label)
    low, high = axes.get_ylim()
    subs = (1.0, 2.0, 5.0) if high < FEW_DECADES * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: words.tick_s(y)))


def _handles(found: Crossover) -> list[Line2D | Patch]:
    beside = swap_sheets.batch_words(found)
    lines = [Line2D([], [], color=SWAP, lw=1.8, label="swap, out and in again")]
    lines.append(Line2D([], [], color=RECOMPUTE, lw=1.8, label=f"recompute {beside}"))
    if found.batch.num_decodes:
        alone = "recompute alone"
        lines.append(Line2D([], [], color=RECOMPUTE, lw=1.3, linestyle=ALONE, label=alone))
    return [*lines, Patch(color=QUIET, alpha=GROUND, lw=0, label="error band of each source")]


def _caption(found: Crossover) -> str:
    """How to read it, what it shows, where it comes from."""
    text = (
        "What it costs to take a running request's memory away and to bring it back: its blocks go "
        "to host memory and return over PCIe, or its tokens are computed again. Swaps are counted "
        "as if nothing else ran meanwhile; "
    )
    if found.batch.num_decodes:
        text += "recompute by what it adds to the steps of a batch that runs in any case. "
    else:
        text += "recompute by the steps that it takes alone. "
    said = (*swap_sheets.conclusions(found), *swap_sheets.sources(found))
    return text + " ".join(said)
