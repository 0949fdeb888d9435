"""What one step launches on one GPU, as values: each operator gives its time for a shape.

A source of measured operators (``silicon``, ``kernel_profile``) fills in :class:`Operators`;
``operator_cost`` adds them up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .estimate import Estimate
from .gpus import GPUSpec

ALL_REDUCE = "all-reduce"
"""The label of the one operator that a link binds."""
Chunks = tuple[tuple[int, int], ...]
"""``(new tokens, cached tokens)`` of each prefill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator that costs by tokens (or by rows of logits), over all layers that have it."""

    label: str
    source: str
    ns: Callable[[int], Estimate]
    derived: bool = False
    """No measured kernel is just like it."""
    flops_per_s: float | None = None
    """Peak of the units it runs on; None: those of 16-bit floats."""
    padded: bool = True
    """Whether the rows that fill up a captured graph cost like others (experts: they choose none
    that the tokens have not chosen)."""
    time: Callable[[int], float] | None = None
    """The time alone, where that is quicker to have."""
    launches: int = 0
    """Kernels of a step."""
    on: Callable[[GPUSpec], Operator] | None = None
    """The same on another card, where the time is a formula of the card's datasheet."""

    def time_ns(self, count: int) -> float:
        """Nanoseconds for so many tokens or rows."""
        return self.ns(count).ns if self.time is None else self.time(count)


class DecodeAttention(Protocol):
    """Decode attention of one layer."""

    contexts: list[float]
    """Measured contexts of one sequence, tokens."""

    def means(self, batch: int, contexts: list[float]) -> tuple[list[float], float]:
        """``(ns at each mean context, ns per token of one sequence beyond the last)``."""

    def floor_ns(self, batch: int) -> float:
        """The launch with next to nothing to read."""

    def longest_ns(self, batch: int) -> tuple[float, float]:
        """``(floor, ns per token of the longest sequence)``; 0 where it does not matter."""

    def __call__(self, batch: int, context_tokens: float) -> Estimate:
        """So many sequences that attend to so many tokens in all, evenly."""


class Mix(NamedTuple):
    """What the attention of a step with chunks works on."""

    chunks: Chunks
    decodes: int = 0
    context_tokens: float = 0.0
    """Of all decodes together."""
    longest_context_tokens: float = 0.0
    """Of one decode."""


class MixedAttention(Protocol):
    """Attention of one layer in a step with chunks."""

    def __call__(self, mix: Mix) -> Estimate:
        """Chunks and decodes together, in one launch or several."""

    def ns(self, mix: Mix) -> float:
        """The time alone: what a simulation asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Layers of one kind."""

    label: str
    count: int
    decode: DecodeAttention
    mixed: MixedAttention
    window: int = 0
    """Tokens that a position sees; 0 for all."""
    decode_source: str
    mixed_source: str
    derived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentLayers:
    """Layers with a state per sequence."""

    count: int
    decode: Callable[[int], Estimate]
    """By sequences, one token each."""
    chunk: Callable[[int], Estimate]
    """By tokens of one sequence."""
    source: str
    derived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """Everything that one step launches on one GPU."""

    by_tokens: tuple[Operator, ...]
    by_rows: tuple[Operator, ...]
    """LM head and sampling: one row for each decode and each chunk."""
    attention: tuple[Attention, ...]
    recurrent: tuple[RecurrentLayers, ...] = ()
    uses_longest: bool = False
    """Whether an uneven batch costs more than an even one."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Of every figure, sorted."""
        found = {operator.source for operator in (*self.by_tokens, *self.by_rows)}
        found |= {kind.decode_source for kind in self.attention}
        found |= {kind.mixed_source for kind in self.attention}
        found |= {layers.source for layers in self.recurrent}
        return tuple(sorted(found))

    @property
    def derived(self) -> tuple[str, ...]:
        """Labels of what no measured kernel is just like, sorted."""
        found = {o.label for o in (*self.by_tokens, *self.by_rows) if o.derived}
        found |= {kind.label for kind in self.attention if kind.derived}
        found |= {"recurrent layers" for layers in self.recurrent if layers.derived}
        return tuple(sorted(found))
