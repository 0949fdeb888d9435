"""The parts of an engine that a deployment names."""

from __future__ import annotations

from .allocators import Allocator, CachingAllocator, ContiguousAllocator, PagedAllocator
from .allocators.radix import RadixAllocator
from .batch import RunningBatch
from .deployment import Deployment
from .schedulers import SCHEDULERS, Scheduler


def make_allocator(deployment: Deployment, num_gpu_blocks: int) -> Allocator:
    """The allocator that a deployment names, with an empty pool."""
    if deployment.enable_prefix_caching and deployment.prefix_cache == "radix":
        return RadixAllocator(
            num_gpu_blocks=num_gpu_blocks,
            block_size=deployment.block_size,
            watermark=deployment.watermark,
            reserve_full_isl=deployment.scheduler_reserve_full_isl,
        )
    if deployment.allocator == "paged" and deployment.enable_prefix_caching:
        return CachingAllocator(
            num_gpu_blocks=num_gpu_blocks,
            block_size=deployment.block_size,
            watermark=deployment.watermark,
            reserve_full_isl=deployment.scheduler_reserve_full_isl,
            asynchronous=deployment.async_scheduling,
        )
    if deployment.allocator == "paged":
        return PagedAllocator(
            num_gpu_blocks=num_gpu_blocks,
            block_size=deployment.block_size,
            watermark=deployment.watermark,
            reserve_full_isl=deployment.scheduler_reserve_full_isl,
        )
    return ContiguousAllocator(
        pool_slots=num_gpu_blocks * deployment.block_size,
        max_model_len=deployment.max_model_len,
        reservation=deployment.reservation,
        placement=deployment.placement,
    )


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
