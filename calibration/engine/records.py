"""What an engine has done: its steps, its requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Scheduled(NamedTuple):
    """One row of a step."""

    sequence: int
    new_tokens: int
    past_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step; what the host did comes in the order of the fields."""

    start_s: float
    """On the engine's clock, when it was asked whom to run."""
    schedule_s: float
    prepare_s: float
    """Buffers filled and sent."""
    launch_s: float
    """Moves and kernels queued."""
    sync_s: float
    """Waited for the tokens."""
    update_s: float
    """Scheduler and ledger told."""
    wall_s: float
    """All of it."""
    gpu_s: float
    """Part of it, on the device; NaN where that is a CPU."""
    rows: tuple[Scheduled, ...]
    bucket: int
    """Rows of the captured graph that ran; 0 = eager."""
    running: int
    waiting: int
    used_blocks: int
    """Held by requests, of the pool."""
    preempted: int = 0
    copied_blocks: int = 0
    swapped_out_blocks: int = 0
    swapped_in_blocks: int = 0
    compiled: int = 0
    """Kernels compiled meanwhile: such a step says nothing about time."""

    @property
    def num_tokens(self) -> int:
        """New ones."""
        return sum(row.new_tokens for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request that has left, times on the engine's clock; NaN = never."""

    request: int
    """Row of the trace."""
    arrival_s: float
    """As the trace says, or when its previous turn allowed."""
    scheduled_s: float
    first_token_s: float
    last_token_s: float
    prompt_tokens: int
    output_tokens: int
    preemptions: int = 0
    cached_tokens: int = 0
    status: str = "finished"
    """Or ``cancelled``, or the reason why it was rejected."""


@dataclass(slots=True, kw_only=True)
class Run:
    """All of a run, in memory."""

    steps: list[StepRecord] = field(default_factory=list)
    requests: list[RequestRecord] = field(default_factory=list)

    def step(self, record: StepRecord) -> None:
        """One more."""
        self.steps.append(record)

    def request(self, record: RequestRecord) -> None:
        """One more."""
        self.requests.append(record)
