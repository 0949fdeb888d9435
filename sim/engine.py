"""The parts of an engine that a deployment names."""

from __future__ import annotations

from fractions import Fraction
from math import gcd
from typing import TypedDict

from ..calibration.step_cost import NS_PER_S, Batch, StepCost
from .allocators import (
    Allocator,
    CachingAllocator,
    ContiguousAllocator,
    DeduplicatingAllocator,
    GroupedAllocator,
    PagedAllocator,
    RadixAllocator,
    SharingAllocator,
    TieredAllocator,
    VirtualAllocator,
)
from .batch import RunningBatch
from .crossover import Prefill
from .deployment import BYTES_PER_GIB, Deployment
from .moved import Moves
from .schedulers import SCHEDULERS, TRANSFORMERS, Scheduler
from .swap import Swap


def make_allocator(
    deployment: Deployment, num_gpu_blocks: int, *, sharing: bool = False
) -> Allocator:
    """The allocator that a deployment names, with an empty pool.

    Args:
        deployment: the server's flags.
        num_gpu_blocks: blocks of the pool, the null block included.
        sharing: requests have sequences that share blocks.
    """
    if deployment.allocator == "paged":
        return _paged(deployment, num_gpu_blocks, sharing or deployment.pinned_prefix_tokens > 0)
    if deployment.allocator == "virtual":
        return VirtualAllocator(
            pool_slots=_contiguous_slots(deployment, num_gpu_blocks),
            page_bytes=deployment.page_bytes,
            kv_row_bytes=deployment.kv_row_bytes,
            **_gates(deployment),
        )
    return ContiguousAllocator(
        pool_slots=_contiguous_slots(deployment, num_gpu_blocks),
        max_model_len=deployment.max_model_len,
        reservation=deployment.reservation,
        placement=deployment.placement,
    )


def hash_block_size(deployment: Deployment) -> int:
    """Tokens that the prefix cache tells apart."""
    if deployment.prefix_cache == "radix":
        return 1
    return gcd(*(group.block_size for group in deployment.kv_groups)) or deployment.block_size


def _paged(deployment: Deployment, num_gpu_blocks: int, sharing: bool) -> Allocator:
    admission: _Admission = {"num_gpu_blocks": num_gpu_blocks, **_gates(deployment)}
    if deployment.kv_groups:
        return GroupedAllocator(
            groups=deployment.kv_groups,
            max_model_len=deployment.max_model_len,
            max_in_flight_tokens=deployment.max_in_flight_tokens,
            prefix_caching=deployment.enable_prefix_caching,
            asynchronous=deployment.async_scheduling,
            **admission,
        )
    if sharing:
        return SharingAllocator(
            block_size=deployment.block_size,
            pinned_prefix_tokens=deployment.pinned_prefix_tokens,
            **admission,
        )
    if not deployment.enable_prefix_caching:
        return PagedAllocator(block_size=deployment.block_size, **admission)
    if deployment.scheduler in TRANSFORMERS:
        return DeduplicatingAllocator(
            num_gpu_blocks=num_gpu_blocks,
            block_size=deployment.block_size,
            safety_margin=deployment.watermark,
        )
    if deployment.prefix_cache == "radix":
        return RadixAllocator(block_size=deployment.block_size, **admission)
    ahead = deployment.async_scheduling
    if deployment.tiers:
        tiers = deployment.tiers
        return TieredAllocator(
            block_size=deployment.block_size, tiers=tiers, asynchronous=ahead, **admission
        )
    return CachingAllocator(block_size=deployment.block_size, asynchronous=ahead, **admission)


def _contiguous_slots(deployment: Deployment, num_gpu_blocks: int) -> int:
    """Tokens that the memory of so many blocks holds where every layer keeps every token."""
    groups = deployment.kv_groups
    if not groups:
        return num_gpu_blocks * deployment.block_size
    block_bytes = max(group.page_bytes for group in groups)
    token_bytes = sum(Fraction(group.page_bytes, group.block_size) for group in groups)
    return int(num_gpu_blocks * block_bytes / token_bytes)


class _Gates(TypedDict):
    watermark: float
    reserve_full_isl: bool


class _Admission(_Gates):
    num_gpu_blocks: int


def _gates(deployment: Deployment) -> _Gates:
    """What the allocator asks of a request that comes in; transformers' scheduler asks itself."""
    if deployment.scheduler in TRANSFORMERS:
        return {"watermark": 0.0, "reserve_full_isl": False}
    return {
        "watermark": deployment.watermark,
        "reserve_full_isl": deployment.scheduler_reserve_full_isl,
    }


def make_scheduler(
    deployment: Deployment,
    allocator: Allocator,
    batch: RunningBatch,
    *,
    exact_steps: bool = False,
    keep_log: bool = False,
    swap: Swap | None = None,
) -> Scheduler:
    """The scheduler that a deployment names, with nothing queued."""
    return SCHEDULERS[deployment.scheduler](
        allocator=allocator,
        batch=batch,
        limits=deployment.limits,
        exact_steps=exact_steps,
        keep_log=keep_log,
        swap=swap,
    )


def make_swap(
    deployment: Deployment,
    *,
    cost: StepCost,
    moves: Moves | None,
    batch: RunningBatch,
    num_host_blocks: int | None = None,
) -> Swap | None:
    """The host pool that a deployment names; None where preempted requests are computed again.

    ``auto`` weighs the way out and back against computing again beside the ``batch`` that goes on.

    Raises:
        ValueError: a pool that holds no block, or of unknown size.
    """
    mode = deployment.preemption_mode
    if mode == "recompute" or deployment.allocator == "contiguous":
        return None
    if num_host_blocks is None:
        if moves is None:
            raise ValueError(f"preemption_mode(={mode}) needs moves: what a block weighs.")
        num_host_blocks = int(deployment.swap_space * BYTES_PER_GIB) // moves.block_bytes
    if num_host_blocks < 1:
        raise ValueError(
            f"swap_space(={deployment.swap_space:g}) must hold a block of the KV cache."
        )
    if mode != "auto" or moves is None:
        return Swap(num_host_blocks, groups_only=mode == "swap_groups")

    def is_cheaper(num_blocks: int, num_tokens: int) -> bool:
        there_and_back = moves.swap_ns(num_blocks) + moves.swap_ns(num_blocks, inward=True)
        longest = batch.longest_context_tokens if cost.uses_longest else 0
        decodes = Batch(batch.num_decodes, batch.context_tokens, longest_context_tokens=longest)
        again = Prefill(cost, decodes, deployment.limits.max_num_batched_tokens)
        return there_and_back < NS_PER_S * again.seconds(num_tokens)

    return Swap(num_host_blocks, is_cheaper=is_cheaper)
