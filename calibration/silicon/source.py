"""The ``silicon`` step cost: a model's operators on a card with measured tables."""

from __future__ import annotations

from ..engine_defaults import batch_defaults, capture_sizes
from ..gpus import GPUSpec
from ..model_spec import ModelSpec
from ..operator_cost import OperatorCost
from ..step_cost import Band
from .layers import operators
from .systems import SYSTEMS, why_not
from .tables import TableMissing, package_version

BAND = Band(
    low=0.90,
    high=1.12,
    source="assumed, around what the tests find: a served run on an RTX PRO 6000 and the "
    "published decode law of an H100",
)


def silicon_cost(
    *,
    model: ModelSpec,
    gpu: GPUSpec,
    kv_cache_dtype: str = "auto",
    tensor_parallel_size: int = 1,
    enforce_eager: bool = False,
    max_num_seqs: int | None = None,
    async_scheduling: bool = True,
) -> OperatorCost:
    """The cost of a model on a GPU (``max_num_seqs`` defaults to the engine's for the card).

    Raises:
        ValueError: unknown KV dtype, or a tensor-parallel size the heads do not allow.
        TableMissing: the card has no tables, or none of an operator that the model needs.
    """
    if missing := why_not(gpu):
        raise TableMissing(f"{missing}.")
    model.check_tensor_parallel(tensor_parallel_size)
    if max_num_seqs is None:
        max_num_seqs = batch_defaults(gpu)[1]
    if max_num_seqs <= 0:
        raise ValueError(f"max_num_seqs(={max_num_seqs}) must be > 0.")
    dtype = model.resolve_kv_dtype(kv_cache_dtype)
    return OperatorCost(
        model=model,
        gpu=gpu,
        kv_cache_dtype=dtype,
        tensor_parallel_size=tensor_parallel_size,
        capture_sizes=() if enforce_eager else capture_sizes(max_num_seqs),
        async_scheduling=async_scheduling,
        operators=operators(
            model, gpu, kv_cache_dtype=dtype, tensor_parallel_size=tensor_parallel_size
        ),
        source="silicon",
        taken_from=f"aiconfigurator-core {package_version()}, {SYSTEMS[gpu.name].folder}",
        band=BAND,
    )
