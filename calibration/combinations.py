"""Several models, GPUs, KV dtypes and tensor-parallel sizes under the same flags, side by side."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from .demand import Demand
from .engines import LATEST, load_engine
from .gpus import GPUSpec, known_gpus, load_gpu
from .kv_dtypes import kv_dtype
from .memory import plan_memory
from .memory_budget import MemoryBudget
from .model_spec import ModelSpec
from .models import load_model
from .need import Holder, Need, holders, need_of, smallest_holder
from .quantized import quantized
from .speculative import read_speculation
from .stages import stage_weight_bytes, stages_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One demand on one combination: what it takes there, and where else it would fit."""

    demand: Demand
    need: Need | None
    """None where the combination itself does not fit."""
    here: Holder | None
    """The fewest GPUs of this combination's kind that hold it in one server."""
    elsewhere: tuple[Holder, ...]
    """Those of the catalogue, the fewest and smallest first."""

    def to_json(self) -> dict[str, Any]:
        """The need's values, and where it fits."""
        return {
            "num_requests": self.demand.num_requests,
            "tokens": self.demand.tokens,
            **({"fits": False} if self.need is None else self.need.to_json()),
            "smallest_tensor_parallel_size": self.here and self.here.tensor_parallel_size,
            "fits_on": [holder.to_json() for holder in self.elsewhere],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """One server of the comparison: its budget, or why there is none."""

    model: ModelSpec
    gpu: GPUSpec
    kv_cache_dtype: str
    """As asked for: ``auto`` stays."""
    tensor_parallel_size: int
    pipeline_parallel_size: int
    max_model_len: int
    """The flag, else the model's own length: not cut to the pool."""
    length_source: str
    """``max_model_len`` or ``model``."""
    budget: MemoryBudget | None = None
    refusal: str = ""
    """One sentence where there is no budget."""
    reason: str = ""
    """The same in a few words."""
    answers: tuple[Answer, ...] = ()

    @property
    def num_gpus(self) -> int:
        """Of one server."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def weight_bytes(self) -> int:
        """On one GPU: of the stage that decides the pool; without a pool, of the heaviest."""
        if self.budget is not None:
            return self.budget.lines[0].bytes
        return _heaviest(self.model, self.tensor_parallel_size, self.pipeline_parallel_size)

    @property
    def longest_tokens(self) -> int:
        """The longest single request that is served: what the pool holds, cut to the length."""
        if self.budget is None:
            return 0
        lengths = range(1, self.max_model_len + 1)
        return bisect_right(lengths, self.budget.usable_blocks, key=self.budget.blocks_of)

    @property
    def length_words(self) -> str:
        """Whose length it is, for a sentence."""
        return "max_model_len" if self.length_source == "max_model_len" else "model's own length"

    @property
    def length_bound(self) -> str:
        """What limits it: ``KV pool``, ``model`` or ``max_model_len``."""
        return self.length_source if self.longest_tokens == self.max_model_len else "KV pool"


def load_combinations(
    hardware: Mapping[str, Any],
    flags: Mapping[str, Any],
    demands: Sequence[Demand] = (),
    *,
    speculative_config: str | None = None,
) -> tuple[Combination, ...]:
    """Every combination, the model slowest.

    Args:
        hardware: ``gpu`` and ``model``, several names each, the GPUs' ``price`` and the models'
            ``quantization`` or None.
        flags: those of ``plan_memory``; ``kv_cache_dtype`` and ``tensor_parallel_size`` several.
        demands: what each combination is asked to hold.
        speculative_config: vLLM's JSON of a drafter.

    Raises:
        ValueError: an unknown name, a size that is not positive, more stages than layers, or no
            combination that fits (the sentence is the first one's).
    """
    dtypes, sizes = flags["kv_cache_dtype"], flags["tensor_parallel_size"]
    for dtype in dtypes:
        kv_dtype(dtype)
    for size in sizes:
        if size <= 0:
            raise ValueError(f"tensor_parallel_size(={size}) must be > 0.")
    stages = flags.get("pipeline_parallel_size", 1)
    models = [_model(name, hardware) for name in hardware["model"]]
    for model in models:
        stages_of(model, stages)
    drafters = {model.name: read_speculation(speculative_config, model) for model in models}
    gpus = [load_gpu(name, price_usd_per_hour=hardware["price"]) for name in hardware["gpu"]]
    found = tuple(
        _combination(
            model,
            gpu,
            {
                **flags,
                "kv_cache_dtype": dtype,
                "tensor_parallel_size": size,
                "speculation": drafters[model.name],
            },
            demands,
        )
        for model, gpu, dtype, size in product(models, gpus, dtypes, sizes)
    )
    if all(one.budget is None for one in found):
        raise ValueError(found[0].refusal)
    return found


def _model(name: str, hardware: Mapping[str, Any]) -> ModelSpec:
    return quantized(load_model(name), hardware.get("quantization"))


def _combination(
    model: ModelSpec, gpu: GPUSpec, flags: Mapping[str, Any], demands: Sequence[Demand]
) -> Combination:
    given = flags.get("max_model_len")
    length = model.max_position_embeddings if given is None else given
    budget, refusal = None, ""
    try:
        budget = plan_memory(model=model, gpu=gpu, **flags)
    except ValueError as error:
        refusal = str(error)
    return Combination(
        model=model,
        gpu=gpu,
        kv_cache_dtype=flags["kv_cache_dtype"],
        tensor_parallel_size=flags["tensor_parallel_size"],
        pipeline_parallel_size=flags.get("pipeline_parallel_size", 1),
        max_model_len=length,
        length_source="model" if given is None else "max_model_len",
        budget=budget,
        refusal=refusal,
        reason="" if budget else _reason(model, gpu, flags),
        answers=tuple(
            Answer(
                demand=demand,
                need=None if budget is None else need_of(budget, demand, max_model_len=length),
                here=smallest_holder(model, gpu, demand, flags),
                elsewhere=holders(model, known_gpus(), demand, flags),
            )
            for demand in demands
        ),
    )


def _heaviest(model: ModelSpec, tensor_parallel_size: int, pipeline_parallel_size: int) -> int:
    stages = stages_of(model, pipeline_parallel_size)
    return max(stage_weight_bytes(model, stage, tensor_parallel_size) for stage in stages)


def _reason(model: ModelSpec, gpu: GPUSpec, flags: Mapping[str, Any]) -> str:
    size = flags["tensor_parallel_size"]
    share = flags.get("gpu_memory_utilization")
    if share is None:
        share = load_engine(flags.get("engine") or LATEST).gpu_memory_utilization
    if model.num_heads % size:
        return "TP does not divide the heads"
    heaviest = _heaviest(model, size, flags.get("pipeline_parallel_size", 1))
    if heaviest >= gpu.total_memory_bytes * share:
        return "weights do not fit"
    try:
        plan_memory(model=model, gpu=gpu, **{**flags, "max_model_len": None})
    except ValueError:
        return "does not fit"
    return "max_model_len does not fit"
