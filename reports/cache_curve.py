"""The prefix-cache curve of a trace: a sheet for the terminal, a picture for a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..traces.cache_curve import CacheCurve
from . import words
from .sheet import Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = (1_000, 3_000, 10_000, 30_000, 50_000, 100_000)
"""Blocks, where none are asked for: those of the Mooncake paper."""
_MOST_STEPS = 400

CONVENTIONS = {
    "ceil": "Blocks are counted ceil: a prompt's last, partial block has an id and can hit.",
    "floor": "Blocks are counted floor: only a prompt's full blocks have ids.",
}


def curve_json(curve: CacheCurve, sizes: Sequence[int]) -> dict[str, object]:
    """Ratios at these sizes and without limit, and how blocks are counted."""
    return {
        "block_tokens": curve.block_tokens,
        "block_convention": curve.convention,
        "input_tokens": curve.input_tokens,
        "block_refs": curve.block_refs,
        "unique_blocks": curve.unique_blocks,
        "lru": {str(n): _ratios(curve, n) for n in sizes},
        "infinite": _ratios(curve, None),
    }


def curve_sheet(curve: CacheCurve, sizes: Sequence[int]) -> Sheet:
    """A row per size."""
    rows = [_row(f"{size:,}", size * curve.block_tokens, curve, size) for size in sizes]
    whole = _row("unlimited", curve.unique_blocks * curve.block_tokens, curve, None)
    return Sheet(
        title=f"LRU, blocks of {curve.block_tokens}, {curve.convention}",
        columns=("blocks", "cache tokens", "hit tokens", "hit blocks"),
        rows=(*rows, whole),
        text_columns=(),
    )


def curve_png(curve: CacheCurve, name: str) -> bytes:
    """Hit ratio against cache size, all sizes."""
    from .picture import Picture  # matplotlib, which only the picture needs
    from .render import png
    from .style import fresh, new_figure

    with fresh():
        figure = new_figure(3.2)
        draw_curve(figure.subplots(), curve)
        picture = Picture(
            name="cache-curve",
            title=f"Prefix-cache hits of {name}",
            caption="Hits of an LRU cache against its size; prompts only, no timing.",
            alt=f"Hit ratio up to {words.share(curve.token_ratio(None))}.",
            figure=figure,
            sheet=curve_sheet(curve, SIZES),
        )
        return png(picture)


def draw_curve(axes: Axes, curve: CacheCurve, *, last_blocks: int = 1) -> None:
    """The ratio in percent against the size, a step wherever it changes.

    Args:
        axes: empty ones.
        curve: of a trace.
        last_blocks: the axis goes this far at least.
    """
    from matplotlib.ticker import FuncFormatter  # only the picture needs it

    from .style import MEASURE, QUIET, quiet

    quiet(axes, grid="both")
    sizes, ratios = thinned(curve)
    end = max(last_blocks, sizes[-1])
    axes.plot(
        [*sizes, end], [*ratios, ratios[-1]], drawstyle="steps-post", color=MEASURE, linewidth=2
    )
    axes.set_xscale("log")
    axes.tick_params(which="minor", color=QUIET)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: words.count(x)))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"cache size, blocks of {curve.block_tokens} tokens")
    axes.set_ylabel("input tokens that hit, %")


def thinned(curve: CacheCurve) -> tuple[list[int], list[float]]:
    """Sizes and ratios in percent, at most some hundred, evenly over the octaves.

    A curve of a long trace changes at a hundred thousand sizes; an axis of 5 inches shows 400.
    """
    sizes = curve.size_blocks
    if len(sizes) > _MOST_STEPS:
        wanted = np.geomspace(sizes[0], sizes[-1], _MOST_STEPS)
        sizes = sizes[np.unique(np.searchsorted(sizes, wanted.round(), side="right") - 1)]
    kept = [1, *sizes.tolist()]
    return kept, [100 * curve.token_ratio(size) for size in kept]


def _ratios(curve: CacheCurve, size: int | None) -> dict[str, float]:
    return {
        "token_ratio": round(curve.token_ratio(size), 6),
        "block_ratio": round(curve.block_ratio(size), 6),
    }


def _row(title: str, tokens: int, curve: CacheCurve, size: int | None) -> tuple[str, ...]:
    ratios = (curve.token_ratio(size), curve.block_ratio(size))
    return (title, words.count(tokens), *(words.share(ratio) for ratio in ratios))
