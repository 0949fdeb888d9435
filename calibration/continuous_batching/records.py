"""What is played to transformers' continuous batching, with which flags, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request to be played."""

    arrival_s: float
    prompt: Sequence[int]
    """Token ids."""
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingSettings:
    """The library's own flags, under its names.

    Raises:
        ValueError: a size below 1, a share outside [0, 1], or an unknown scheduler.
    """

    page_size: int = 16
    num_blocks: int
    max_batch_tokens: int = 8192
    max_requests_per_batch: int = 1024
    max_blocks_per_request: int
    """Of requests that decode through a block table."""
    allow_block_sharing: bool = True
    scheduler_type: str = "fifo"
    safety_margin: float | None = None
    cpu_offload_space: float = 0.0
    """GiB."""
    use_cuda_graph: bool = False

    def __post_init__(self) -> None:
        sizes = ("page_size", "num_blocks", "max_batch_tokens", "max_requests_per_batch")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}(={getattr(self, name)}) must be > 0.")
        if self.scheduler_type not in ("fifo", "prefill_first"):
            raise ValueError(
                f"scheduler_type(={self.scheduler_type!r}) must be fifo or prefill_first."
            )
        if self.safety_margin is not None and not 0 <= self.safety_margin <= 1:
            raise ValueError(f"safety_margin(={self.safety_margin}) must be in [0, 1].")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingStep:
    """One step; seconds since the replay began, in the order of the fields."""

    start_s: float
    """Its scheduling began."""
    scheduled_s: float
    """It was decided, and what gave way or comes back was on its way."""
    prepared_s: float
    """Its tensors were there: the model runs from here on."""
    launched_s: float
    """The model's kernels were queued; on a CPU it has run."""
    synced_s: float
    """Its tokens were on the host."""
    end_s: float
    """Its tokens were with their requests."""
    gpu_s: float
    """What the model took on the device; NaN where that is a CPU."""
    given: tuple[tuple[int, int, int], ...]
    """Row, tokens and tokens computed before, of each request in it, in order."""
    kv_read_tokens: int
    fast_path: bool
    """Everybody decoded through a block table; else all KV was gathered first."""
    num_free_blocks: int
    num_cached_blocks: int
    num_waiting: int
    num_running: int
    offloaded: tuple[tuple[int, bool], ...]
    """Rows that gave way, and whether they went to host memory."""
    swapped_out_blocks: int
    swapped_in_blocks: int
    compiled: int
    """Kernels compiled meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingAnswer:
    """What became of a request; seconds since the replay began."""

    row: int
    arrival_s: float
    """When it was handed in."""
    token_s: tuple[float, ...]
    """Ends of the steps that sampled them."""
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingLog:
    """A replay."""

    steps: tuple[BatchingStep, ...]
    answers: tuple[BatchingAnswer, ...]
    """In order of their rows."""
