"""Kernels that only move activations: norms, rotary embedding, KV write, activation, sampling.

    t = max(3 us, bytes / (0.8 B * c)),     c = 2.5 while the bytes fit the L2 cache, else 1

3 us and 0.8 are ``aiconfigurator-core``'s constants for memory-bound operators; ``c`` is assumed:
what a layer has just written is still in the cache, which is two to three times as fast as memory.
"""

from __future__ import annotations

from typing import NamedTuple

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from ..model_spec import ModelSpec
from ..step_cost import NS_PER_S
from .shapes import num_mixers

LEAST_NS = 3000.0
READ = 0.8
CACHED = 2.5
VALUE_BYTES = 2
LOGIT_BYTES = 4
LOGIT_PASSES = 3
SAMPLING_KERNELS = 6
"""Cast, penalties or temperature, arg-max or top-k, gather, copy to the host (assumed)."""
SOURCE = "aiconfigurator-core system file (3 us a kernel, 0.8 of the bandwidth)"


class Kernel(NamedTuple):
    """One kernel, launched so many times a step."""

    launches: int
    values_per_token: float


def kernels(model: ModelSpec, tensor_parallel_size: int) -> tuple[Kernel, ...]:
    """Of all layers and the final norm, each norm fused with its residual."""
    size, layers, h = tensor_parallel_size, model.num_layers, model.hidden_size
    dim = max((g.head_dim for g in model.layers), default=0)
    heads = model.num_heads / size
    kv = max((g.heads_per_gpu(size) for g in model.layers), default=1)
    width = model.intermediate_size or model.shared_expert_intermediate_size
    made = [
        Kernel(num_mixers(model) + 1, 4.0 * h),  # norm: input and residual, both read and written
        Kernel(layers, 2.0 * (heads + kv) * dim),  # rotary embedding, in place
        Kernel(layers, 4.0 * kv * dim),  # keys and values into the blocks
    ]
    if width:
        made.append(Kernel(layers, 3.0 * width / size))  # gate and up read, product written
    return tuple(made)


def layers_ns(gpu: GPUSpec, made: tuple[Kernel, ...], tokens: int) -> Estimate:
    """All of them, for so many tokens."""
    total, moved = 0.0, 0.0
    for kernel in made:
        size = kernel.values_per_token * VALUE_BYTES * tokens
        total += kernel.launches * _ns(gpu, size)
        moved += kernel.launches * _from_memory(gpu, size)
    return Estimate(total, moved, 0.0, 0.0, False)


def sampling_ns(gpu: GPUSpec, vocab_size: int, num_rows: int) -> Estimate:
    """From logits to tokens."""
    if not num_rows:
        return NOTHING
    size = float(num_rows * vocab_size * LOGIT_BYTES)
    ns = LOGIT_PASSES * _ns(gpu, size) + (SAMPLING_KERNELS - LOGIT_PASSES) * LEAST_NS
    return Estimate(ns, LOGIT_PASSES * _from_memory(gpu, size), 0.0, 0.0, False)


def _from_memory(gpu: GPUSpec, size: float) -> float:
    """Bytes that memory moves: none where the cache still has them."""
    return size if size >= (gpu.l2_bytes or 0) else 0.0


def _ns(gpu: GPUSpec, size: float) -> float:
    rate = gpu.memory_bandwidth_bytes_per_s * READ
    if size < (gpu.l2_bytes or 0):
        rate *= CACHED
    return max(LEAST_NS, NS_PER_S * size / rate)
