"""The prefix-cache curve of a trace: a sheet for the terminal, a picture for a file."""

from __future__ import annotations

from collections.abc import Sequence

from ..traces.cache_curve import CacheCurve
from . import words
from .sheet import Sheet

SIZES = (1_000, 3_000, 10_000, 30_000, 50_000, 100_000)
"""Blocks, where none are asked for: those of the Mooncake paper."""


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
    from .style import MEASURE, fresh, new_figure, quiet

    with fresh():
        figure = new_figure(3.2)
        axes = figure.subplots()
        quiet(axes, grid="both")
        sizes = [1, *curve.size_blocks.tolist()]
        ratios = [curve.token_ratio(size) * 100 for size in sizes]
        axes.plot(sizes, ratios, drawstyle="steps-post", color=MEASURE, linewidth=2)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"cache size, blocks of {curve.block_tokens} tokens")
        axes.set_ylabel("input tokens that hit, %")
        picture = Picture(
            name="cache-curve",
            title=f"Prefix-cache hits of {name}",
            caption="Hits of an LRU cache against its size; prompts only, no timing.",
            alt=f"Hit ratio up to {words.share(curve.token_ratio(None))}.",
            figure=figure,
            sheet=curve_sheet(curve, SIZES),
        )
        return png(picture)


def _ratios(curve: CacheCurve, size: int | None) -> dict[str, float]:
    return {
        "token_ratio": round(curve.token_ratio(size), 6),
        "block_ratio": round(curve.block_ratio(size), 6),
    }


def _row(title: str, tokens: int, curve: CacheCurve, size: int | None) -> tuple[str, ...]:
    ratios = (curve.token_ratio(size), curve.block_ratio(size))
    return (title, words.count(tokens), *(words.share(ratio) for ratio in ratios))
