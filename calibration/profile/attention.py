"""Attention of one kind of layer from a profile's fits, as the step cost asks for it.

The decode form is evaluated for a typical batch (``uneven``) at knots of the context, two to an
octave, made to rise and read linearly in between: so a run of decode steps has a closed form. The
kernel splits long sequences into items of nearly equal length: how long the longest one is does not
matter beside the total. A step with chunks has a launch for each, as in ``forms.mixed_s``.

Where the very kernel was not measured, the nearest one of the same head dimension and dtypes stands
for it: its rates, with the heads that are asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from math import log2
from typing import TypeVar

from ...kernels.split import target_items
from ..estimate import NOTHING, Estimate
from ..operators import Mix
from ..silicon.monotone import rising
from ..step_cost import NS_PER_S
from . import forms
from .loads import head_groups, prefill_load, token_bytes
from .uneven import neighbours, typical_lengths
from .values import AttentionKey, DecodeFit, PrefillFit

KNOTS_PER_OCTAVE = 2
SHORTEST, LONGEST = 16, 1 << 20
PAST_WINDOW = 8
"""Times the window: mean contexts at which next to every sequence is longer than it."""
NUM_OCTAVES = round(log2(LONGEST / SHORTEST))
CONTEXTS = [
    1.0,
    *(
        float(round(SHORTEST * 2 ** (i / KNOTS_PER_OCTAVE)))
        for i in range(KNOTS_PER_OCTAVE * NUM_OCTAVES + 1)
    ),
]

Fit = TypeVar("Fit", DecodeFit, PrefillFit)


def nearest(fits: tuple[Fit, ...], key: AttentionKey) -> tuple[Fit, bool] | None:
    """The fit of this kernel, or of the one most like it with its rates; None without any.

    Block sizes alone do not make it another kernel. With it, whether it is the very one.
    """
    alike = [fit for fit in fits if _kinds(fit.key) == _kinds(key)]
    if not alike:
        return None
    found = min(alike, key=lambda fit: _distance(fit.key, key))
    same_heads = (found.key.heads, found.key.kv_heads) == (key.heads, key.kv_heads)
    return _with_heads(found, key), same_heads


def _kinds(key: AttentionKey) -> tuple[object, ...]:
    return key.kind, key.dtype, key.kv_dtype, key.head_dim


def _distance(key: AttentionKey, wanted: AttentionKey) -> tuple[float, ...]:
    """Query heads per KV head first, then KV heads, then the block."""
    groups = key.heads / key.kv_heads * wanted.kv_heads / wanted.heads
    return (
        abs(log2(groups)),
        abs(log2(key.kv_heads / wanted.kv_heads)),
        abs(log2(key.block_size / wanted.block_size)),
        key.block_size,
    )


def _with_heads(fit: Fit, key: AttentionKey) -> Fit:
    """The same kernel over other heads: rates stay, its tiles follow."""
    if isinstance(fit, DecodeFit):
        target = target_items(fit.slots, head_groups(key))
        same = head_groups(key) == head_groups(fit.key)
        return replace(fit, key=key, target_items=fit.target_items if same else target)
    rows = fit.query_tokens * fit.key.heads / fit.key.kv_heads
    return replace(fit, key=key, query_tokens=max(1, round(rows * key.kv_heads / key.heads)))


def off(seen: Mapping[str, tuple[float, ...]], **shape: float) -> tuple[float, bool]:
    """``(octaves to the range that a fit has seen, whether the shape is larger)``."""
    away, beyond = 0.0, False
    for name, value in shape.items():
        if name in seen and value > 0:
            least, most = min(seen[name]), max(seen[name])
            away = max(away, log2(max(least, 1) / value), log2(value / max(most, 1)))
            beyond = beyond or value > most
    return away, beyond


def block_sizes_of(fits: tuple[DecodeFit, ...], key: AttentionKey) -> tuple[DecodeFit, ...]:
    """The very kernel of a key in every block size that it was fitted in, smallest first."""
    same = [fit for fit in fits if replace(fit.key, block_size=key.block_size) == key]
    return tuple(sorted(same, key=lambda fit: fit.key.block_size))


class FittedDecode:
    """Decode attention of one layer.

    Args:
        fit: of the kernel, with the layer's heads.
        window: tokens that a position sees; 0 for all.
        doubt: of the form, relative, one standard deviation.
        by_block_size: the kernel in every block size that it was fitted in.
    """

    def __init__(
        self,
        fit: DecodeFit,
        *,
        window: int = 0,
        doubt: float,
        outside: bool,
        by_block_size: tuple[DecodeFit, ...] = (),
    ) -> None:
        self.fit, self.window = fit, window
        self.by_block_size = by_block_size
        self._window = window
        self._doubt, self._outside = doubt, outside
        last = PAST_WINDOW * window or LONGEST
        self.contexts = sorted({*(x for x in CONTEXTS if x < last), float(last)})
        self._looked_at: dict[int, list[float]] = {}
        self._known: dict[int, list[float]] = {}

    def means(self, batch: int, contexts: list[float]) -> tuple[list[float], float]:
        """``(ns at each mean context, ns per token of one sequence beyond the last)``."""
        return [self.ns(batch, batch * x) for x in contexts], self._slope(batch)

    def ns(self, batch: int, context_tokens: float) -> float:
        """The time alone of a call."""
        knots, ns = self.contexts, self._curve(batch)
        mean = context_tokens / batch
        index = bisect_right(knots, mean) - 1
        if index < 0:
            return ns[0]
        if index + 1 == len(knots):
            return ns[-1] + self._slope(batch) * (mean - knots[-1])
        share = (mean - knots[index]) / (knots[index + 1] - knots[index])
        return ns[index] + share * (ns[index + 1] - ns[index])

    def floor_ns(self, batch: int) -> float:
        """The launch with next to nothing to read."""
        return self._curve(batch)[0]

    def longest_ns(self, batch: int) -> tuple[float, float]:
        """Sequences are split into items of nearly equal length: the longest adds nothing."""
        return 0.0, 0.0

    def __call__(self, batch: int, context_tokens: float) -> Estimate:
        """``batch`` sequences that attend to so many tokens in all, evenly."""
        if batch <= 0:
            return NOTHING
        key, mean = self.fit.key, context_tokens / batch
        if self._window:
            mean = min(mean, self._window)
        tokens = batch * mean
        away, beyond = off(self.fit.seen, batch=batch, context_tokens=mean, total_tokens=tokens)
        return Estimate(
            self.ns(batch, context_tokens),
            tokens * token_bytes(key),
            4.0 * tokens * key.heads * key.head_dim,
            away,
            self._outside or beyond,
            self._doubt,
        )

    def _curve(self, batch: int) -> list[float]:
        """At each knot."""
        known = self._known.get(batch)
        if known is None:
            low, high, share = neighbours(batch)
            known = self._form(low)
            if share:
                pairs = zip(known, self._form(high), strict=True)
                known = [a + share * (b - a) for a, b in pairs]
            self._known[batch] = known
        return known

    def _form(self, batch: int) -> list[float]:
        found = self._looked_at.get(batch)
        if found is None:
            lengths = [typical_lengths(batch, int(x)) for x in self.contexts]
            window = self._window
            found = rising(
                [NS_PER_S * forms.decode_s(self.fit, n, sliding_window=window) for n in lengths]
            )
            self._looked_at[batch] = found
        return found

    def _slope(self, batch: int) -> float:
        if self._window:
            return 0.0
        ns, (x, y) = self._curve(batch), self.contexts[-2:]
        return (ns[-1] - ns[-2]) / (y - x)


class FittedMixed:
    """Attention of one layer in a step with chunks: a launch for each."""

    def __init__(
        self,
        fit: PrefillFit,
        decode: FittedDecode,
        *,
        window: int = 0,
        doubt: float,
        outside: bool,
    ) -> None:
        self._fit, self._decode, self._window = fit, decode, window
        self._doubt, self._outside = doubt, outside

    def __call__(self, mix: Mix) -> Estimate:
        """One layer."""
        load = prefill_load(
            self._fit.key,
            mix.chunks,
            query_tokens=self._fit.query_tokens,
            tile_tokens=self._fit.tile_tokens,
            slots=self._fit.slots,
            sliding_window=self._window,
        )
        offs = [
            off(self._fit.seen, new_tokens=new, past_tokens=max(past, 1))
            for new, past in mix.chunks
        ]
        prefill = Estimate(
            self._prefill_ns(mix),
            float(load.bytes),
            float(load.flops),
            max(away for away, _ in offs),
            self._outside or any(beyond for _, beyond in offs),
            self._doubt,
        )
        both = prefill.plus(self._decode(mix.decodes, mix.context_tokens))
        return both._replace(ns=self.ns(mix))

    def ns(self, mix: Mix) -> float:
        """The time alone."""
        prefill = self._prefill_ns(mix)
        if not mix.decodes:
            return prefill
        decode = self._decode.ns(mix.decodes, mix.context_tokens)
        return forms.mixed_s(decode, prefill, self._fit.overlap)

    def _prefill_ns(self, mix: Mix) -> float:
        return NS_PER_S * forms.prefill_s(self._fit, mix.chunks, sliding_window=self._window)
