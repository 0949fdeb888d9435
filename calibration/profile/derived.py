"""Step cost of a card that nobody measured, from the nearest one that was: the ``derived`` source.

Nearest is a card of the same generation, among those the one with

    |log(B / B')| + |log(F / F')|        bandwidths and dense 16-bit FLOP/s of the datasheets

smallest; of other generations only where there is none of the same. How its operators are carried
over is in ``scaled``. The band is the measured card's, wider by the doubt of each coefficient,
weighted by the share that it has of the step. Derived figures are never called calibrated.

Of cards with tables of their own, left out one by one (step times of four models, 44 batches each):

                                     derived, half within    datasheet    in the band
    from its generation              3 %                     15 %         99 %
    from another generation          8 %                     14 %         96 %

Those inside a generation are near twins (H100 and H200; B200 and GB200). No card like an L4 beside
an L40S has tables to tell by: expect it between the two rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from math import log
from typing import Any

from ..efficiency import ASSUMED as ASSUMED_REACH
from ..efficiency import efficiency_of
from ..engine_defaults import BLOCK_SIZE, batch_defaults
from ..gpus import GPUSpec, load_gpu
from ..model_spec import ModelSpec
from ..operator_cost import OperatorCost
from ..pipeline import link_bytes_per_s
from ..silicon import SYSTEMS, TableMissing, silicon_cost
from .band import with_band
from .find import bundled_cost, bundled_gpus
from .move import Move
from .scaled import scaled_operators
from .unfit import Unfit

RULE = (
    "launch floors kept, work by the ratio of the datasheets' rooflines, links by their bandwidth"
)


def derived_cost(
    *,
    model: ModelSpec,
    gpu: GPUSpec,
    max_num_seqs: int | None = None,
    block_size: int = BLOCK_SIZE,
    measured_on: str = "",
    why: str = "",
    **flags: Any,
) -> OperatorCost:
    """The cost of a model on a GPU, scaled from a card that was measured.

    Args:
        measured_on: that card; the nearest one where it is not named.
        why: why it is no better source, as a clause.
        flags: those of ``silicon_cost``.

    Raises:
        ValueError: unknown card or KV dtype, a tensor-parallel size the heads do not allow.
        TableMissing: no card of the generation has what the model needs.
    """
    flags |= {"model": model, "max_num_seqs": max_num_seqs or batch_defaults(gpu)[1]}
    missing: TableMissing | None = None
    for card in [load_gpu(measured_on)] if measured_on else references(gpu):
        try:
            measured = _measured(card, block_size, flags)
        except TableMissing as error:
            missing = missing or error
            continue
        return scaled_cost(measured, gpu, why=why)
    raise missing or TableMissing(f"no card is like {gpu.name}.")


def references(gpu: GPUSpec) -> list[GPUSpec]:
    """Measured cards, nearest first: those of the same generation, or else all others."""
    names = {*SYSTEMS, *bundled_gpus()} - {gpu.name}
    others = [load_gpu(name) for name in names]
    same = [other for other in others if other.generation == gpu.generation]
    return sorted(same or others, key=lambda other: (_distance(gpu, other), other.name))


def _measured(card: GPUSpec, block_size: int, flags: Mapping[str, Any]) -> OperatorCost:
    """The best measured source of a card."""
    try:
        own = bundled_cost(gpu=card, block_size=block_size, **flags)
    except Unfit:
        own = None
    return own or silicon_cost(gpu=card, **flags)


def scaled_cost(measured: OperatorCost, gpu: GPUSpec, *, why: str = "") -> OperatorCost:
    """The same model and flags on another card."""
    move = Move(
        model=measured.model,
        measured=measured.gpu,
        other=gpu,
        tensor_parallel_size=measured.tensor_parallel_size,
        kv_cache_dtype=measured.kv_cache_dtype,
    )
    cost = replace(
        measured,
        gpu=gpu,
        operators=scaled_operators(measured.operators, move),
        source="derived",
        taken_from=f"{_ratios(move)}; {measured.source} of {measured.taken_from}",
        why=why,
        near_band=measured.near_band or measured.band,
        details={**measured.details, "derived_from": _description(measured, move)},
        caveat=_caveat(move),
    )
    return with_band(cost, what="what is scaled")


def _distance(gpu: GPUSpec, other: GPUSpec) -> float:
    bandwidths = gpu.memory_bandwidth_bytes_per_s / other.memory_bandwidth_bytes_per_s
    flops = (gpu.flops_of("bf16") or 1.0) / (other.flops_of("bf16") or 1.0)
    return abs(log(bandwidths)) + abs(log(flops))


def _ratios(move: Move) -> str:
    """``scaled from l40s by datasheet: bandwidth x0.35, FLOP/s x0.33``, for people."""
    scale = move.scale("linear")
    read = scale.other.bytes_per_s / scale.measured.bytes_per_s
    compute = scale.other.flops_per_s / scale.measured.flops_per_s
    reach = " and what the generations reach of them" if move.across else ""
    return (
        f"scaled from {move.measured.name} by datasheet figures{reach}: bandwidth x{read:.2f}, "
        f"FLOP/s x{compute:.2f}"
    )


def _caveat(move: Move) -> str:
    card, other = move.measured.name, move.other.name
    if not move.across:
        return (
            f"Step times of {other} are derived: {card}'s, scaled by datasheet ratios; nothing was "
            "measured on it."
        )
    guess = efficiency_of(move.other.generation).source == ASSUMED_REACH
    reach = "assumed" if guess else "its generation's"
    return (
        f"Step times of {other} are derived across generations: {card}'s, scaled by datasheet "
        f"ratios and {reach} efficiencies; nothing was measured on it or on a card like it."
    )


def _description(measured: OperatorCost, move: Move) -> dict[str, object]:
    scale = move.scale("linear")
    return {
        "card": move.measured.name,
        "source": measured.origin,
        "rule": RULE,
        "bandwidth_ratio": scale.other.bytes_per_s / scale.measured.bytes_per_s,
        "flops_ratio": scale.other.flops_per_s / scale.measured.flops_per_s,
        "link_ratio": link_bytes_per_s(move.other) / link_bytes_per_s(move.measured),
        "relative_uncertainty": asdict(move.doubts),
    }
