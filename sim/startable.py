"""What can be simulated but not started: flags that the engine itself refuses on a card.

From vLLM's sources: the attention backends for CUDA take blocks of a multiple of 16 tokens
(``get_supported_kernel_block_sizes`` of FlashAttention, Triton and FlashInfer; vllm pull requests
25954 and 39807). A cache in fp8 is read by FlashAttention from Hopper on, and by the Triton backend
from compute capability 8.9 on ("type fp8e4nv not supported in this architecture" before it; vllm
issue 26431).
"""

from __future__ import annotations

from .server import Server

BLOCK_MULTIPLE = 16
BEFORE_FP8 = ("volta", "turing", "ampere")
"""Generations without units for fp8."""
E4M3 = ("fp8", "fp8_e4m3")


def why_not_started(server: Server) -> str:
    """The clause that says why vLLM would not serve with these flags; empty where it would."""
    flags, gpu = server.deployment, server.gpu
    if flags.scheduler != "vllm" or flags.allocator != "paged":
        return ""
    if flags.block_size % BLOCK_MULTIPLE:
        return (
            f"vLLM's attention kernels take blocks of a multiple of {BLOCK_MULTIPLE} tokens, not "
            f"block_size {flags.block_size}"
        )
    if gpu.generation in BEFORE_FP8 and flags.kv_cache_dtype in E4M3:
        return (
            f"no attention kernel that vLLM chooses on {gpu.generation.capitalize()} reads "
            f"kv_cache_dtype {flags.kv_cache_dtype}"
        )
    return ""
