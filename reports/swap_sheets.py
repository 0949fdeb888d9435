"""Swap against recompute in words and tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import words
from .sheet import Sheet

if TYPE_CHECKING:
    from ..calibration.step_cost import Band
    from ..sim.crossover import Crossover, PreemptionCost

COSTS = ("swap out", "swap in", "swap in all", "recompute in the batch", "recompute alone")
NEVER = "never"


def size_sheet(found: Crossover) -> Sheet:
    """A row per block size, at one length; the server's size is marked."""
    crossings = dict(found.crossings)
    rows = (
        (
            f"{one.block_size}{' (chosen)' * (one.block_size == found.block_size)}",
            *_times(one),
            one.cheaper,
            from_words(crossings[one.block_size]),
        )
        for one in found.by_block_size
    )
    return Sheet(
        title=f"Preempting a request of {words.tokens(found.tokens)}, by block size",
        columns=("block size", *COSTS, "cheaper", "swap is cheaper from"),
        rows=tuple(rows),
        text_columns=(0, 6, 7),
    )


def length_sheet(found: Crossover) -> Sheet:
    """A row per doubling of the length and one for the length asked for, in the server's blocks."""
    return Sheet(
        title=f"Preempting in blocks of {found.block_size}, by length",
        columns=("tokens", *COSTS, "cheaper"),
        rows=tuple(
            (words.count(one.tokens), *_times(one), one.cheaper) for one in _doublings(found)
        ),
        text_columns=(6,),
    )


def _doublings(found: Crossover) -> Iterable[PreemptionCost]:
    asked, last = found.tokens, found.by_length[-1].tokens
    for one in found.by_length:
        if one.tokens in (asked, last) or one.tokens & (one.tokens - 1) == 0:
            yield one


def _times(one: PreemptionCost) -> tuple[str, ...]:
    in_batch = one.recompute_in_batch_s
    return (
        words.seconds(one.swap_out_s),
        words.seconds(one.swap_in_s),
        words.seconds(one.swap_s),
        words.NONE if in_batch is None else words.seconds(in_batch),
        words.seconds(one.recompute_alone_s),
    )


def from_words(tokens: int | None) -> str:
    """``417 tokens``; ``never`` up to the longest request."""
    return NEVER if tokens is None else words.tokens(tokens)


def batch_words(found: Crossover) -> str:
    """``beside 32 decodes of 512 tokens``, or ``alone``."""
    batch = found.batch
    if not batch.num_decodes:
        return "alone"
    mean = batch.decode_context_tokens / batch.num_decodes
    plural = "s" * (batch.num_decodes > 1)
    return f"beside {words.count(batch.num_decodes)} decode{plural} of {words.count(mean)} tokens"


def conclusions(found: Crossover) -> tuple[str, ...]:
    """Which is cheaper, in the server's blocks and by the block size."""
    one, size = found.chosen, found.swaps_from_block_size
    ratio = words.times(max(one.swap_s, one.recompute_s) / min(one.swap_s, one.recompute_s))
    dearer = "swap" if one.cheaper == "recompute" else "recompute"
    by_size = (
        "in no block size up to 256 is a swap cheaper"
        if size is None
        else f"a swap is cheaper from blocks of {size} on"
    )
    tokens = found.swaps_from_tokens
    longest = found.by_length[-1].tokens
    by_length = (
        f"up to {words.tokens(longest)} recompute is cheaper, or is again"
        if tokens is None
        else f"a swap is cheaper from {words.tokens(tokens)} on"
    )
    return (
        f"{words.tokens(found.tokens)} in blocks of {found.block_size}: {one.cheaper} is cheaper "
        f"({words.seconds(one.swap_s)} swap, {words.seconds(one.recompute_s)} recompute "
        f"{batch_words(found)}); {dearer} takes {ratio}.",
        f"At that length {by_size}; in blocks of {found.block_size} {by_length}.",
    )


def sources(found: Crossover) -> tuple[str, ...]:
    """Where both sides come from, with their bands."""
    moves, cost = found.moves, found.cost
    band = moves.swap_band(-(-found.tokens // found.block_size))
    why = f", because {moves.why}" if moves.why else ""
    segments = words.count(moves.segments_per_block)
    gathered = "blocks gathered by a kernel into one transfer"
    apart = f"{segments} transfers for a block of {found.block_size} tokens"
    way = moves.swapping_out
    return (
        f"Swap: {moves.source}{why}; {apart if moves.segments_per_block else gathered}, "
        f"{words.size(moves.block_bytes)} a block; {words.seconds(way.segment_ns / 1e9)} for each "
        f"transfer and {words.number(way.bytes_per_s / 1e9)} GB/s; {_band(band)}.",
        f"Recompute: {cost.origin}; {_band(cost.band)}.",
    )


def _band(band: Band) -> str:
    return f"expected within {band.low:.2f}-{band.high:.2f} of the figure ({band.source})"
