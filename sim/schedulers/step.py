"""What a scheduler obeys, what it decides for one step, and what happened in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ...calibration.names import unknown_name
from ..request import Request
from .policies import POLICIES


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """The engine's limits, under vLLM's names.

    Raises:
        ValueError: a limit below 1, or an unknown policy.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    max_num_active_seqs: int | None = None
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    prefill_schedule_interval: int = 1
    mixed_batches: bool = True
    scheduling_policy: str = "fcfs"
    safety_margin: float = 0.0
    """transformers only: share of the blocks that new prompts leave free."""

    def __post_init__(self) -> None:
        if self.scheduling_policy not in POLICIES:
            raise unknown_name(self.scheduling_policy, POLICIES, field="scheduling_policy")
        for name in ("max_num_seqs", "max_num_batched_tokens", "prefill_schedule_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}(={getattr(self, name)}) must be > 0.")
        if self.max_num_active_seqs is not None and self.max_num_active_seqs < 1:
            raise ValueError(f"max_num_active_seqs(={self.max_num_active_seqs}) must be > 0.")
        if self.long_prefill_token_threshold < 0:
            raise ValueError(
                f"long_prefill_token_threshold(={self.long_prefill_token_threshold}) must be >= 0."
            )

    @property
    def seats(self) -> int:
        """Requests that may run at once."""
        if self.max_num_active_seqs is None:
            return self.max_num_seqs
        return min(self.max_num_seqs, self.max_num_active_seqs)


class Event(NamedTuple):
    """``a`` took blocks or was admitted, ``f`` failed to, ``p`` was preempted."""

    kind: str
    request: Request
    tokens: int = 0
    hit_tokens: int = 0
    blocks: tuple[int, ...] = ()
    """Ids of those taken."""


@dataclass(slots=True, kw_only=True)
class Step:
    """One engine step as scheduled."""

    chunks: list[tuple[Request, int]] = field(default_factory=list)
    """``(request, tokens)`` of those that do not simply decode."""
    held_back: list[Request] = field(default_factory=list)
    """Decoding requests that got no token."""
    resumed: list[Request] = field(default_factory=list)
    """Decoding requests that got a token again after they were held back."""
    preempted: list[Request] = field(default_factory=list)
    in_bulk: bool = False
    """All decoding requests were given their token before the walk."""
    returned_tokens: int = 0
    """Tokens of this step that preempted requests had been given: back to the budget."""
    order: list[tuple[Request, int, int]] | None = None
    """``(request, tokens, computed before)`` in scheduling order, where a log is kept."""
    events: list[Event] | None = None
    hits: dict[Request, int] = field(default_factory=dict)
    """Tokens of the admitted that were found in the prefix cache."""
    loads: list[Request] = field(default_factory=list)
    """Admitted that wait until what was found has come up from a tier below the GPU."""

    def take_returned(self) -> int:
        """Tokens that came back since this was last asked."""
        tokens, self.returned_tokens = self.returned_tokens, 0
        return tokens
