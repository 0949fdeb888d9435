"""What one engine step costs: the interface that every timing source implements.

A step runs a *batch*: some requests decode one token each, others prefill a chunk of their prompt.
Between two scheduling events the decoding requests stay the same and each gains one token a step,
so their total context grows by ``num_decodes`` a step. A source describes such a run by lines:

    step j of the run costs  first_ns + j * slope_ns   for j = 0 .. num_steps - 1

and the simulator advances a whole line at once. Time inside is nanoseconds, as on the simulator's
clock, so that a source with whole-number coefficients is followed without rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .terms import Term

NS_PER_S = 1e9


class Batch(NamedTuple):
    """The shape of one engine step."""

    num_decodes: int = 0
    """Requests that decode one token each."""
    decode_context_tokens: int = 0
    """Sum over the decodes of the tokens attended to, the new token included."""
    chunks: tuple[tuple[int, int], ...] = ()
    """One ``(new tokens, past tokens)`` for each request that prefills."""
    num_padding_rows: int = 0
    """Rows computed but attended by nobody: finished members of a static batch."""
    longest_context_tokens: int = 0
    """Of one decode; 0 where it is not known, which counts as an even batch."""

    @property
    def num_tokens(self) -> int:
        """Tokens that pass through the linear layers."""
        tokens = self.num_decodes + self.num_padding_rows
        for new, _ in self.chunks:
            tokens += new
        return tokens


class Line(NamedTuple):
    """A run of decode steps whose cost grows linearly: step j costs ``first_ns + j * slope_ns``."""

    first_ns: float
    slope_ns: float
    num_steps: int
    """The line holds for this many steps; ``UNBOUNDED`` where it never bends."""

    def span_ns(self, k: int) -> float:
        """Nanoseconds of the first ``k`` steps (``k <= num_steps``)."""
        return k * self.first_ns + self.slope_ns * (k * (k - 1) // 2)


UNBOUNDED = 1 << 62


def highest(lines: Sequence[Line]) -> Line:
    """The highest line, until another one passes it or any bends."""
    top, steps = lines[0], lines[0].num_steps
    for line in lines:
        if (line.first_ns, line.slope_ns) > (top.first_ns, top.slope_ns):
            top = line
        steps = min(steps, line.num_steps)
    for line in lines:
        faster = line.slope_ns - top.slope_ns
        if faster > 0:
            steps = min(steps, int((top.first_ns - line.first_ns) / faster) + 1)
    return Line(top.first_ns, top.slope_ns, int(steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Relative error band of a timing source: the truth is expected in ``[low, high] * value``."""

    low: float
    high: float
    source: str

    def __post_init__(self) -> None:
        if not 0 < self.low <= 1 <= self.high:
            raise ValueError(f"band(=[{self.low}, {self.high}]) must enclose 1 and be > 0.")


class StepCost(ABC):
    """Seconds for engine steps of given batch shapes, from one source.

    A new source implements :meth:`step_ns`; that is enough to be right. It is fast when it also
    overrides :meth:`decode_line`.
    """

    source: str
    """``measured``, ``silicon``, ``datasheet`` or ``affine``."""
    band: Band
    uses_longest: bool = False
    """Whether a batch's longest context matters to it."""

    @abstractmethod
    def step_ns(self, batch: Batch) -> float:
        """Nanoseconds of one engine step of this shape."""

    def decode_line(self, batch: Batch) -> Line:
        """The run of pure decode steps that starts with ``batch`` (which has no chunks)."""
        return Line(self.step_ns(batch), 0.0, 1)

    def terms(self, batch: Batch) -> tuple[Term, ...]:
        """Where the time of one step goes, largest first; the terms sum to :meth:`step_ns`."""
        return (Term(name="step", ns=self.step_ns(batch), source=self.source),)

    @property
    def origin(self) -> str:
        """The source with what it was taken from, for people."""
        return self.source

    def outside(
        self, *, num_seqs: int, num_tokens: int, context_tokens: int, longest_context: int
    ) -> tuple[str, ...]:
        """Terms that no measured shape surrounds at the largest shapes of a deployment.

        Args:
            num_seqs: most requests at once.
            num_tokens: most tokens of a step.
            context_tokens: of all requests together, at most.
            longest_context: of one request.
        """
        return ()

    @property
    def caveats(self) -> tuple[str, ...]:
        """What the reader of a step time should know, one sentence each."""
        return ()

    def band_of(self, batch: Batch) -> Band:
        """The band of one shape: wider the farther its terms lie from what was measured."""
        return self.band

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """What determines the numbers, with their sources: goes into digests and reports."""

    def step_s(self, batch: Batch) -> float:
        """Seconds of one engine step of this shape."""
        return self.step_ns(batch) / NS_PER_S

    def span_s(self, batch: Batch, k: int) -> float:
        """Seconds of ``k`` pure decode steps in a row, each request gaining one token a step.

        Equals the sum of the ``k`` single steps (to 1e-12 relative).

        Raises:
            ValueError: the batch prefills, or ``k`` is negative.
        """
        if batch.chunks:
            raise ValueError(f"chunks(={batch.chunks}) must be empty: a span only decodes.")
        if k < 0:
            raise ValueError(f"k(={k}) must be >= 0.")
        total_ns = 0.0
        while k > 0:
            line = self.decode_line(batch)
            steps = min(k, line.num_steps)
            total_ns += line.span_ns(steps)
            k -= steps
            longest = batch.longest_context_tokens
            batch = batch._replace(
                decode_context_tokens=batch.decode_context_tokens + steps * batch.num_decodes,
                longest_context_tokens=longest and longest + steps,
            )
        return total_ns / NS_PER_S
