"""What the framework's allocator takes for weights beyond their size.

A tensor of 10 MiB and more gets a segment of its own, rounded up to 2 MiB; what is left over is
given to others only where it is larger than 1 MiB. Qwen2.5-72B on two GPUs loses 1 MiB for each of
its 80 down projections of 231 MiB. Source: PyTorch ``c10/cuda/CUDACachingAllocator``
(``kMinLargeAlloc``, ``kRoundLarge``, ``kSmallSize``), and the logs of
``tests/calibration/startups.json``. Counted are the two tensors of attention and of a dense MLP.
"""

from __future__ import annotations

from .model_spec import KVLayers, ModelSpec

MIB = 1 << 20
LARGE_BYTES, ROUNDED_BYTES, SPLIT_BYTES = 10 * MIB, 2 * MIB, MIB
PROJECTED_KINDS = ("full", "sliding_window", "chunked_local")


def lost_bytes(model: ModelSpec, tensor_parallel_size: int = 1) -> int:
    """Bytes that rounding costs on one GPU."""
    bits = {group.role: group.bits_per_parameter for group in model.weights}
    lost = 0
    for group in model.layers:
        if group.kind in PROJECTED_KINDS:
            sizes = _attention_tensors(model, group)
            lost += group.num_layers * _lost(sizes, bits["attention"], tensor_parallel_size)
    if "mlp" in bits and model.num_experts == 0:
        width = model.hidden_size * model.intermediate_size
        lost += model.num_layers * _lost((2 * width, width), bits["mlp"], tensor_parallel_size)
    return lost


def _attention_tensors(model: ModelSpec, group: KVLayers) -> tuple[int, int]:
    """Elements of the joined q, k, v projection and of the output projection."""
    query = model.num_heads * group.head_dim
    joined = query + group.num_kv_heads * (group.head_dim + group.head_dim_v)
    return model.hidden_size * joined, model.hidden_size * query


def _lost(elements: tuple[int, int], bits: float, tensor_parallel_size: int) -> int:
    sizes = [round(number * bits / 8) // tensor_parallel_size for number in elements]
    gaps = [-size % ROUNDED_BYTES for size in sizes if size >= LARGE_BYTES]
    return sum(gap for gap in gaps if gap <= SPLIT_BYTES)
