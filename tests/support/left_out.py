"""Cards with tables of their own, derived from another card's as if they had none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kvsim.calibration.costs import step_cost
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.profile.derived import references
from kvsim.calibration.step_cost import Batch, StepCost

INSIDE_A_GENERATION = ("h100-sxm", "h200", "b200", "b300", "gb200", "gb300")
"""Those that have another card of their generation to be derived from."""
SERVERS = (("llama-3.1-8b", 1), ("qwen3-32b", 2), ("gpt-oss-20b", 1), ("llama-3.1-70b", 4))
GRID = (
    *(Batch(n, n * c, (), 0, c) for n in (1, 8, 32, 64, 128, 256)
      for c in (256, 1024, 4096, 16_384)),
    *(Batch(0, 0, ((new, past),)) for new in (128, 512, 2048, 8192) for past in (0, 4096)),
    *(Batch(n, n * c, ((new, 0),), 0, c) for n in (16, 64, 200) for c in (1000, 4000)
      for new in (256, 1800)),
)  # fmt: skip


class Missed(NamedTuple):
    """Of one card: errors of its derived and datasheet step times, and what the bands hold."""

    derived: np.ndarray
    datasheet: np.ndarray
    in_band: np.ndarray
    in_datasheet_band: np.ndarray

    def __str__(self) -> str:
        def of(errors: np.ndarray) -> str:
            size = np.abs(errors)
            return f"median {np.median(size):5.1%}, 90 % within {np.quantile(size, 0.9):5.1%}"

        return (
            f"derived {of(self.derived)}, in its band {self.in_band.mean():.1%}; "
            f"datasheet {of(self.datasheet)}, in its band {self.in_datasheet_band.mean():.1%}"
        )


@lru_cache
def missed(gpu: str, measured_on: str = "") -> Missed:
    """Against the card's own tables, which the derived source has not seen."""
    rows = [row for server in SERVERS for row in _rows(gpu, measured_on, *server)]
    return Missed(*(np.array(column) for column in zip(*rows, strict=True)))


def _rows(
    gpu: str, measured_on: str, model: str, size: int
) -> Iterator[tuple[float, float, bool, bool]]:
    flags = {"gpu": load_gpu(gpu), "tensor_parallel_size": size, "max_num_seqs": 256}
    spec = load_model(model)
    own, ours, sheet = (
        step_cost(name, model=spec, **flags)  # type: ignore[arg-type]  # flags of step_cost
        for name in ("silicon", f"derived:{measured_on}".rstrip(":"), "datasheet")
    )
    for batch in GRID:
        truth = own.step_ns(batch)
        yield (
            ours.step_ns(batch) / truth - 1,
            sheet.step_ns(batch) / truth - 1,
            holds(ours, batch, truth),
            holds(sheet, batch, truth),
        )


def holds(cost: StepCost, batch: Batch, truth: float) -> bool:
    band = cost.band_of(batch)
    return band.low <= truth / cost.step_ns(batch) <= band.high


def together(found: list[Missed]) -> Missed:
    return Missed(*(np.concatenate(column) for column in zip(*found, strict=True)))


def of_another_generation(gpu: str) -> str:
    own = load_gpu(gpu)
    nearest = references(replace(own, generation="another"))
    return next(card.name for card in nearest if card.generation != own.generation)
