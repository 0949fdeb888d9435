"""Preemption by swap or by recompute: what each costs for one request, and where they cross.

    swap        out and in again, ceil(tokens / block_size) blocks each way (``calibration.moves``)
    recompute   alone      the steps that prefill all its tokens, nothing else running
                in batch   what those chunks add to the steps of a decode batch, which run anyway

Recompute does not depend on the block size; a swap has a cost per transfer, and so is dear in small
blocks. In a batch the first tokens are nearly free: the step reads the weights in any case. Chunks
are of ``max_num_batched_tokens`` at most, less one token for each decode. The batch is taken as it
stands: its contexts do not grow meanwhile.

Swaps are counted as if nothing hid them. Source of the comparison: PagedAttention paper, section
7.3, Fig. 19.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from ..calibration.moves import BlockMoves
from ..calibration.step_cost import NS_PER_S, Batch, StepCost
from .summary import plain

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHORTEST = 16
"""Tokens: where the curve against the length begins."""
STEPS_PER_DOUBLING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PreemptionCost:
    """One preempted request of so many tokens, in blocks of one size."""

    block_size: int
    tokens: int
    swap_out_s: float
    swap_in_s: float
    recompute_alone_s: float
    recompute_in_batch_s: float | None
    """None without a decode batch."""
    swap_low_s: float
    """Least and most of a swap, by the bands of its source."""
    swap_high_s: float

    @property
    def swap_s(self) -> float:
        """There and back."""
        return self.swap_out_s + self.swap_in_s

    @property
    def recompute_s(self) -> float:
        """In the batch where there is one, else alone."""
        in_batch = self.recompute_in_batch_s
        return self.recompute_alone_s if in_batch is None else in_batch

    @property
    def cheaper(self) -> str:
        """``swap`` or ``recompute``; recompute where both cost the same."""
        return "swap" if self.swap_s < self.recompute_s else "recompute"

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        shown = asdict(self) | {"swap_s": self.swap_s, "cheaper": self.cheaper}
        return {name: plain(value) for name, value in shown.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossover:
    """Both costs against the block size at one length, and against the length in one block size."""

    block_size: int
    tokens: int
    batch: Batch
    """Decodes beside which a request is recomputed; empty for none."""
    by_block_size: tuple[PreemptionCost, ...]
    by_length: tuple[PreemptionCost, ...]
    crossings: tuple[tuple[int, int | None], ...]
    """Block size -> tokens from which on a swap is cheaper; None where it never is."""
    cost: StepCost
    moves: BlockMoves

    @property
    def chosen(self) -> PreemptionCost:
        """At the server's block size and the length asked for."""
        return next(one for one in self.by_block_size if one.block_size == self.block_size)

    @property
    def swaps_from_block_size(self) -> int | None:
        """The least block size in which a swap is cheaper at this length; None where none is."""
        found = (one.block_size for one in self.by_block_size if one.cheaper == "swap")
        return next(found, None)

    @property
    def swaps_from_tokens(self) -> int | None:
        """Tokens from which on a swap is cheaper in the server's blocks."""
        return dict(self.crossings)[self.block_size]

    def to_json(self) -> dict[str, object]:
        """Plain values, with the sources of both sides."""
        band = self.cost.band
        return {
            "block_size": self.block_size,
            "tokens": self.tokens,
            "batch": {
                "num_decodes": self.batch.num_decodes,
                "decode_context_tokens": self.batch.decode_context_tokens,
            },
            "by_block_size": [one.to_json() for one in self.by_block_size],
            "by_length": [one.to_json() for one in self.by_length],
            "swap_is_cheaper_from_tokens": {str(size): at for size, at in self.crossings},
            "recompute_source": self.cost.origin,
            "recompute_band": {"low": band.low, "high": band.high, "source": band.source},
            "swap": plain(self.moves.describe()),
        }


def crossover(
    *,
    cost: StepCost,
    moves: BlockMoves,
    block_size: int,
    tokens: int,
    longest_tokens: int,
    max_num_batched_tokens: int,
    batch: Batch | None = None,
    sizes: Iterable[int] = SIZES,
) -> Crossover:
    """Both costs of preempting one request.

    Args:
        cost: of the steps that recompute.
        moves: of the swap; of blocks of ``block_size`` tokens.
        block_size: of the server.
        tokens: of the request, for the curve against the block size.
        longest_tokens: where the curve against the length ends.
        max_num_batched_tokens: most tokens of a step.
        batch: decodes that run meanwhile; None for none.
        sizes: block sizes of the curve; the server's own joins them.

    Raises:
        ValueError: a size or a length that is not positive, a batch that prefills or that leaves
            a step no token.
    """
    beside = batch or Batch()
    for name, value in (
        ("block_size", block_size),
        ("tokens", tokens),
        ("longest_tokens", longest_tokens),
        ("max_num_batched_tokens", max_num_batched_tokens),
    ):
        if value < 1:
            raise ValueError(f"{name}(={value}) must be > 0.")
    if beside.chunks:
        raise ValueError(f"batch(={beside.chunks}) must only decode.")
    if beside.num_decodes >= max_num_batched_tokens:
        raise ValueError(
            f"max_num_batched_tokens(={max_num_batched_tokens}) leaves no token to prefill beside "
            f"{beside.num_decodes} decodes."
        )
    recompute = _Recompute(cost, beside, max_num_batched_tokens)

    def at(size: int, length: int) -> PreemptionCost:
        return _cost(recompute, _in_blocks_of(moves, block_size, size), size, length)

    longest = max(longest_tokens, tokens)
    wanted = tuple(sorted({*sizes, block_size}))
    return Crossover(
        block_size=block_size,
        tokens=tokens,
        batch=beside,
        by_block_size=tuple(at(size, tokens) for size in wanted),
        by_length=tuple(at(block_size, length) for length in _lengths(longest, tokens)),
        crossings=tuple((size, _crossing(at, size, longest, tokens)) for size in wanted),
        cost=cost,
        moves=moves,
    )


class Prefill:
    """What the chunks of a prompt add to steps of one batch, by the prompt's length."""

    def __init__(self, cost: StepCost, batch: Batch, budget: int) -> None:
        self._cost, self._batch = cost, batch
        self._room = max(1, budget - batch.num_decodes)
        self._without_ns = cost.step_ns(batch) if batch.num_decodes else 0.0
        self._whole_ns = [0.0]
        """Sums over the first chunks, all of them full: the same for every length."""

    def seconds(self, tokens: int) -> float:
        """Of so many tokens."""
        full, rest = divmod(tokens, self._room)
        while len(self._whole_ns) <= full:
            past = (len(self._whole_ns) - 1) * self._room
            self._whole_ns.append(self._whole_ns[-1] + self._chunk_ns(self._room, past))
        last = self._chunk_ns(rest, full * self._room) if rest else 0.0
        return (self._whole_ns[full] + last) / NS_PER_S

    def _chunk_ns(self, new: int, past: int) -> float:
        return self._cost.step_ns(self._batch._replace(chunks=((new, past),))) - self._without_ns


class _Recompute:
    """Seconds of a prefill alone and in a batch, each length asked for once."""

    def __init__(self, cost: StepCost, batch: Batch, budget: int) -> None:
        self._alone = Prefill(cost, Batch(), budget)
        self._beside = Prefill(cost, batch, budget) if batch.num_decodes else None
        self._known: dict[int, tuple[float, float | None]] = {}

    def seconds(self, tokens: int) -> tuple[float, float | None]:
        """Alone, and in the batch."""
        if tokens not in self._known:
            beside = None if self._beside is None else self._beside.seconds(tokens)
            self._known[tokens] = (self._alone.seconds(tokens), beside)
        return self._known[tokens]


def _cost(recompute: _Recompute, moves: BlockMoves, size: int, tokens: int) -> PreemptionCost:
    blocks = -(-tokens // size)
    alone, in_batch = recompute.seconds(tokens)
    band, swap_s = moves.swap_band(blocks), moves.swap_out_and_in_ns(blocks) / NS_PER_S
    return PreemptionCost(
        block_size=size,
        tokens=tokens,
        swap_out_s=moves.swap_ns(blocks) / NS_PER_S,
        swap_in_s=moves.swap_ns(blocks, inward=True) / NS_PER_S,
        recompute_alone_s=alone,
        recompute_in_batch_s=in_batch,
        swap_low_s=band.low * swap_s,
        swap_high_s=band.high * swap_s,
    )


def _in_blocks_of(moves: BlockMoves, block_size: int, other: int) -> BlockMoves:
    """The same cache cut otherwise: as many tensors, longer or shorter parts of them."""
    return replace(moves, block_bytes=-(-moves.block_bytes * other // block_size))


def _lengths(longest: int, asked: int) -> list[int]:
    """In equal steps of the logarithm, to the longest."""
    found, length = {longest, asked, min(SHORTEST, longest)}, float(SHORTEST)
    while length < longest:
        found.add(round(length))
        length *= 2 ** (1 / STEPS_PER_DOUBLING)
    return sorted(found)


def _crossing(
    at: Callable[[int, int], PreemptionCost], size: int, longest: int, asked: int
) -> int | None:
    """Tokens from which on a swap stays cheaper, up to the longest.

    A swap rises by the block, so that the two may change places more than once: the last time
    counts. Looked at are the lengths of the curve, and with each the first one of its last block,
    where a swap is dearest for what it holds.
    """
    lengths = {1, *_lengths(longest, asked)}
    looked_at = sorted(lengths | {(n - 1) // size * size + 1 for n in lengths})
    dear = [n for n in looked_at if at(size, n).cheaper == "recompute"]
    if not dear:
        return 1
    low = dear[-1]
    if low == longest:
        return None
    high = next(n for n in looked_at if n > low)
    while high - low > 1:
        middle = (low + high) // 2
        if at(size, middle).cheaper == "recompute":
            low = middle
        else:
            high = middle
    return high
