"""What is asked of the planner: an objective, a target, limits; from the options of a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...traces.intake import Taken
from ..durations import seconds_of
from ..slo import SLO
from .changes import Change, changes_of
from .confidence import RUNS
from .extent import rate_of
from .grid import Grid

ASSUMED_SLO = SLO(ttft_s=2.0, tpot_s=0.05, quantile=0.95)
"""Where servers are to be compared and no limit is given: an interactive user's patience."""
LIMIT_OPTIONS = ("slo_ttft", "slo_tpot", "slo_e2e")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be decided.

    Raises:
        ValueError: a target that is not positive, a limit of GPUs without a target.
    """

    slo: SLO
    assumed_slo: bool = False
    target_rate_per_s: float | None = None
    target_from: str = "given"
    max_gpus: int | None = None
    tune: bool = False
    confidence_runs: int = RUNS
    """Traces that might have come instead, on which the choice is tried; 0: none."""
    what_ifs: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        if self.target_rate_per_s is not None and not 0 < self.target_rate_per_s < float("inf"):
            raise ValueError(f"target_rate(={self.target_rate_per_s}) must be > 0.")
        if self.confidence_runs < 0:
            raise ValueError(f"confidence_runs(={self.confidence_runs}) must be >= 0.")
        if self.max_gpus is not None and self.max_gpus < 1:
            raise ValueError(f"max_gpus(={self.max_gpus}) must be > 0.")
        if self.max_gpus is not None and self.target_rate_per_s is None:
            raise ValueError(
                f"max_gpus(={self.max_gpus}) needs target_rate: how many GPUs it takes depends on "
                "it."
            )


def question_of(
    asked: Mapping[str, Any], grid: Grid, taken: Taken, *, concurrency: int | None = None
) -> Question | None:
    """The question that the options put; None where they put none.

    Args:
        asked: ``slo_ttft``, ``slo_tpot``, ``slo_e2e``, ``quantile``, ``target_rate``, ``max_gpus``,
            ``tune``, ``what_if`` and ``confidence_runs``, as typed.
        grid: the servers; several of them are a question already.
        taken: the trace, whose own rate is the target where it has arrival times.
        concurrency: clients of a closed loop, in which there is no rate to ask for.

    Raises:
        ValueError: options that need or exclude each other.
    """
    given = {n: v for n, v in asked.items() if v is not None and v is not False and v != ()}
    runs = given.pop("confidence_runs", None)
    limits = [name for name in LIMIT_OPTIONS if name in given]
    if "quantile" in given and not limits:
        raise ValueError(f"quantile(={given['quantile']}) needs slo_ttft, slo_tpot or slo_e2e.")
    changes = changes_of(asked.get("what_if") or ())
    if not given and not grid.axes:
        if runs is not None:
            raise ValueError(f"confidence_runs(={runs}) needs something to decide: slo_ttft ...")
        return None
    if concurrency is not None:
        raise ValueError(
            f"concurrency(={concurrency}) is a closed loop, which has no rate to search: leave it "
            f"or {_first(given, grid)} out."
        )
    target, origin = asked.get("target_rate"), "given"
    if target is None and taken.arrivals:
        target, origin = rate_of(taken.trace), "the trace's own rate"
    return Question(
        slo=_slo(given) if limits else ASSUMED_SLO,
        assumed_slo=not limits,
        target_rate_per_s=target,
        target_from=origin,
        max_gpus=asked.get("max_gpus"),
        tune=bool(asked.get("tune")),
        confidence_runs=RUNS if runs is None else runs,
        what_ifs=changes,
    )


def _first(given: Mapping[str, Any], grid: Grid) -> str:
    """What asks, for the sentence."""
    return next(iter(given), "") or f"the values of {grid.axes[0][0]}"


def _slo(given: Mapping[str, Any]) -> SLO:
    limits = {
        f"{name.removeprefix('slo_')}_s": seconds_of(name, given[name])
        for name in LIMIT_OPTIONS
        if name in given
    }
    return SLO(**limits, quantile=given.get("quantile", ASSUMED_SLO.quantile))
