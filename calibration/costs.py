"""Step-cost sources by name.

``auto`` is the best there is for the card: ``silicon`` (measured operators) where it has tables,
else ``datasheet`` (roofline). ``measured:`` takes a folder of the card's own kernel times,
``affine:`` three coefficients.
"""

from __future__ import annotations

from collections.abc import Callable

from .affine import AffineCost
from .datasheet import DatasheetCost
from .gpus import GPUSpec
from .model_spec import ModelSpec
from .names import unknown_name
from .pipeline import pipelined
from .step_cost import StepCost


def _datasheet(arguments: str, **deployment: object) -> StepCost:
    if arguments:
        raise ValueError(f"step_cost(='datasheet:{arguments}') takes no arguments.")
    return DatasheetCost.of(**deployment)  # type: ignore[arg-type]  # forwarded from step_cost


def _silicon(arguments: str, **deployment: object) -> StepCost:
    from .silicon import TableMissing, silicon_cost

    if arguments:
        raise ValueError(f"step_cost(='silicon:{arguments}') takes no arguments.")
    try:
        return silicon_cost(**deployment)  # type: ignore[arg-type]  # forwarded from step_cost
    except TableMissing as error:
        raise ValueError(f"step_cost(='silicon') cannot be had: {error}") from None


def _auto(arguments: str, **deployment: object) -> StepCost:
    from .silicon import TableMissing, silicon_cost

    if arguments:
        raise ValueError(f"step_cost(='auto:{arguments}') takes no arguments.")
    try:
        return silicon_cost(**deployment)  # type: ignore[arg-type]  # forwarded from step_cost
    except TableMissing as error:
        why = str(error).rstrip(".")
        return DatasheetCost.of(**deployment, why=why)  # type: ignore[arg-type]  # as above


def _measured(arguments: str, **deployment: object) -> StepCost:
    from .kernel_profile import profile_cost

    if not arguments:
        raise ValueError("step_cost(='measured') needs a folder of kernel times: measured:FOLDER.")
    return profile_cost(arguments, **deployment)  # type: ignore[arg-type]  # as above


def _affine(arguments: str, **deployment: object) -> StepCost:
    return AffineCost.parse(arguments)


SOURCES: dict[str, Callable[..., StepCost]] = {
    "auto": _auto,
    "measured": _measured,
    "silicon": _silicon,
    "datasheet": _datasheet,
    "affine": _affine,
}
DEFAULT = "auto"


def step_cost(
    spec: str,
    *,
    model: ModelSpec,
    gpu: GPUSpec,
    kv_cache_dtype: str = "auto",
    tensor_parallel_size: int = 1,
    max_num_seqs: int | None = None,
    enforce_eager: bool = False,
    async_scheduling: bool = True,
    pipeline_parallel_size: int = 1,
    max_num_batched_tokens: int | None = None,
) -> StepCost:
    """The source that ``spec`` names, for this deployment.

    A pipeline's batches have ``max_num_batched_tokens`` each, by default the engine's for the card.

    Raises:
        ValueError: unknown source (the known ones are listed) or wrong arguments.
    """
    name, _, arguments = spec.partition(":")
    if name not in SOURCES:
        raise unknown_name(spec, SOURCES, field="step_cost")
    whole = SOURCES[name](
        arguments,
        model=model,
        gpu=gpu,
        kv_cache_dtype=kv_cache_dtype,
        tensor_parallel_size=tensor_parallel_size,
        max_num_seqs=max_num_seqs,
        enforce_eager=enforce_eager,
        async_scheduling=async_scheduling,
    )
    return pipelined(
        whole,
        model=model,
        gpu=gpu,
        pipeline_parallel_size=pipeline_parallel_size,
        max_num_batched_tokens=max_num_batched_tokens,
    )
