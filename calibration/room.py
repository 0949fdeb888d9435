"""Whether a batch can lie on the GPU at all: weights and KV against the card's memory.

    KV of a layer = tokens it keeps * (KV bytes + indexer key) + states of its sequences

A window layer keeps at most its window (and a chunk's new tokens) of each sequence. This is a floor
without activations, blocks and what the framework takes, so that what passes it is sure not to fit.
"""

from __future__ import annotations

from .gpus import GIB, GPUSpec
from .model_spec import KVLayers, ModelSpec
from .stages import Stage, stage_weight_bytes, stages_of
from .step_cost import Batch


def room_notes(
    model: ModelSpec,
    gpu: GPUSpec,
    batch: Batch,
    *,
    kv_cache_dtype: str,
    tensor_parallel_size: int,
    pipeline_parallel_size: int,
) -> tuple[str, ...]:
    """A note where weights, or weights and this batch's KV, pass the memory of one GPU."""
    dtype, size = model.resolve_kv_dtype(kv_cache_dtype), tensor_parallel_size
    sizes = [
        (stage_weight_bytes(model, stage, size), _kv_bytes(model, stage, batch, dtype, size))
        for stage in stages_of(model, pipeline_parallel_size)
    ]
    total, weights = gpu.total_memory_bytes, max(weights for weights, _ in sizes)
    has = f"{gpu.name} has {total / GIB:.2f} GiB"
    if weights >= total:
        return (f"The weights take {weights / GIB:.2f} GiB per GPU, {has}: they do not fit.",)
    weights, kv = max(sizes, key=sum)
    if weights + kv <= total:
        return ()
    return (
        f"This batch's KV takes {kv / GIB:.2f} GiB per GPU beside {weights / GIB:.2f} GiB of "
        f"weights, {has}: it does not fit.",
    )


def _kv_bytes(model: ModelSpec, stage: Stage, batch: Batch, dtype: str, size: int) -> int:
    return sum(
        stage.part(group.num_layers) * _layer_bytes(group, batch, dtype, size)
        for group in model.layers
    )


def _layer_bytes(group: KVLayers, batch: Batch, dtype: str, size: int) -> int:
    if group.kind == "recurrent":
        return (batch.num_decodes + len(batch.chunks)) * -(-group.state_bytes // size)
    each = group.state_bytes_per_token(dtype, size) + group.index_bytes_per_token
    return _tokens(group.window_tokens, batch) * each // group.tokens_per_state


def _tokens(window: int | None, batch: Batch) -> int:
    """Tokens that a layer keeps of the batch."""
    if window is None:
        return batch.decode_context_tokens + sum(new + past for new, past in batch.chunks)
    decodes = min(batch.decode_context_tokens, batch.num_decodes * window)
    return decodes + sum(new + min(past, window) for new, past in batch.chunks)
