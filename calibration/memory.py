"""What fits: from GPU, model and flags to the KV pool, line by line and to the block.

    requested = ceil(total * gpu_memory_utilization)
    KV pool   = requested - weights - activation peak - runtime - collectives [- CUDA graphs]

Of a pipeline every stage is planned; all use as many blocks as the one with the fewest
(``stages``).
``total`` is what the framework sees. The CUDA context is not in ``requested``: the engine measures
the free memory after creating it. The other terms follow from the shapes of the engine's profiling
run (``footprint``), which of them count from its version (``engines``), blocks from its grouping
rules (``kv_blocks``). Source: vLLM ``v1/worker/gpu_worker.py``, ``utils/mem_utils.py``.
"""

from __future__ import annotations

import math
from dataclasses import replace

from .allocation import lost_bytes
from .engine_defaults import BLOCK_SIZE, batch_defaults
from .engines import LATEST, load_engine
from .gpus import GIB, GPUSpec
from .kv_blocks import AUTO, BlockPlan, plan_blocks
from .kv_groups import layer_caches
from .memory_budget import MemoryBudget, MemoryLine, scaled_line
from .memory_refusal import does_not_fit
from .model_spec import ModelSpec
from .overhead import overhead_lines
from .server_flags import ServerFlags
from .speculative import Speculation
from .stages import stage_weight_bytes, stages_of

__all__ = ["MemoryBudget", "MemoryLine", "plan_memory"]


def plan_memory(
    *,
    model: ModelSpec,
    gpu: GPUSpec,
    engine: str = LATEST,
    block_size: int = BLOCK_SIZE,
    gpu_memory_utilization: float | None = None,
    kv_cache_dtype: str = "auto",
    tensor_parallel_size: int = 1,
    max_num_seqs: int | None = None,
    max_num_batched_tokens: int | None = None,
    max_model_len: int | None = None,
    num_gpu_blocks_override: int | None = None,
    kv_cache_memory_bytes: int | None = None,
    non_kv_memory_bytes: int | None = None,
    enforce_eager: bool = False,
    hybrid_kv_cache: bool | None = None,
    async_scheduling: bool = True,
    speculation: Speculation | None = None,
    pipeline_parallel_size: int = 1,
) -> MemoryBudget:
    """The budget of one GPU of a server with these flags; of a pipeline, of its fullest stage.

    Without ``max_model_len`` the model's own length is taken, cut to what the pool holds (a note
    says so); a length that is given must fit. Utilisation and batch limits default to those of the
    ``engine`` version, the latter by card. ``non_kv_memory_bytes`` stands for every line beside
    weights and pool.
    ``hybrid_kv_cache=None`` is the engine's choice: on, but off for chunked-local attention.

    Raises:
        ValueError: an unknown engine, a flag out of its range, weights or one request that do not
            fit, or a dtype, tensor-parallel or pipeline-parallel size that the model does not
            allow.
    """
    version = load_engine(engine)
    tokens, seqs = batch_defaults(gpu, engine=version)
    if gpu_memory_utilization is None:
        gpu_memory_utilization = version.gpu_memory_utilization
    if hybrid_kv_cache is None:
        hybrid_kv_cache = all(group.kind != "chunked_local" for group in model.layers)
    server = ServerFlags(
        model=model,
        gpu=gpu,
        engine=version,
        block_size=block_size,
        gpu_memory_utilization=gpu_memory_utilization,
        kv_cache_dtype=model.resolve_kv_dtype(kv_cache_dtype),
        tensor_parallel_size=tensor_parallel_size,
        max_num_seqs=seqs if max_num_seqs is None else max_num_seqs,
        max_num_batched_tokens=tokens if max_num_batched_tokens is None else max_num_batched_tokens,
        max_model_len=max_model_len,
        num_gpu_blocks_override=num_gpu_blocks_override,
        kv_cache_memory_bytes=kv_cache_memory_bytes,
        non_kv_memory_bytes=non_kv_memory_bytes,
        enforce_eager=enforce_eager,
        hybrid_kv_cache=hybrid_kv_cache,
        async_scheduling=async_scheduling,
        speculation=speculation,
        pipeline_parallel_size=pipeline_parallel_size,
    )
    alike: dict[tuple[int, bool, bool], int] = {}
    for stage in stages_of(model, pipeline_parallel_size):
        alike.setdefault((stage.num_layers, stage.is_first, stage.is_last), stage.index)
    plans = [_plan(replace(server, stage_index=index)) for index in alike.values()]
    return min(plans, key=lambda plan: (plan.num_gpu_blocks, -plan.block_bytes))


def _plan(server: ServerFlags) -> MemoryBudget:
    lines = _fixed_lines(server)
    available = _available_bytes(server, lines)
    blocks = _fitted_blocks(server, available)
    override = server.num_gpu_blocks_override
    if override is not None:
        available = override * blocks.block_bytes
    return _budget(server, lines, available, blocks)


def _requested_bytes(server: ServerFlags) -> int:
    return math.ceil(server.gpu.total_memory_bytes * server.gpu_memory_utilization)


def _fixed_lines(server: ServerFlags) -> tuple[MemoryLine, ...]:
    """Everything but the pool and what lies outside the requested memory."""
    size = server.tensor_parallel_size
    weights = stage_weight_bytes(server.model, server.stage, size)
    weights += server.stage.part(lost_bytes(server.model, size))
    line = scaled_line("weights", weights, f"computed from {server.model.source}", 1.0, 1.02)
    lines = (line, *_draft_lines(server))
    pinned = server.non_kv_memory_bytes
    if pinned is not None:
        return (*lines, scaled_line("non_kv", pinned, "given by the user", 1.0, 1.0))
    return (*lines, *overhead_lines(server))


def _draft_lines(server: ServerFlags) -> tuple[MemoryLine, ...]:
    drafter = server.speculation
    if drafter is None or not drafter.weights:
        return ()
    size = drafter.weight_bytes_per_gpu(server.tensor_parallel_size)
    return (scaled_line("draft_weights", size, f"computed from {drafter.drafter}", 1.0, 1.02),)


def _available_bytes(server: ServerFlags, lines: tuple[MemoryLine, ...]) -> int:
    if server.kv_cache_memory_bytes is not None:
        return server.kv_cache_memory_bytes
    available = _requested_bytes(server) - sum(line.bytes for line in _counted(server, lines))
    if available <= 0:
        raise ValueError(does_not_fit(server, lines, _requested_bytes(server)))
    return available


def _counted(server: ServerFlags, lines: tuple[MemoryLine, ...]) -> list[MemoryLine]:
    """The lines that the engine takes from the requested memory."""
    counts_graphs = server.engine.counts_graphs
    return [line for line in lines if counts_graphs or line.name != "cuda_graphs"]


def _fitted_blocks(server: ServerFlags, available: int) -> BlockPlan:
    caches = layer_caches(
        server.kv_layers,
        block_size=server.block_size,
        kv_cache_dtype=server.kv_cache_dtype,
        tensor_parallel_size=server.tensor_parallel_size,
        num_states=1 + (server.speculation.num_speculative_tokens if server.speculation else 0),
    )

    def plan(max_model_len: int) -> BlockPlan:
        return plan_blocks(
            caches,
            available_bytes=available,
            max_model_len=max_model_len,
            max_in_flight_tokens=server.max_in_flight_tokens,
            hybrid_kv_cache=server.hybrid_kv_cache,
            num_gpu_blocks_override=server.num_gpu_blocks_override,
            stage=server.stage,
        )

    if server.max_model_len is not None:
        return plan(server.max_model_len)
    longest = plan(AUTO).max_model_len
    return plan(min(longest, server.model.max_position_embeddings))


def _budget(
    server: ServerFlags, lines: tuple[MemoryLine, ...], available: int, blocks: BlockPlan
) -> MemoryBudget:
    pinned = server.num_gpu_blocks_override or server.kv_cache_memory_bytes
    counted = [] if pinned else _counted(server, lines)
    slack_low = sum(line.high_bytes - line.bytes for line in counted)
    slack_high = sum(line.bytes - line.low_bytes for line in counted)
    low, high = max(available - slack_low, 0), available + slack_high
    pool = MemoryLine(
        name="kv_cache",
        bytes=available,
        source="given by the user" if pinned else "computed: what the other lines leave",
        low_bytes=low,
        high_bytes=high,
    )
    return MemoryBudget(
        lines=(*lines, pool, _outside(server, lines, available)),
        total_bytes=server.gpu.total_memory_bytes,
        requested_bytes=_requested_bytes(server),
        gpu_memory_utilization=server.gpu_memory_utilization,
        kv_cache_bytes=available,
        kv_cache_low_bytes=low,
        kv_cache_high_bytes=high,
        block_size=blocks.scheduler_block_size,
        block_bytes=blocks.block_bytes,
        num_gpu_blocks=blocks.num_blocks,
        kv_cache_tokens=_tokens(blocks),
        kv_bytes_per_token=server.kv_bytes_per_token,
        index_bytes_per_token=server.index_bytes_per_token,
        max_model_len=blocks.max_model_len,
        max_num_batched_tokens=server.max_num_batched_tokens,
        max_num_seqs=server.max_num_seqs,
        max_concurrency=blocks.max_concurrency,
        kv_groups=blocks.groups,
        max_in_flight_tokens=server.max_in_flight_tokens,
        speculative_slots=server.speculation.slots if server.speculation else 0,
        notes=_notes(server, lines, available, blocks),
    )


def _tokens(blocks: BlockPlan) -> int:
    """Slots where every layer keeps every token, else the engine's own figure."""
    if len(blocks.groups) == 1 and blocks.groups[0].window_tokens is None:
        return blocks.num_blocks * blocks.groups[0].block_size
    return blocks.capacity_tokens


def _outside(server: ServerFlags, lines: tuple[MemoryLine, ...], available: int) -> MemoryLine:
    left = server.gpu.total_memory_bytes - available - sum(line.bytes for line in lines)
    return scaled_line(
        "outside", left, "computed: not requested; the CUDA context and other processes", 1.0, 1.0
    )


def _notes(
    server: ServerFlags, lines: tuple[MemoryLine, ...], available: int, blocks: BlockPlan
) -> tuple[str, ...]:
    notes = []
    if (doubt := server.model.architecture_note) is not None:
        notes.append(f"{server.model.name}: {doubt}.")
    if server.pipeline_parallel_size > 1:
        notes.append(f"The pool is that of {server.stage}, which holds the fewest blocks.")
    own, length = server.model.max_position_embeddings, blocks.max_model_len
    if server.max_model_len is None and length < own:
        notes.append(
            f"max_model_len is cut to {length}, the longest request that the pool holds "
            f"({server.model.name} allows {own}); the engine would refuse to start without it."
        )
    if length > own:
        notes.append(f"max_model_len(={length}) passes the {own} that {server.model.name} allows.")
    if blocks.scheduler_block_size != server.block_size:
        notes.append(
            f"block_size(={server.block_size}) becomes {blocks.scheduler_block_size}: layers of "
            "different kinds share pages."
        )
    if any(group.window_tokens is not None for group in blocks.groups):
        notes.append(
            "Requests of a length are counted as the engine admits them: each window group with "
            f"{server.max_in_flight_tokens} tokens in flight beside its window; once admitted they "
            "need less, so more may run at once (kvsim simulate)."
        )
    if any(group.tokens_per_state > 1 for group in server.kv_layers):
        notes.append(
            "Compressed attention: its latents, windows and indexer keys are counted, how the "
            "engine packs them is approximated, the buffers of its compressors are left out."
        )
    if server.speculation is not None:
        notes.append(server.speculation.note())
    over = available + sum(line.bytes for line in lines) - server.gpu.total_memory_bytes
    if over > 0:
        notes.append(f"The KV pool as given takes {over / GIB:.1f} GiB more than the GPU has.")
    return tuple(notes)
