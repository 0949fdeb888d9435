"""The table of the block sizes: tails, kernel, prefixes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import words
from .sheet import Sheet

if TYPE_CHECKING:
    from ..sim.block_sizes import BlockSizes

NOT_MEASURED = "not measured on this card"
NOT_SHARED = "no prompts of this trace begin alike"


def block_size_sheet(found: BlockSizes) -> Sheet:
    """A row per size; the chosen one is marked."""
    return Sheet(
        title="The block size in three terms",
        columns=(
            "block size",
            "empty, of held slots",
            "never filled, of held slots",
            "empty, of the pool",
            "decode attention over blocks of 16",
            "prompt tokens found, unlimited cache",
        ),
        rows=tuple(
            (
                f"{one.block_size}{' (chosen)' * (one.block_size == found.chosen)}",
                words.share(one.tail_share),
                words.share(one.never_filled_share),
                words.share(one.tail_pool_share),
                shown(one.decode_slowdown, words.times),
                shown(one.prefix_hit_ratio, words.share),
            )
            for one in found.sizes
        ),
    )


def shown(value: float | None, text: Callable[[float], str]) -> str:
    """A value in words, ``-`` where there is none."""
    return words.NONE if value is None else text(value)
