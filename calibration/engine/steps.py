"""What the engine is handed: who decides its steps, and what a step is.

``Steps`` is the scheduler with its ledger of blocks, whoever wrote it. For every step it is asked
whom to run and told when the step is over; the engine moves blocks as it is told (in this order),
computes the rows and samples. Times are nanoseconds, on the engine's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol


class Move(NamedTuple):
    """A block whose content goes elsewhere."""

    kind: Literal["copy", "out", "in"]
    """Within the GPU's pool, to host memory, or back."""
    source: int
    target: int


class Row(NamedTuple):
    """New tokens of one sequence."""

    sequence: int
    past_tokens: int
    """Their KV is in the blocks."""
    new_tokens: int
    table: Sequence[int]
    """Block ids, in the order of the sequence's tokens; room for the new ones."""
    fresh: bool
    """The table is another one than before, not the same with more or another last block."""
    takers: tuple[tuple[int, int], ...]
    """``(sequence, rank)`` of those who sample from the last of the new tokens: the best one, or
    the one of that rank. Nobody does before the end of a prompt."""


class Work(NamedTuple):
    """One step as scheduled."""

    moves: list[Move]
    """In order; the moves come before the rows."""
    rows: list[Row]
    waiting: int
    """Requests in the queue, and those in the batch."""
    running: int
    used_blocks: int
    """Held by requests; what is cached and free is not among them."""
    preempted: int
    """Requests that this schedule preempted."""
    goes_on: bool
    """Without rows: whether another schedule may find something at once."""


class Sampled(NamedTuple):
    """What a step gave, row by row of those from which somebody samples."""

    tokens: list[list[int]]
    """From the best on, as many ranks as somebody asked for."""
    best_logits: list[float]


class Ended(NamedTuple):
    """A request that has left, with all of its sequences."""

    request: int
    """Row of the trace."""
    status: str
    """``finished``, ``cancelled``, or the reason why it was rejected."""
    scheduled_ns: float
    first_token_ns: float
    """NaN where it never came so far."""
    num_preemptions: int
    cached_tokens: int
    output_tokens: int


class Steps(Protocol):
    """Scheduler and ledger."""

    def submit(self, request: int, now_ns: float) -> Ended | None:
        """A request of the trace arrives; what became of it where it is rejected at once."""
        ...

    def cancel(self, request: int, now_ns: float) -> None:
        """Its client has gone."""
        ...

    def schedule(self, now_ns: float) -> Work | None:
        """The next step; None where nothing waits or runs."""
        ...

    def finish(self, now_ns: float) -> list[Ended]:
        """The step's tokens are there; who leaves with them."""
        ...

    def ended(self) -> list[Ended]:
        """Who has left in between: those cancelled."""
        ...


class Content(Protocol):
    """Which tokens the sequences have in common, and how long prompts are."""

    @property
    def num_sequences(self) -> int: ...
    def prompt_tokens(self, sequence: int) -> int: ...
    def prompt_of(self, sequence: int) -> int:
        """A number that is equal for sequences of one request: they have the same prompt."""
        ...

    def beginning(self, prompt: int) -> tuple[int, int]:
        """``(sequence, tokens)``: the prompt begins as that sequence does; ``(-1, 0)``: afresh."""
        ...
