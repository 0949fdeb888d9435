"""Attention of a step that prefills and decodes, by how the card's kernels are launched."""

from __future__ import annotations

from ..estimate import Estimate
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

    def __call__(
        self,
        chunks: tuple[tuple[int, int], ...],
        decodes: int = 0,
        decode_context_tokens: float = 0.0,
        longest_context_tokens: float = 0.0,
    ) -> Estimate:
        """One layer's launch."""
        if not decodes:
            return self._law(chunks)
        reading = self._reading_ns(decodes, decode_context_tokens)
        if self._own_tiles:
            return self._law(
                chunks, decodes, decode_context_tokens, longest_context_tokens, reading
            )
        alone = self._decode(decodes, decode_context_tokens)
        return self._law(chunks).plus(alone._replace(ns=reading))

    def ns(
        self,
        chunks: tuple[tuple[int, int], ...],
        decodes: int = 0,
        decode_context_tokens: float = 0.0,
        longest_context_tokens: float = 0.0,
    ) -> float:
        """The time alone."""
        if not decodes:
            return self._law.ns(chunks)
        reading = self._reading_ns(decodes, decode_context_tokens)
        if self._own_tiles:
            return self._law.ns(
                chunks, decodes, decode_context_tokens, longest_context_tokens, reading
            )
        return self._law.ns(chunks) + reading

    def _reading_ns(self, decodes: int, context_tokens: float) -> float:
        alone = self._decode.ns(decodes, context_tokens)
        return max(0.0, alone - self._decode.floor_ns(decodes))


class SeparateAttention:
    """A launch for the prefills and one for the decodes."""

    def __init__(self, law: PrefillLaw, decode: DecodeTable) -> None:
        self._law, self._decode = law, decode

    def __call__(
        self,
        chunks: tuple[tuple[int, int], ...],
        decodes: int = 0,
        decode_context_tokens: float = 0.0,
        longest_context_tokens: float = 0.0,
    ) -> Estimate:
        """One layer's launches."""
        return self._law(chunks).plus(self._decode(decodes, decode_context_tokens))

    def ns(
        self,
        chunks: tuple[tuple[int, int], ...],
        decodes: int = 0,
        decode_context_tokens: float = 0.0,
        longest_context_tokens: float = 0.0,
    ) -> float:
        """The time alone."""
        ns = self._law.ns(chunks)
        return ns + self._decode.ns(decodes, decode_context_tokens) if decodes else ns
