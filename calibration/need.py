"""The memory that N requests of L tokens take on a server, and where they would fit.

    blocks = (N - 1) * steady blocks of L + blocks of L at admission
    memory = weights + activations, runtime, NCCL, graphs + (blocks + 1 null block) * block bytes

all on one GPU of the tensor-parallel group. Without window layers ``blocks`` is N times those of
one request. The utilisation that would do is ``memory / total``; it must leave the CUDA context,
which the engine has created before it measures what is free.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .demand import Demand
from .engine_defaults import batch_defaults
from .engines import LATEST, load_engine
from .gpus import GIB, GPUSpec
from .memory import plan_memory
from .memory_budget import MemoryBudget
from .memory_refusal import LARGEST_TENSOR_PARALLEL
from .model_spec import ModelSpec

CUDA_CONTEXT_BYTES = 512 << 20
"""Assumed: what a process keeps on the GPU before it asks for anything."""
NODE_GPUS = 8
"""GPUs of one machine: the search over the catalogue goes no further."""
PINNED = (
    "num_gpu_blocks_override",
    "kv_cache_memory_bytes",
    "non_kv_memory_bytes",
    "pipeline_parallel_size",
)
"""Flags that give memory of one GPU, or the stages: a search over GPUs leaves them out."""
OUTSIDE = ("kv_cache", "outside")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a demand takes on one GPU of a server, and what its flags say to it."""

    demand: Demand
    request_blocks: int
    """Of one request once it is admitted, at its largest."""
    admission_blocks: int
    """Of one request as the engine counts it; more only with window layers."""
    blocks: int
    kv_cache_bytes: int
    """Of those blocks."""
    fixed_bytes: int
    """Weights and all else that is not the pool."""
    memory_bytes: int
    """Fixed, the blocks and the null block."""
    gpu_memory_utilization: float | None
    """The least that suffices, rounded up; None where the GPU is too small."""
    num_held: int
    """Requests of this length that the pool as it is holds at once."""
    replicas: int | None
    """Such servers that hold all; None where one serves no such request."""
    bound_by: tuple[str, ...]
    """What stands against it: ``KV pool``, ``max_num_seqs``, ``max_model_len``, or ``GPU memory``
    where the pool as given is larger than the GPU."""
    in_doubt: bool
    """The pool's error band holds what is needed: the estimates decide whether it fits."""
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether this server with its flags holds all of them at once."""
        return not self.bound_by

    def to_json(self) -> dict[str, Any]:
        """Plain values, but not the demand."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "demand"}
        lists = {"bound_by": list(self.bound_by), "notes": list(self.notes)}
        return {"fits": self.fits, **values, **lists}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A GPU with the smallest tensor-parallel size (a power of 2) that holds a demand."""

    gpu: GPUSpec
    tensor_parallel_size: int
    memory_bytes: int
    """Of one GPU, as in :class:`Need`."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; the price is that of all its GPUs."""
        price = self.gpu.price_usd_per_hour
        return {
            "gpu": self.gpu.name,
            "tensor_parallel_size": self.tensor_parallel_size,
            "memory_bytes": self.memory_bytes,
            "price_usd_per_hour": None if price is None else price * self.tensor_parallel_size,
        }


def need_of(budget: MemoryBudget, demand: Demand, *, max_model_len: int) -> Need:
    """What the demand takes of this server; ``max_model_len`` is the flag, or the model's own."""
    tokens, wanted = demand.tokens, demand.num_requests
    blocks = budget.blocks_for(wanted, tokens)
    fixed = sum(line.bytes for line in budget.lines if line.name not in OUTSIDE)
    memory = fixed + (blocks + 1) * budget.block_bytes
    held, seats = budget.steady_requests_of(tokens), budget.max_num_seqs
    bounds = {
        "KV pool": held < wanted,
        "max_num_seqs": seats < wanted,
        "max_model_len": max_model_len < tokens,
        "GPU memory": any(line.bytes < 0 for line in budget.lines),
    }
    serves = held and not bounds["max_model_len"] and not bounds["GPU memory"]
    utilization = _utilization(memory, budget.total_bytes)
    doubt = _doubt(budget, demand, (blocks + 1) * budget.block_bytes)
    return Need(
        demand=demand,
        request_blocks=budget.steady_blocks_of(tokens),
        admission_blocks=budget.blocks_of(tokens),
        blocks=blocks,
        kv_cache_bytes=blocks * budget.block_bytes,
        fixed_bytes=fixed,
        memory_bytes=memory,
        gpu_memory_utilization=utilization,
        num_held=held,
        replicas=-(-wanted // min(held, seats)) if serves else None,
        bound_by=tuple(name for name, binds in bounds.items() if binds),
        in_doubt=bool(doubt),
        notes=(*_notes(budget, demand, max_model_len, blocks, utilization), *doubt),
    )


def _utilization(memory_bytes: int, total_bytes: int) -> float | None:
    found = math.ceil(memory_bytes / total_bytes * 1000) / 1000
    return found if found * total_bytes + CUDA_CONTEXT_BYTES <= total_bytes else None


def _doubt(budget: MemoryBudget, demand: Demand, needed_bytes: int) -> tuple[str, ...]:
    low, high = budget.kv_cache_low_bytes, budget.kv_cache_high_bytes
    if not low < needed_bytes <= high:
        return ()
    return (
        f"{demand} needs {needed_bytes / GIB:.2f} GiB of a KV pool that is between "
        f"{low / GIB:.2f} and {high / GIB:.2f} GiB: whether it fits is within the error of the "
        "estimate.",
    )


def _notes(
    budget: MemoryBudget,
    demand: Demand,
    max_model_len: int,
    blocks: int,
    utilization: float | None,
) -> tuple[str, ...]:
    notes, wanted, tokens = [], demand.num_requests, demand.tokens
    if budget.max_num_seqs < wanted:
        notes.append(
            f"max_num_seqs(={budget.max_num_seqs}) lets no more than {budget.max_num_seqs} of the "
            f"{wanted} run at once; --max-num-seqs {wanted} would, and takes memory of its own."
        )
    if max_model_len < tokens:
        notes.append(
            f"Requests of {tokens} tokens pass the max_model_len(={max_model_len}) of this server; "
            "the memory is what they would take."
        )
    elif utilization is not None and budget.blocks_of(max_model_len) > blocks:
        notes.append(
            f"A pool for {demand} alone holds no request of max_model_len(={max_model_len}): with "
            f"gpu_memory_utilization {utilization:g} also give --max-model-len {tokens}."
        )
    return tuple(notes)


def smallest_holder(
    model: ModelSpec,
    gpu: GPUSpec,
    demand: Demand,
    flags: Mapping[str, Any],
    *,
    most_gpus: int = LARGEST_TENSOR_PARALLEL,
) -> Holder | None:
    """The fewest of these GPUs, 1, 2, 4 ..., that hold the demand under these flags, if any do.

    ``max_num_seqs`` is raised to the demand, so that memory alone decides.
    """
    flags = {name: value for name, value in flags.items() if name not in PINNED}
    engine = load_engine(flags.get("engine") or LATEST)
    seats = flags.get("max_num_seqs") or batch_defaults(gpu, engine=engine)[1]
    flags |= {"max_num_seqs": max(seats, demand.num_requests)}
    size = 1
    while size <= most_gpus and model.num_heads % size == 0:
        try:
            budget = plan_memory(model=model, gpu=gpu, **(flags | {"tensor_parallel_size": size}))
        except ValueError:  # too small: that is what is asked
            pass
        else:
            need = need_of(budget, demand, max_model_len=demand.tokens)
            if need.fits:
                return Holder(gpu=gpu, tensor_parallel_size=size, memory_bytes=need.memory_bytes)
        size *= 2
    return None


def holders(
    model: ModelSpec, gpus: Iterable[GPUSpec], demand: Demand, flags: Mapping[str, Any]
) -> tuple[Holder, ...]:
    """Which of these GPUs hold the demand in one machine; the fewest and smallest first."""
    found = (smallest_holder(model, gpu, demand, flags, most_gpus=NODE_GPUS) for gpu in gpus)
    order = [holder for holder in found if holder is not None]
    return tuple(sorted(order, key=lambda h: (h.tensor_parallel_size, h.gpu.total_memory_bytes)))
