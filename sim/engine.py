"""The parts of an engine that a deployment names."""

from __future__ import annotations

from fractions import Fraction
from math import gcd
from typing import TypedDict

from .allocators import (
    Allocator,
    CachingAllocator,
    ContiguousAllocator,
    GroupedAllocator,
    PagedAllocator,
    RadixAllocator,
    TieredAllocator,
)
from .batch import RunningBatch
from .deployment import Deployment
from .schedulers import SCHEDULERS, Scheduler


def make_allocator(deployment: Deployment, num_gpu_blocks: int) -> Allocator:
    """The allocator that a deployment names, with an empty pool."""
    if deployment.allocator == "paged":
        return _paged(deployment, num_gpu_blocks)
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


def _paged(deployment: Deployment, num_gpu_blocks: int) -> Allocator:
    admission: _Admission = {
        "num_gpu_blocks": num_gpu_blocks,
        "watermark": deployment.watermark,
        "reserve_full_isl": deployment.scheduler_reserve_full_isl,
    }
    if deployment.kv_groups:
        return GroupedAllocator(
            groups=deployment.kv_groups,
            max_model_len=deployment.max_model_len,
            max_in_flight_tokens=deployment.max_in_flight_tokens,
            prefix_caching=deployment.enable_prefix_caching,
            asynchronous=deployment.async_scheduling,
            **admission,
        )
    if not deployment.enable_prefix_caching:
        return PagedAllocator(block_size=deployment.block_size, **admission)
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


class _Admission(TypedDict):
    num_gpu_blocks: int
    watermark: float
    reserve_full_isl: bool


def make_scheduler(
    deployment: Deployment,
    allocator: Allocator,
    batch: RunningBatch,
    *,
    exact_steps: bool = False,
    keep_log: bool = False,
) -> Scheduler:
    """The scheduler that a deployment names, with nothing queued."""
    return SCHEDULERS[deployment.scheduler](
        allocator=allocator,
        batch=batch,
        limits=deployment.limits,
        exact_steps=exact_steps,
        keep_log=keep_log,
    )
