"""The engine's own defaults: batch limits by card, CUDA-graph capture sizes.

Source: vLLM ``engine/arg_utils.py get_batch_defaults`` and ``config/vllm.py`` (V1, 2026).
"""

from __future__ import annotations

from bisect import bisect_left

from .gpus import GIB, GPUSpec

GPU_MEMORY_UTILIZATION = 0.92
"""Since 2026; 0.90 before."""
BLOCK_SIZE = 16
MAX_CAPTURE_TOKENS = 512
LARGE_GIB = 160
MEDIUM_GIB = 70


def batch_defaults(gpu: GPUSpec, *, usage: str = "server") -> tuple[int, int]:
    """``(max_num_batched_tokens, max_num_seqs)`` for the API ``server`` or the ``offline`` class.

    The engine compares the card's size as labelled; 70 GiB parts the 80 GB cards from the small
    ones, and the A100 counts as small.
    """
    total_gib = gpu.total_memory_bytes / GIB
    offline = usage == "offline"
    if total_gib >= LARGE_GIB:
        return 16_384, 1024
    if total_gib >= MEDIUM_GIB and "a100" not in gpu.title.lower():
        return (16_384 if offline else 8192), 1024
    return (8192 if offline else 2048), 256


def capture_sizes(max_num_seqs: int, max_num_batched_tokens: int | None = None) -> tuple[int, ...]:
    """Batch sizes that the engine captures as CUDA graphs: 1, 2, 4, 8, 16 ... 256, 272 ... 512."""
    largest = min(2 * max_num_seqs, MAX_CAPTURE_TOKENS)
    if max_num_batched_tokens is not None:
        largest = min(largest, max_num_batched_tokens)
    sizes = [*(1, 2, 4), *range(8, 256, 8), *range(256, MAX_CAPTURE_TOKENS + 1, 16)]
    return tuple(size for size in sizes if size <= largest)


def padded(tokens: int, sizes: tuple[int, ...]) -> int:
    """The captured size that a batch of so many tokens runs as; itself above the largest."""
    index = bisect_left(sizes, tokens)
    return sizes[index] if index < len(sizes) else tokens
