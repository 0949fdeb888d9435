"""Step-cost sources by name.

``auto`` is the best there is for the card: ``measured`` where kvsim ships a calibration profile of
the card that holds every kernel of the model, else ``silicon`` (measured operators) where the card
has tables, else ``derived`` (those of the nearest card, scaled), else ``datasheet`` (roofline).
``measured:`` takes a profile (``.json``) or a folder of the card's own kernel times, ``derived:``
the card to derive from, ``affine:`` three coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .affine import AffineCost
from .datasheet import DatasheetCost
from .engine_defaults import BLOCK_SIZE
from .gpus import GPUSpec
from .model_spec import ModelSpec
from .names import unknown_name
from .pipeline import pipelined
from .step_cost import StepCost

Flags = dict[str, Any]
"""Model, GPU and the server's flags, as every source takes them."""


def _datasheet(arguments: str, flags: Flags, *, block_size: int) -> StepCost:
    _refuse("datasheet", arguments)
    return DatasheetCost.of(**flags)


def _silicon(arguments: str, flags: Flags, *, block_size: int) -> StepCost:
    from .silicon import TableMissing, silicon_cost

    _refuse("silicon", arguments)
    try:
        return silicon_cost(**flags)
    except TableMissing as error:
        raise ValueError(f"step_cost(='silicon') cannot be had: {error}") from None


def _derived(arguments: str, flags: Flags, *, block_size: int) -> StepCost:
    from .profile.derived import derived_cost
    from .silicon import TableMissing

    try:
        return derived_cost(**flags, block_size=block_size, measured_on=arguments)
    except TableMissing as error:
        raise ValueError(f"step_cost(='derived') cannot be had: {error}") from None


def _auto(arguments: str, flags: Flags, *, block_size: int) -> StepCost:
    from .profile.find import bundled_cost
    from .profile.unfit import Unfit
    from .silicon import TableMissing, silicon_cost

    _refuse("auto", arguments)
    try:
        measured = bundled_cost(**flags, block_size=block_size)
        why = ""
    except Unfit as error:
        measured, why = None, _clause(error)
    if measured is not None:
        return measured
    try:
        return replace(silicon_cost(**flags), why=why)
    except TableMissing as error:
        return _without_tables(flags, block_size=block_size, why=why or _clause(error))


def _without_tables(flags: Flags, *, block_size: int, why: str) -> StepCost:
    """Derived from another card; a card with tables that lack an operator takes its datasheet."""
    from .profile.derived import derived_cost
    from .silicon import SYSTEMS, TableMissing

    if flags["gpu"].name not in SYSTEMS:
        try:
            return derived_cost(**flags, block_size=block_size, why=why)
        except TableMissing as error:
            why = _clause(error)
    return DatasheetCost.of(**flags, why=why)


def _measured(arguments: str, flags: Flags, *, block_size: int) -> StepCost:
    from .kernel_profile import profile_cost
    from .profile.find import bundled_cost, cost_of_file
    from .profile.unfit import Unfit

    if arguments.endswith(".json"):
        return cost_of_file(arguments, **flags, block_size=block_size)
    if arguments:
        return profile_cost(arguments, **flags)
    try:
        found = bundled_cost(**flags, block_size=block_size)
    except Unfit as error:
        raise ValueError(f"step_cost(='measured') cannot be had: {error}") from None
    if found is None:
        raise ValueError(
            "step_cost(='measured') needs a profile or a folder of kernel times: "
            "measured:PROFILE.json or measured:FOLDER."
        )
    return found


def _affine(arguments: str, flags: Flags, *, block_size: int) -> StepCost:
    return AffineCost.parse(arguments)


def _refuse(name: str, arguments: str) -> None:
    if arguments:
        raise ValueError(f"step_cost(='{name}:{arguments}') takes no arguments.")


def _clause(error: ValueError) -> str:
    return str(error).rstrip(".")


SOURCES: dict[str, Callable[..., StepCost]] = {
    "auto": _auto,
    "measured": _measured,
    "silicon": _silicon,
    "derived": _derived,
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
    block_size: int = BLOCK_SIZE,
    profile: str | None = None,
) -> StepCost:
    """The source that ``spec`` names, for this deployment.

    A pipeline's batches have ``max_num_batched_tokens`` each, by default the engine's for the card.
    ``profile`` is a calibration profile: the same as ``measured:PROFILE``.

    Raises:
        ValueError: unknown source (the known ones are listed), wrong arguments, or a profile beside
            another source.
    """
    name, _, arguments = _with_profile(spec, profile).partition(":")
    if name not in SOURCES:
        raise unknown_name(spec, SOURCES, field="step_cost")
    flags: Flags = {
        "model": model,
        "gpu": gpu,
        "kv_cache_dtype": kv_cache_dtype,
        "tensor_parallel_size": tensor_parallel_size,
        "max_num_seqs": max_num_seqs,
        "enforce_eager": enforce_eager,
        "async_scheduling": async_scheduling,
    }
    return pipelined(
        SOURCES[name](arguments, flags, block_size=block_size),
        model=model,
        gpu=gpu,
        pipeline_parallel_size=pipeline_parallel_size,
        max_num_batched_tokens=max_num_batched_tokens,
    )


def _with_profile(spec: str, profile: str | None) -> str:
    if profile is None:
        return spec
    if spec not in (DEFAULT, "measured"):
        raise ValueError(
            f"profile(={profile}) says nothing beside step_cost(={spec!r}): leave one out."
        )
    if not profile.endswith(".json"):
        raise ValueError(
            f"profile(={profile}) must be a .json file; a folder of kernel times is "
            "--step-cost measured:FOLDER."
        )
    return f"measured:{profile}"
