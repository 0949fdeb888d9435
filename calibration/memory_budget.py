"""The result of a memory plan: lines that sum to the GPU's memory, and the pool in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .kv_groups import KVGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLine:
    """One line of the budget, on one GPU, with its source and what it may be in truth."""

    name: str
    bytes: int
    source: str
    low_bytes: int
    high_bytes: int


def scaled_line(name: str, size: int, source: str, low: float, high: float) -> MemoryLine:
    """A line whose true size may be so many times its own."""
    return MemoryLine(
        name=name,
        bytes=size,
        source=source,
        low_bytes=round(size * low),
        high_bytes=round(size * high),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """What one GPU's memory is used for; the lines sum to ``total_bytes``."""

    lines: tuple[MemoryLine, ...]
    total_bytes: int
    requested_bytes: int
    """``ceil(total_bytes * gpu_memory_utilization)``."""
    gpu_memory_utilization: float
    kv_cache_bytes: int
    kv_cache_low_bytes: int
    """If every other line took its high value."""
    kv_cache_high_bytes: int
    block_size: int
    """Tokens; longer than asked for where recurrent layers stretch it."""
    block_bytes: int
    num_gpu_blocks: int
    """As the engine counts, with the null block."""
    kv_cache_tokens: int
    kv_bytes_per_token: int
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    max_concurrency: float
    """Requests of ``max_model_len`` in the pool, as the engine prints it."""
    kv_groups: tuple[KVGroup, ...]
    max_in_flight_tokens: int
    index_bytes_per_token: int = 0
    """Of the indexer's keys, which the blocks hold beside ``kv_bytes_per_token``."""
    speculative_slots: int = 0
    """Of a running request beside its own tokens: drafts to verify and drafts ahead."""
    notes: tuple[str, ...] = ()
    """What the reader of the budget should know, one sentence each."""

    @property
    def usable_blocks(self) -> int:
        """Blocks that requests can hold: the null block is not one."""
        return self.num_gpu_blocks - 1

    def blocks_of(self, tokens: int) -> int:
        """Blocks of one request of so many tokens, over all groups, at its largest.

        Drafts take slots beside its tokens, up to ``max_model_len``.
        """
        slots = self._slots_of(tokens)
        return sum(g.blocks_of(slots, self.max_in_flight_tokens) for g in self.kv_groups)

    def requests_of(self, tokens: int) -> int:
        """How many requests of so many tokens (prompt and output) fit at once.

        Raises:
            ValueError: ``tokens`` is not positive.
        """
        if tokens <= 0:
            raise ValueError(f"tokens(={tokens}) must be > 0.")
        return self.usable_blocks // self.blocks_of(tokens)

    @property
    def windowed(self) -> bool:
        """Whether a request needs less once it is admitted."""
        return any(group.window_tokens is not None for group in self.kv_groups)

    def steady_blocks_of(self, tokens: int) -> int:
        """Blocks of one request that has been admitted, over all groups, at its largest."""
        slots = self._slots_of(tokens)
        return sum(group.steady_blocks_of(slots) for group in self.kv_groups)

    def _slots_of(self, tokens: int) -> int:
        return max(tokens, min(tokens + self.speculative_slots, self.max_model_len))

    def blocks_for(self, num_requests: int, tokens: int) -> int:
        """Blocks of so many requests, admitted in turn: the last one is admitted beside the others.

        Tokens in flight are bounded by the step, not by the request, so that only one is counted
        with all of them. Without windows this is ``num_requests * blocks_of(tokens)``.
        """
        return (num_requests - 1) * self.steady_blocks_of(tokens) + self.blocks_of(tokens)

    def steady_requests_of(self, tokens: int) -> int:
        """How many requests of so many tokens run at once when they are admitted in turn.

        Raises:
            ValueError: ``tokens`` is not positive.
        """
        if self.requests_of(tokens) == 0:
            return 0
        spare = self.usable_blocks - self.blocks_of(tokens)
        return 1 + spare // self.steady_blocks_of(tokens)

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``budget`` maps each line's name to its bytes."""
        return {
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "index_bytes_per_token": self.index_bytes_per_token,
            "block_size": self.block_size,
            "block_bytes": self.block_bytes,
            "num_gpu_blocks": self.num_gpu_blocks,
            "kv_cache_tokens": self.kv_cache_tokens,
            "kv_cache_bytes": self.kv_cache_bytes,
            "kv_cache_low_bytes": self.kv_cache_low_bytes,
            "kv_cache_high_bytes": self.kv_cache_high_bytes,
            "total_bytes": self.total_bytes,
            "requested_bytes": self.requested_bytes,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "max_model_len": self.max_model_len,
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "max_num_seqs": self.max_num_seqs,
            "max_concurrency": self.max_concurrency,
            "speculative_slots": self.speculative_slots,
            "budget": {line.name: line.bytes for line in self.lines},
            "budget_sources": {line.name: line.source for line in self.lines},
            "budget_ranges": {line.name: [line.low_bytes, line.high_bytes] for line in self.lines},
            "notes": list(self.notes),
        }
