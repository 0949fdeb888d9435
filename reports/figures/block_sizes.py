"""The block-size trade-off: three panels over the same sizes, each a term of its own.

Where block sizes were compared at an objective, a fourth has the rates that they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from ...sim.block_sizes import BlockSize, BlockSizes
from ...sim.plan import Plan
from .. import words
from ..block_size_sheets import NOT_MEASURED, NOT_SHARED, block_size_sheet
from ..decision_sheets import rates_by_block_size
from ..picture import Picture
from ..style import CATEGORY_COLOURS, FONT_PT, GRID, INK, QUIET, new_figure, quiet

_CROWDED = 0.5
"""Octaves between two sizes below which only one is named on the axis."""

_RATES = (
    " Last: the highest request rate that keeps the objective, of one replica, simulated in each "
    "size that was compared: all terms together."
)
_EMPTY = 0.3
"""Height of a panel without a line."""


def block_sizes(plan: Plan) -> Picture | None:
    """Tail waste, kernel time, prefix hits; None where the plan has no block sizes."""
    found: BlockSizes | None = getattr(plan, "block_sizes", None)
    if found is None:
        return None
    rates = {} if plan.decision is None else rates_by_block_size(plan.decision)
    heights = [1.0, 1.0 if found.kernel else _EMPTY, 1.0 if _shares(found) else _EMPTY]
    heights += [1.0] if rates else []
    figure = new_figure(0.8 + 1.6 * sum(heights))
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    tails = [one.tail_share for one in found.sizes]
    _panel(panels[0], found, tails, "empty slots in last blocks, % of those held", words.share)
    slow = [one.decode_slowdown for one in found.sizes]
    _panel(panels[1], found, slow, "decode attention, time over blocks of 16", words.times)
    hits = [one.prefix_hit_ratio for one in found.sizes]
    _panel(panels[2], found, hits, "prompt tokens found, unlimited cache, %", words.share)
    for axes in (panels[0], panels[2]):
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=""))
    _instead(panels[1], NOT_MEASURED, is_so=found.kernel is None)
    _instead(panels[2], NOT_SHARED, is_so=not _shares(found))
    _unresolved(panels[2], found)
    if rates:
        held = [rates.get(one.block_size) for one in found.sizes]
        _panel(panels[3], found, held, "held within the objective, requests/s", words.number)
    _size_axis(panels[-1], found)
    return Picture(
        name="block-sizes",
        title="What the block size costs",
        caption=_caption(found) + _RATES * bool(rates),
        alt=_alt(found, rates),
        figure=figure,
        sheet=block_size_sheet(found),
    )


def _panel(
    axes: Axes,
    found: BlockSizes,
    values: Sequence[float | None],
    title: str,
    text: Callable[[float], str],
) -> None:
    """A mark for each size that has a value, the chosen one filled and named."""
    points = [
        (one.block_size, value)
        for one, value in zip(found.sizes, values, strict=True)
        if value is not None
    ]
    quiet(axes, grid="both")
    axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)
    if not points:
        return
    axes.axvline(found.chosen, color=QUIET, lw=1.0, linestyle=(0, (4, 3)), zorder=1)
    colour = CATEGORY_COLOURS["token_states"]
    sizes, shown = zip(*points, strict=True)
    axes.plot(sizes, shown, color=colour, lw=1.6, zorder=2)
    for size, value in points:
        face = colour if size == found.chosen else "none"
        axes.plot([size], [value], "o", markersize=7, color=colour, mfc=face, clip_on=False)
        if size in (found.chosen, max(sizes)):
            align = "right" if size == max(sizes) else "left"
            axes.annotate(
                text(value),
                (size, value),
                xytext=(0 if align == "right" else 5, 8),
                textcoords="offset points",
                ha=align,
                color=INK,
                size=FONT_PT - 1.5,
                zorder=4,
            )
    axes.set_ylim(0, max(*shown, 1e-9) * 1.38)


def _instead(axes: Axes, why: str, *, is_so: bool) -> None:
    """Words where there is nothing to draw."""
    if not is_so:
        return
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.annotate(
        why,
        (0.5, 0.5),
        xycoords="axes fraction",
        ha="center",
        va="center",
        color=QUIET,
        size=FONT_PT,
    )


def _unresolved(axes: Axes, found: BlockSizes) -> None:
    """Grey out sizes finer than the trace's ids."""
    resolution = found.prefix_resolution_tokens
    if resolution is None or resolution <= found.sizes[0].block_size:
        return
    last = min(resolution, found.sizes[-1].block_size * 1.4)
    axes.axvspan(found.sizes[0].block_size / 1.4, last, color=GRID, alpha=0.45, lw=0, zorder=0)


def _shares(found: BlockSizes) -> bool:
    return found.prefix_resolution_tokens is not None


def _size_axis(axes: Axes, found: BlockSizes) -> None:
    sizes = [one.block_size for one in found.sizes]
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)
    named = [found.chosen]
    for size in sizes:
        if all(max(size, other) / min(size, other) > 2**_CROWDED for other in named):
            named.append(size)
    axes.xaxis.set_major_locator(FixedLocator(sorted(named)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
    axes.set_xlabel("block size, tokens (dashed: the chosen one)")


def _caption(found: BlockSizes) -> str:
    """How to read it, and where each term ends."""
    text = (
        "The same server in blocks of other sizes. Top: the larger the block, the more slots of "
        "each request's last block are empty at any time, from the trace's lengths. Middle: "
    )
    if found.kernel is None:
        text += (
            "small blocks may slow the attention kernel down; how much was not measured on this "
            "card, so nothing is shown. "
        )
    else:
        text += (
            "the measured decode kernel in other blocks, below 1 is faster "
            f"({found.kernel.source}; {words.count(found.kernel.batch)} sequences of "
            f"{words.count(found.kernel.context_tokens)} tokens). "
        )
    return text + "Bottom: " + _prefix_words(found)


def _prefix_words(found: BlockSizes) -> str:
    resolution = found.prefix_resolution_tokens
    if resolution is None:
        return "only full blocks can be shared, but this trace says of no prompts that they do."
    text = "only full blocks of a common beginning can be found again, so small blocks find more."
    if resolution > 1:
        text += (
            f" The trace's ids name blocks of {words.count(resolution)} tokens: what smaller ones "
            "(grey ground) would find beyond that is not known."
        )
    if found.caching == "radix":
        text += " The radix cache finds single tokens, whatever the block."
    return text


def _alt(found: BlockSizes, rates: Mapping[int, float]) -> str:
    def named(one: BlockSize) -> str:
        text = f"{one.block_size}: {words.share(one.tail_share)} empty"
        if one.decode_slowdown is not None:
            text += f", decode {words.times(one.decode_slowdown)}"
        if one.prefix_hit_ratio is not None:
            text += f", prefixes {words.share(one.prefix_hit_ratio)}"
        if one.block_size in rates:
            text += f", holds {words.number(rates[one.block_size])} requests/s"
        return text

    return (
        f"By block size, {found.chosen} chosen: "
        + "; ".join(named(one) for one in found.sizes)
        + ("" if found.kernel else f"; the kernel is {NOT_MEASURED}")
        + "."
    )
