"""Swap against recompute for a server, or for a model on a GPU with flags: see ``crossover``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..calibration.costs import step_cost
from ..calibration.engine_defaults import BLOCK_SIZE, batch_defaults
from ..calibration.gpus import GPUSpec
from ..calibration.kv_blocks import bytes_per_block
from ..calibration.kv_groups import KVGroup, group_layers, layer_caches
from ..calibration.model_spec import ModelSpec
from ..calibration.moves import block_moves, profile_for
from ..calibration.stages import stages_of
from ..calibration.step_cost import Batch
from ..traces import Trace
from .backlog import Backlog
from .block_sizes import mean_context
from .crossover import Crossover, crossover
from .sequences import mean_width, shares
from .servable import servable_rows
from .server import Server


def crossover_under(server: Server, trace: Trace, *, backlog: Backlog) -> Crossover | None:
    """That of a server under backlog: a request of the mean context beside those that run.

    None where layers keep different tokens.

    Args:
        server: the chosen, paged one.
        trace: what it serves.
        backlog: of the server, which says how many requests run at once.
    """
    rows = servable_rows(trace, server.deployment, server.num_gpu_blocks)
    served = trace.take(rows)
    context = mean_context(served.prompt_tokens, served.output_tokens)
    forks = shares(trace, server.deployment)
    decodes = backlog.mean_running * (mean_width(trace) if forks else 1.0)
    return crossover_of(server, tokens=max(1, round(context)), num_decodes=round(decodes))


def crossover_of(server: Server, *, tokens: int, num_decodes: int) -> Crossover | None:
    """That of a server with so many requests of so many tokens each at once.

    None where layers keep different tokens: their blocks are not all alike.
    """
    flags = server.deployment
    if flags.kv_groups:
        return None
    room = flags.limits.max_num_batched_tokens
    held = min(tokens, flags.max_model_len)
    return crossover(
        cost=server.cost,
        moves=server.moves,
        block_size=flags.block_size,
        tokens=held,
        longest_tokens=flags.max_model_len,
        max_num_batched_tokens=room,
        batch=_decodes(min(num_decodes, room - 1), held),
    )


def crossover_on(
    model: ModelSpec,
    gpu: GPUSpec,
    flags: Mapping[str, Any],
    *,
    tokens: int,
    batch: Batch | None = None,
) -> Crossover:
    """That of a model on a GPU, without a trace and whatever the memory.

    Every layer keeps every token here. The curve against the length ends at the model's own.

    Args:
        flags: those of ``calibration.costs.step_cost``, with ``step_cost`` for its source.
        tokens: of the preempted request.
        batch: decodes that run meanwhile.

    Raises:
        ValueError: recurrent layers, a flag or a length out of range, a request longer than the
            model's own length, an unknown source.
    """
    if any(layers.kind == "recurrent" for layers in model.layers):
        raise ValueError(
            f"model(={model.name!r}) has recurrent layers: their state is no block to swap."
        )
    given = {name: value for name, value in flags.items() if name != "step_cost"}
    size = given.get("block_size") or BLOCK_SIZE
    limit = given.get("max_num_batched_tokens")
    stages = given.get("pipeline_parallel_size", 1)
    for name, value in (("block_size", given.get("block_size")), ("max_num_batched_tokens", limit)):
        if value is not None and value < 1:
            raise ValueError(f"{name}(={value}) must be > 0.")
    if not 0 < tokens <= model.max_position_embeddings:
        raise ValueError(
            f"tokens(={tokens}) must be from 1 to the {model.max_position_embeddings} of "
            f"{model.name}."
        )
    model.check_tensor_parallel(given.get("tensor_parallel_size", 1))
    groups = _groups(model, given, size)
    found, why = profile_for(gpu, flags["step_cost"], given.get("profile"))
    return crossover(
        cost=step_cost(flags["step_cost"], model=model, gpu=gpu, **given),
        moves=block_moves(
            model=model,
            gpu=gpu,
            block_bytes=bytes_per_block(groups),
            kv_groups=groups,
            profile=found,
            why=why,
        ),
        block_size=size,
        tokens=tokens,
        longest_tokens=model.max_position_embeddings,
        max_num_batched_tokens=stages * (limit or batch_defaults(gpu)[0]),
        batch=batch,
    )


def _groups(model: ModelSpec, flags: Mapping[str, Any], block_size: int) -> list[KVGroup]:
    """All layers as one group, as the fullest stage of a pipeline holds it."""
    caches = layer_caches(
        model.layers,
        block_size=block_size,
        kv_cache_dtype=model.resolve_kv_dtype(flags.get("kv_cache_dtype", "auto")),
        tensor_parallel_size=flags.get("tensor_parallel_size", 1),
    )
    groups = group_layers(caches, hybrid_kv_cache=False)
    stages = stages_of(model, flags.get("pipeline_parallel_size", 1))
    fullest = max(stages, key=lambda stage: stage.num_layers)
    return [group.on_stage(fullest) for group in groups]


def _decodes(number: int, context_tokens: int) -> Batch:
    if number < 1:
        return Batch()
    return Batch(number, number * context_tokens, longest_context_tokens=context_tokens)
