"""What another block size costs the decode kernel, from a profile that measured it.

    slowdown(B) = sum over kinds of layers of count * decode_s(fit of B)
                  / the same in blocks of 16

A profile fits the kernel in each block size by itself. They are compared over one batch: the one
asked for, moved as little as it takes to lie in what every one of the fits has seen. Nothing is
derived: a size that was not measured has no figure, nor has a card without a profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..engine_defaults import BLOCK_SIZE
from ..operator_cost import OperatorCost
from ..step_cost import StepCost
from . import forms
from .attention import FittedDecode
from .uneven import typical_lengths
from .values import DecodeFit


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdowns:
    """Times of decode attention relative to blocks of 16, over one batch."""

    batch: int
    context_tokens: int
    """Of each sequence, on average."""
    times: dict[int, float]
    """By block size, those that were measured, smallest first."""
    source: str
    """The profile."""


def decode_slowdowns(cost: StepCost, *, batch: int, context_tokens: int) -> Slowdowns | None:
    """By block size; None where the clock is no measured profile of several sizes, 16 among them.

    Args:
        cost: a server's clock.
        batch: sequences that decode.
        context_tokens: of each, on average.
    """
    whole = getattr(cost, "whole", cost)  # of a pipeline
    if not isinstance(whole, OperatorCost) or whole.source != "measured":
        return None
    kinds = whole.operators.attention
    layers = [(kind.count, kind.decode) for kind in kinds if isinstance(kind.decode, FittedDecode)]
    if not layers or len(layers) < len(kinds):
        return None
    sizes = _comparable([decode.by_block_size for _, decode in layers])
    if len(sizes) < 2:
        return None
    fits = [fit for _, decode in layers for fit in decode.by_block_size]
    fits = [fit for fit in fits if fit.key.block_size in sizes]
    batch = _within(batch, fits, "batch")
    context_tokens = _within(context_tokens, fits, "context_tokens")
    lengths = typical_lengths(batch, context_tokens)

    def seconds(size: int) -> float:
        return sum(
            count * forms.decode_s(_of(size, decode), lengths, sliding_window=decode.window)
            for count, decode in layers
        )

    base = seconds(BLOCK_SIZE)
    return Slowdowns(
        batch=batch,
        context_tokens=context_tokens,
        times={size: seconds(size) / base for size in sizes},
        source=whole.taken_from,
    )


def _of(size: int, decode: FittedDecode) -> DecodeFit:
    return next(fit for fit in decode.by_block_size if fit.key.block_size == size)


def _comparable(kinds: Sequence[Sequence[DecodeFit]]) -> list[int]:
    """Sizes in which every kind was measured, over batches like those in blocks of 16."""
    found: set[int] | None = None
    for fits in kinds:
        base = next((fit for fit in fits if fit.key.block_size == BLOCK_SIZE), None)
        if base is None:
            return []
        own = {fit.key.block_size for fit in fits if _overlap(fit, base)}
        found = own if found is None else found & own
    return sorted(found or ())


def _overlap(one: DecodeFit, other: DecodeFit) -> bool:
    return all(_ends([one, other], name) is not None for name in ("batch", "context_tokens"))


def _ends(fits: Sequence[DecodeFit], name: str) -> tuple[float, float] | None:
    """What all fits have seen of one thing; None where that is nothing."""
    seen = [fit.seen[name] for fit in fits if name in fit.seen]
    least = max((min(values) for values in seen), default=1.0)
    most = min((max(values) for values in seen), default=float("inf"))
    return (least, most) if least <= most else None


def _within(value: int, fits: Sequence[DecodeFit], name: str) -> int:
    ends = _ends(fits, name)
    if ends is None:
        return value
    return max(1, round(min(max(value, ends[0]), ends[1])))
