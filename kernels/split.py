"""How a batch of decodes is cut into work items: plain arithmetic, the same as on the device.

A program that reads a whole sequence takes as long as its sequence; a batch waits for the longest.
So the keys of all sequences are cut into ranges of nearly equal length, in tiles of keys:

    tiles_b = ceil((seq_len_b - start_b) / tile)      start_b = first visible key, down to a tile
    chunk   = max(ceil(sum tiles / target_items), min_chunk_tiles)
    per_b   = ceil(tiles_b / ceil(tiles_b / chunk))   tiles of each item of sequence b
    items_b = ceil(tiles_b / per_b)                   0 for an empty sequence

There are at most ``target_items + num_seqs`` items, whatever the lengths are: that bound is the
grid, so that a captured CUDA graph holds for every batch of its size. ``work_list`` computes the
same on the GPU; a test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ITEMS_PER_SLOT = 2
"""Work items for each program that the GPU can hold: two rounds even out what differs."""
MIN_CHUNK_TOKENS = 64
"""No item but a sequence's only one is shorter."""
MERGED_AT_ONCE = 16
"""Items of a sequence whose partial outputs are added up in one round."""


class Split(NamedTuple):
    """One batch, cut."""

    items: tuple[int, ...]
    """Work items of each sequence."""
    tiles_per_item: tuple[int, ...]
    """Tiles of every item of a sequence but its last."""

    @property
    def num_items(self) -> int:
        """Of all sequences; each is done once for every group of heads."""
        return sum(self.items)

    @property
    def longest_tiles(self) -> int:
        """Of one item."""
        return max(self.tiles_per_item, default=0)


def target_items(slots: int, head_groups: int) -> int:
    """Items to aim at, where ``slots`` programs fit the GPU and each item runs ``head_groups``."""
    return max(1, ITEMS_PER_SLOT * slots // head_groups)


def first_key(seq_len: int, sliding_window: int, tile_tokens: int) -> int:
    """First key of the newest token's window, down to a tile; 0 without a window."""
    if not sliding_window:
        return 0
    return max(0, seq_len - sliding_window) // tile_tokens * tile_tokens


def split(
    seq_lens: Sequence[int],
    *,
    target: int,
    tile_tokens: int,
    min_chunk_tokens: int = MIN_CHUNK_TOKENS,
    sliding_window: int = 0,
) -> Split:
    """Cut a batch of decodes; ``seq_lens`` are the keys that each sequence attends to."""
    starts = [first_key(n, sliding_window, tile_tokens) for n in seq_lens]
    tiles = [-(-(n - start) // tile_tokens) for n, start in zip(seq_lens, starts, strict=True)]
    chunk = max(-(-sum(tiles) // target), -(-min_chunk_tokens // tile_tokens), 1)
    per_item = [-(-n // max(1, -(-n // chunk))) for n in tiles]
    items = [-(-n // max(1, per)) for n, per in zip(tiles, per_item, strict=True)]
    return Split(tuple(items), tuple(per_item))
