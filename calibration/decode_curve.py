"""Decode attention of all layers over the total context, for one number of sequences.

Straight lines between knots: the measured contexts and the windows of every kind of layer, times
the sequences. With T the total context, B the sequences, S = T / B and c the time per token of the
longest sequence (all layers that see everything together; 0 where long sequences are split):

    t = max(t(T) + c (longest - S) / 2,   t(T) - full(T) + floor + c longest)

``t(T)`` is the even batch's time and ``full(T)`` the part of the layers that see everything.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from .operators import Attention
from .step_cost import UNBOUNDED, Line


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeCurve:
    """Built once for each number of sequences."""

    decodes: int
    knots: list[float]
    """Total context, tokens."""
    ns: list[float]
    slopes: list[float]
    """Per token of total context, from each knot on."""
    full_ns: list[float]
    full_slopes: list[float]
    longest_floor_ns: float
    longest_ns_per_token: float

    def lines(
        self, context_tokens: int, longest_context_tokens: int, added_ns: float = 0.0
    ) -> tuple[Line, ...]:
        """The even batch's line and, where it matters, the longest sequence's.

        Args:
            context_tokens: of all decodes.
            longest_context_tokens: of one; 0 where it is not known.
            added_ns: to each step, for what is not attention.
        """
        decodes = self.decodes
        index = max(0, bisect_right(self.knots, context_tokens) - 1)
        past = context_tokens - self.knots[index]
        ns = self.ns[index] + past * self.slopes[index]
        last = index + 1 == len(self.knots)
        steps = UNBOUNDED if last else int(self.knots[index + 1] - context_tokens) // decodes + 1
        slope, alone = self.slopes[index] * decodes, self.longest_ns_per_token
        more = longest_context_tokens - context_tokens / decodes if longest_context_tokens else 0.0
        if not (alone and more):
            return (Line(added_ns + ns, slope, steps),)
        full = self.full_ns[index] + past * self.full_slopes[index]
        held_up = ns - full + self.longest_floor_ns + alone * longest_context_tokens
        beside = slope - self.full_slopes[index] * decodes
        return (
            Line(added_ns + (ns + alone * more / 2), slope, steps),
            Line(added_ns + held_up, beside + alone, steps),
        )


def decode_curve(kinds: Sequence[Attention], decodes: int) -> DecodeCurve:
    """The curve of these layers."""
    means = sorted({x for kind in kinds for x in (*kind.decode.contexts, kind.window)} - {0})
    whole, full = [0.0] * len(means), [0.0] * len(means)
    beyond = full_beyond = floor = alone = 0.0
    for kind in kinds:
        ns, slope = kind.decode.means(decodes, means)
        whole = [a + kind.count * b for a, b in zip(whole, ns, strict=True)]
        beyond += kind.count * slope
        if kind.window:
            continue
        full = [a + kind.count * b for a, b in zip(full, ns, strict=True)]
        full_beyond += kind.count * slope
        least, per_token = kind.decode.longest_ns(decodes)
        floor, alone = floor + kind.count * least, alone + kind.count * per_token
    return DecodeCurve(
        decodes=decodes,
        knots=[0.0, *(decodes * x for x in means)],
        ns=[*whole[:1], *whole] or [0.0],
        slopes=_slopes(whole, means, beyond, decodes),
        full_ns=[*full[:1], *full] or [0.0],
        full_slopes=_slopes(full, means, full_beyond, decodes),
        longest_floor_ns=floor,
        longest_ns_per_token=alone,
    )


def _slopes(
    values: Sequence[float], means: Sequence[float], beyond: float, decodes: int
) -> list[float]:
    """Of each segment; flat below the first knot."""
    pairs = zip(values, values[1:], means, means[1:], strict=False)
    inner = [(b - a) / ((y - x) * decodes) for a, b, x, y in pairs]
    return [0.0, *inner, beyond / decodes] if means else [0.0]
