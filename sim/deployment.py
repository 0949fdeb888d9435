"""How the server is set up: one flat value under vLLM's own flag names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf

from ..calibration.kv_groups import KVGroup
from ..calibration.names import unknown_name
from .allocators import ALLOCATORS, PLACEMENTS, RESERVATIONS, TierSpec
from .pages import DEFAULT_PAGE_BYTES, PAGE_SIZES, page_name
from .schedulers import SCHEDULERS, TRANSFORMERS, SchedulerLimits

ON_IMPOSSIBLE = ("reject", "stall")
PARALLEL_SAMPLING = ("fork", "fan_out")
PREEMPTION_MODES = ("recompute", "swap", "auto", "swap_groups")
BYTES_PER_GIB = 1 << 30
PREFIX_CACHES = ("hash", "radix")

_CHOICES = {
    "allocator": ALLOCATORS,
    "reservation": RESERVATIONS,
    "placement": tuple(PLACEMENTS),
    "scheduler": tuple(SCHEDULERS),
    "on_impossible": ON_IMPOSSIBLE,
    "parallel_sampling": PARALLEL_SAMPLING,
    "preemption_mode": PREEMPTION_MODES,
    "prefix_cache": PREFIX_CACHES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The flags of one server.

    Raises:
        ValueError: a flag outside its range, or an unknown allocator, scheduler, ...
    """

    max_model_len: int
    """Longest prompt + output, tokens."""
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    block_size: int = 16
    """Tokens per block."""
    gpu_memory_utilization: float = 0.92
    kv_cache_dtype: str = "auto"
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    enable_prefix_caching: bool = False
    async_scheduling: bool = False
    enable_chunked_prefill: bool = True
    max_num_active_seqs: int | None = None
    long_prefill_token_threshold: int = 0
    prefill_schedule_interval: int = 1
    mixed_batches: bool = True
    """Sarathi only: chunks of prompts share a step with decodes."""
    scheduling_policy: str = "fcfs"
    watermark: float = 0.0
    scheduler_reserve_full_isl: bool = True
    enforce_eager: bool = False

    kv_groups: tuple[KVGroup, ...] = ()
    """Paged only: layers that keep different tokens; empty = every layer keeps every token."""
    allocator: str = "paged"
    reservation: str = "max"
    """Contiguous only."""
    placement: str = "buddy"
    """Contiguous only."""
    page_bytes: int = DEFAULT_PAGE_BYTES
    """Virtual only: of one physical page, in each tensor of each layer."""
    kv_row_bytes: int = 0
    """Virtual only: of one token in one tensor of one layer; follows from the model."""
    prefix_cache: str = "hash"
    """With prefix caching: vLLM's hashed blocks, or a ``radix`` tree of tokens as SGLang's."""
    tiers: tuple[TierSpec, ...] = ()
    """Memory below the GPU for what the prefix cache evicts, from the GPU down."""
    scheduler: str = "vllm"
    on_impossible: str = "reject"
    """What becomes of a request that can never fit: ``reject`` at arrival, or ``stall`` as vLLM."""
    parallel_sampling: str = "fork"
    """The samples of a request ``fork`` in the engine, or are requests of their own (V1)."""
    preemption_mode: str = "recompute"
    """Preempted requests are computed again, swapped to host memory, or what costs less (auto);
    ``swap_groups``: swapped where they have several sequences, as the first vLLM engine."""
    swap_space: float = 4.0
    """Host memory for swaps, GiB per GPU."""
    swap_overlap: bool = False
    """Swaps run beside the step instead of before it."""
    pinned_prefix_tokens: int = 0
    """Tokens with which every longer prompt begins, held in the pool for good."""
    beam_seed: int = 0
    """Of what is drawn in the engine: which beams survive."""

    def __post_init__(self) -> None:
        sizes = ("tensor_parallel_size", "pipeline_parallel_size")
        for name in ("max_model_len", "block_size", *sizes):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}(={getattr(self, name)}) must be > 0.")
        if self.block_size > self.max_model_len:
            raise ValueError(
                f"block_size(={self.block_size}) must be <= max_model_len(={self.max_model_len})."
            )
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(
                f"gpu_memory_utilization(={self.gpu_memory_utilization}) must be in (0, 1]."
            )
        if not 0 <= self.watermark < 1:
            raise ValueError(f"watermark(={self.watermark}) must be in [0, 1).")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown_name(getattr(self, name), known, field=name)
        self._check_transformers()
        if self.enable_prefix_caching and not (
            self.allocator == "paged" and self.scheduler in ("vllm", *TRANSFORMERS)
        ):
            raise ValueError(
                "enable_prefix_caching(=True) needs allocator paged and scheduler vllm or "
                f"transformers, not {self.allocator} and {self.scheduler}."
            )
        if self.enable_prefix_caching and self.prefix_cache == "radix" and self.kv_groups:
            raise ValueError(
                "prefix_cache(=radix) needs layers that all keep every token: switch the hybrid "
                "KV-cache manager off (--disable-hybrid-kv-cache-manager)."
            )
        if self.prefix_cache == "radix" and not self.enable_prefix_caching:
            raise ValueError("prefix_cache(=radix) needs enable_prefix_caching, which is off.")
        if self.scheduler in ("sarathi", *TRANSFORMERS) and self.kv_groups:
            raise ValueError(
                f"scheduler(={self.scheduler}) needs layers that all keep every token: switch the "
                "hybrid KV-cache manager off (--disable-hybrid-kv-cache-manager)."
            )
        if not self.mixed_batches and self.scheduler != "sarathi":
            raise ValueError(
                f"mixed_batches(=False) needs scheduler sarathi, not {self.scheduler}."
            )
        if self.page_bytes not in PAGE_SIZES.values():
            pages = ", ".join(map(str, PAGE_SIZES.values()))
            raise ValueError(f"page_bytes(={self.page_bytes}) must be one of {pages}.")
        if self.tiers and not (self.enable_prefix_caching and self.prefix_cache == "hash"):
            raise ValueError(
                f"kv_offloading_size(={self.offloaded_gib:g}) needs the prefix cache of hashed "
                f"blocks, which is {self.caching}; other schedulers, swaps and pinned prefixes go "
                "without it."
            )
        if self.tiers and self.kv_groups:
            raise ValueError(
                f"kv_offloading_size(={self.offloaded_gib:g}) needs layers that all keep every "
                "token: switch the hybrid KV-cache manager off "
                "(--disable-hybrid-kv-cache-manager)."
            )
        if self.async_scheduling and self.scheduler != "vllm":
            raise ValueError(f"async_scheduling(=True) needs scheduler vllm, not {self.scheduler}.")
        self._check_moves()
        self.limits  # noqa: B018  checks its own fields

    def _check_transformers(self) -> None:
        """What its continuous batching does without."""
        if self.scheduler not in TRANSFORMERS:
            return
        wanted = {
            "scheduling_policy fcfs": self.scheduling_policy == "fcfs",
            "enable_chunked_prefill": self.enable_chunked_prefill,
            "prefix_cache hash": self.prefix_cache == "hash",
            "pinned_prefix_tokens 0": not self.pinned_prefix_tokens,
            "kv_offloading_size 0": not self.tiers,
        }
        for what, given in wanted.items():
            if not given:
                raise ValueError(f"scheduler(={self.scheduler}) needs {what}.")

    def _check_moves(self) -> None:
        if self.pinned_prefix_tokens < 0:
            raise ValueError(f"pinned_prefix_tokens(={self.pinned_prefix_tokens}) must be >= 0.")
        if not 0 <= self.swap_space < inf:
            raise ValueError(f"swap_space(={self.swap_space:g}) must be >= 0.")
        if self.beam_seed < 0:
            raise ValueError(f"beam_seed(={self.beam_seed}) must be >= 0.")
        wanted = []
        if self.preemption_mode != "recompute":
            if not self.swap_space:
                raise ValueError(
                    f"swap_space(=0) must be > 0 with preemption_mode {self.preemption_mode}."
                )
            wanted.append(f"preemption_mode(={self.preemption_mode})")
            if self.allocator != "paged":
                raise ValueError(f"{wanted[-1]} needs allocator paged, not {self.allocator}.")
        elif self.swap_overlap:
            raise ValueError("swap_overlap(=True) needs preemption_mode swap, auto or swap_groups.")
        if self.pinned_prefix_tokens:
            wanted.append(f"pinned_prefix_tokens(={self.pinned_prefix_tokens})")
            if self.allocator != "paged":
                raise ValueError(f"{wanted[-1]} needs allocator paged, not {self.allocator}.")
        for what in wanted:
            for flag in ("enable_prefix_caching", "async_scheduling"):
                if getattr(self, flag) and self.scheduler not in TRANSFORMERS:
                    raise ValueError(f"{what} needs {flag} off.")
            if self.kv_groups and self.allocator == "paged":
                raise ValueError(
                    f"{what} needs layers that all keep every token: switch the hybrid KV-cache "
                    "manager off (--disable-hybrid-kv-cache-manager)."
                )

    @property
    def limits(self) -> SchedulerLimits:
        """The part that schedulers obey.

        One step of the simulation is one round of a pipeline: each of its batches in flight has a
        token budget of its own (``calibration.pipeline``).
        """
        rounds = self.pipeline_parallel_size
        return SchedulerLimits(
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=rounds * self.max_num_batched_tokens,
            max_num_active_seqs=self.max_num_active_seqs,
            enable_chunked_prefill=self.enable_chunked_prefill,
            long_prefill_token_threshold=rounds * self.long_prefill_token_threshold,
            prefill_schedule_interval=self.prefill_schedule_interval,
            mixed_batches=self.mixed_batches,
            scheduling_policy=self.scheduling_policy,
            safety_margin=self.watermark if self.scheduler in TRANSFORMERS else 0.0,
        )

    @property
    def max_in_flight_tokens(self) -> int:
        """Scheduled tokens that may not be processed yet."""
        return self.max_num_batched_tokens * (self.pipeline_parallel_size + self.async_scheduling)

    @property
    def num_gpus(self) -> int:
        """Of one server."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def offloaded_gib(self) -> float:
        """Host memory for what the prefix cache evicts, GiB."""
        return self.tiers[0].size_bytes / BYTES_PER_GIB if self.tiers else 0.0

    @property
    def caching(self) -> str:
        """The prefix cache in a word."""
        return self.prefix_cache if self.enable_prefix_caching else "off"

    @property
    def shares_nothing(self) -> bool:
        """Whether the samples of a request have no block in common."""
        return self.parallel_sampling == "fan_out" and not self.enable_prefix_caching

    @property
    def title(self) -> str:
        """What tells this deployment's memory management from another's."""
        if self.allocator == "contiguous":
            return f"{self.allocator}-{self.reservation} ({self.placement})"
        if self.allocator == "virtual":
            return f"{self.allocator}-{page_name(self.page_bytes)}"
        if self.shares_nothing:
            return f"{self.allocator}, nothing shared"
        by_token = self.enable_prefix_caching and self.prefix_cache == "radix"
        return f"{self.allocator} (radix)" if by_token else self.allocator

    def to_json(self) -> dict[str, object]:
        """All flags, by name; the newer ones where they say something, so that digests stay."""
        values = asdict(self)
        if self.allocator != "virtual":
            del values["kv_row_bytes"]  # it follows from the model
        return {k: v for k, v in values.items() if k not in _SILENT or v != _SILENT[k]}


_SILENT = {
    "mixed_batches": True,
    "page_bytes": DEFAULT_PAGE_BYTES,
    "parallel_sampling": "fork",
    "preemption_mode": "recompute",
    "swap_space": 4.0,
    "swap_overlap": False,
    "pinned_prefix_tokens": 0,
    "beam_seed": 0,
}
"""Flags that say nothing at these values."""
