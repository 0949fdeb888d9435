"""Attention of a step that prefills and decodes, by how the card's kernels are launched."""

from __future__ import annotations

from ..estimate import Estimate
from ..operators import Mix
from .decode import DecodeTable
from .prefill import PrefillLaw


class JointAttention:
    """One launch for all.

    Args:
        law: tiles of the chunks.
        decode: decodes on their own.
        own_tiles: each query head of a decode is a tile (fa2); otherwise the heads of a group share
            one, and a decode costs what reading its keys does.
    """

    def __init__(self, law: PrefillLaw, decode: DecodeTable, *, own_tiles: bool) -> None:
        self._law, self._decode, self._own_tiles = law, decode, own_tiles

    def __call__(self, mix: Mix) -> Estimate:
        """One layer's launch."""
        reading = self._reading_ns(mix)
        if not mix.decodes:
            return self._law(mix)
        alone = self._decode(mix.decodes, mix.context_tokens)
        if not self._own_tiles:
            return self._law(Mix(mix.chunks)).plus(alone._replace(ns=reading))
        joint = self._law(mix, reading)
        return joint._replace(outside=joint.outside or alone.outside)

    def ns(self, mix: Mix) -> float:
        """The time alone."""
        reading = self._reading_ns(mix)
        if self._own_tiles or not mix.decodes:
            return self._law.ns(mix, reading)
        return self._law.ns(Mix(mix.chunks)) + reading

    def _reading_ns(self, mix: Mix) -> float:
        if not mix.decodes:
            return 0.0
        alone = self._decode.ns(mix.decodes, mix.context_tokens)
        return max(0.0, alone - self._decode.floor_ns(1))  # one launch less


class SeparateAttention:
    """A launch for the prefills and one for the decodes."""

    def __init__(self, law: PrefillLaw, decode: DecodeTable) -> None:
        self._law, self._decode = law, decode

    def __call__(self, mix: Mix) -> Estimate:
        """One layer's launches."""
        return self._law(Mix(mix.chunks)).plus(self._decode(mix.decodes, mix.context_tokens))

    def ns(self, mix: Mix) -> float:
        """The time alone."""
        ns = self._law.ns(Mix(mix.chunks))
        return ns + self._decode.ns(mix.decodes, mix.context_tokens) if mix.decodes else ns
