"""Who works on what, planned on the device: once a step, for all layers.

The host does not know the lengths when it launches a captured graph, so the plan is a kernel and
the grid is its bound. ``split`` says how a batch of decodes is cut; a batch of chunks is cut into
tiles of ``query_tokens`` queries of one sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .split import MIN_CHUNK_TOKENS

ITEMS_PER_PROGRAM = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodeWork:
    """A planned batch of decodes; int32 tensors on the device."""

    item_seq: torch.Tensor
    """``[target + num_seqs]``: whose keys an item reads; -1 for no item."""
    seq_items: torch.Tensor
    """``[num_seqs]``: items of each sequence."""
    seq_first_item: torch.Tensor
    """``[num_seqs]``."""
    seq_tiles: torch.Tensor
    """``[num_seqs]``: tiles of each item but the last."""
    tile_tokens: int
    sliding_window: int

    @property
    def max_items(self) -> int:
        """The grid: no batch of this size has more."""
        return self.item_seq.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrefillWork:
    """A planned batch of chunks; int32 tensors on the device."""

    tile_seq: torch.Tensor
    """``[num_tokens // query_tokens + num_seqs]``: whose queries; -1 for no tile."""
    tile_first: torch.Tensor
    """First query of the tile, counted from its chunk's first."""
    query_tokens: int
    query_start_loc: torch.Tensor
    """What was planned: ``[num_seqs + 1]``."""

    @property
    def max_tiles(self) -> int:
        """The grid."""
        return self.tile_seq.shape[0]


def plan_decode(
    seq_lens: torch.Tensor,
    *,
    target: int,
    tile_tokens: int,
    min_chunk_tokens: int = MIN_CHUNK_TOKENS,
    sliding_window: int = 0,
) -> DecodeWork:
    """Cut a batch into work items of nearly equal length (``split.split``, on the device).

    Args:
        seq_lens: ``[num_seqs]`` int32, the keys that each sequence attends to.
        target: items to aim at (``split.target_items``).
        tile_tokens: keys that the kernel reads at once.
        min_chunk_tokens: no sequence is cut shorter.
        sliding_window: keys that the newest token sees; 0 for all.
    """
    num_seqs = seq_lens.shape[0]
    items = _ints(target + num_seqs, seq_lens)
    per_seq = [_ints(num_seqs, seq_lens) for _ in range(3)]
    _plan_decode[(triton.cdiv(target + num_seqs, ITEMS_PER_PROGRAM),)](
        items,
        *per_seq,
        seq_lens,
        num_seqs,
        target,
        target + num_seqs,
        TILE=tile_tokens,
        MIN_TILES=max(1, triton.cdiv(min_chunk_tokens, tile_tokens)),
        WINDOW=sliding_window,
        SEQS=triton.next_power_of_2(num_seqs),
        ITEMS=ITEMS_PER_PROGRAM,
    )
    counts, firsts, tiles = per_seq
    return DecodeWork(
        item_seq=items,
        seq_items=counts,
        seq_first_item=firsts,
        seq_tiles=tiles,
        tile_tokens=tile_tokens,
        sliding_window=sliding_window,
    )


def plan_prefill(
    query_start_loc: torch.Tensor, *, query_tokens: int, num_tokens: int
) -> PrefillWork:
    """Cut a batch of chunks into tiles of queries.

    Args:
        query_start_loc: ``[num_seqs + 1]`` int32, where each sequence's queries begin.
        query_tokens: of a tile.
        num_tokens: queries of all sequences, ``query_start_loc[-1]`` or more.
    """
    num_seqs = query_start_loc.shape[0] - 1
    max_tiles = num_tokens // query_tokens + num_seqs
    seqs, firsts = _ints(max_tiles, query_start_loc), _ints(max_tiles, query_start_loc)
    _plan_prefill[(triton.cdiv(max_tiles, ITEMS_PER_PROGRAM),)](
        seqs,
        firsts,
        query_start_loc,
        num_seqs,
        max_tiles,
        QUERIES=query_tokens,
        SEQS=triton.next_power_of_2(num_seqs),
        ITEMS=ITEMS_PER_PROGRAM,
    )
    return PrefillWork(
        tile_seq=seqs,
        tile_first=firsts,
        query_tokens=query_tokens,
        query_start_loc=query_start_loc,
    )


def _ints(size: int, like: torch.Tensor) -> torch.Tensor:
    return torch.empty(size, dtype=torch.int32, device=like.device)


@triton.jit
def _owner(item, ends, counts, SEQS: tl.constexpr):
    """``(owner, its first item)`` of each item, from the running ends of all owners."""
    before = (ends[None, :] <= item[:, None]).to(tl.int32)
    owner = tl.sum(before, 1)
    first = tl.sum(before * counts[None, :], 1)
    return owner, first


@triton.jit
def _plan_decode(
    item_seq,
    seq_items,
    seq_first_item,
    seq_tiles,
    seq_lens,
    num_seqs,
    target,
    max_items,
    TILE: tl.constexpr,
    MIN_TILES: tl.constexpr,
    WINDOW: tl.constexpr,
    SEQS: tl.constexpr,
    ITEMS: tl.constexpr,
):
    seq = tl.arange(0, SEQS)
    length = tl.load(seq_lens + seq, mask=seq < num_seqs, other=0)
    start = tl.zeros_like(length)
    if WINDOW > 0:
        start = tl.maximum(length - WINDOW, 0) // TILE * TILE
    tiles = tl.cdiv(length - start, TILE)
    chunk = tl.maximum(tl.cdiv(tl.sum(tiles), target), MIN_TILES)
    per_item = tl.cdiv(tiles, tl.maximum(tl.cdiv(tiles, chunk), 1))
    items = tl.cdiv(tiles, tl.maximum(per_item, 1))
    ends = tl.cumsum(items)

    item = tl.program_id(0) * ITEMS + tl.arange(0, ITEMS)
    owner, _ = _owner(item, ends, items, SEQS)
    tl.store(item_seq + item, tl.where(owner < num_seqs, owner, -1), mask=item < max_items)
    if tl.program_id(0) == 0:
        tl.store(seq_items + seq, items, mask=seq < num_seqs)
        tl.store(seq_first_item + seq, ends - items, mask=seq < num_seqs)
        tl.store(seq_tiles + seq, per_item, mask=seq < num_seqs)


@triton.jit
def _plan_prefill(
    tile_seq,
    tile_first,
    query_start_loc,
    num_seqs,
    max_tiles,
    QUERIES: tl.constexpr,
    SEQS: tl.constexpr,
    ITEMS: tl.constexpr,
):
    seq = tl.arange(0, SEQS)
    begin = tl.load(query_start_loc + seq, mask=seq < num_seqs, other=0)
    end = tl.load(query_start_loc + seq + 1, mask=seq < num_seqs, other=0)
    tiles = tl.cdiv(end - begin, QUERIES)
    ends = tl.cumsum(tiles)

    tile = tl.program_id(0) * ITEMS + tl.arange(0, ITEMS)
    owner, first = _owner(tile, ends, tiles, SEQS)
    tl.store(tile_seq + tile, tl.where(owner < num_seqs, owner, -1), mask=tile < max_tiles)
    tl.store(tile_first + tile, (tile - first) * QUERIES, mask=tile < max_tiles)
