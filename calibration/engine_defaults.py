"""The engine's own defaults: batch limits by card, CUDA-graph capture sizes.

Source: vLLM 0.33 ``engine/arg_utils.py get_batch_defaults`` and ``config/vllm.py``; what an older
version does otherwise is in ``engines``.
"""

from __future__ import annotations

from bisect import bisect_left

from .engines import LATEST, EngineVersion, load_engine
from .gpus import GIB, GPUSpec

BLOCK_SIZE = 16
MAX_CAPTURE_TOKENS = 512
LARGE_GIB = 160
MEDIUM_GIB = 70


def batch_defaults(
    gpu: GPUSpec, *, usage: str = "server", engine: EngineVersion | None = None
) -> tuple[int, int]:
    """``(max_num_batched_tokens, max_num_seqs)`` for the API ``server`` or the ``offline`` class.

    The engine compares the card's size as labelled; 70 GiB parts the 80 GB cards from the small
    ones, and the A100 counts as small. Older engines have no tier for the largest cards.
    """
    version = engine or load_engine(LATEST)
    total_gib = gpu.total_memory_bytes / GIB
    offline = usage == "offline"
    if total_gib >= LARGE_GIB and version.has_top_tier:
        return 16_384, 1024
    if total_gib >= MEDIUM_GIB and "a100" not in gpu.title.lower():
        return (16_384 if offline else 8192), 1024
    return (8192 if offline else 2048), 256


def capture_sizes(
    max_num_seqs: int,
    max_num_batched_tokens: int | None = None,
    *,
    largest_tokens: int = MAX_CAPTURE_TOKENS,
) -> tuple[int, ...]:
    """Batch sizes that the engine captures as CUDA graphs: 1, 2, 4, 8, 16 ... 256, 272 ... 512."""
    largest = min(2 * max_num_seqs, largest_tokens)
    if max_num_batched_tokens is not None:
        largest = min(largest, max_num_batched_tokens)
    sizes = [*(1, 2, 4), *range(8, 256, 8), *range(256, largest_tokens + 1, 16)]
    return tuple(size for size in sizes if size <= largest)


def padded(tokens: int, sizes: tuple[int, ...]) -> int:
    """The captured size that a batch of so many tokens runs as; itself above the largest."""
    index = bisect_left(sizes, tokens)
    return sizes[index] if index < len(sizes) else tokens
