"""Level one: each logged step's time predicted from its composition (teacher-forced)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ...calibration.engine.fitted import batch_of
from ...calibration.engine.periods import periods_s
from ...calibration.engine.records import StepRecord
from ...calibration.step_cost import NS_PER_S, StepCost
from ..moved import Moves
from ..summary import plain

KINDS = ("all", "decode", "with prefill")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepErrors:
    """``(predicted - measured) / measured`` over the steps of a kind."""

    kind: str
    """``all``, ``decode`` or ``with prefill``."""
    num_steps: int
    bias: float
    """Of the times added up: what the clock is off by in the long run."""
    median: float
    """Of the absolute errors."""
    p95: float

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {name: plain(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forced:
    """All steps of a run beside their predictions."""

    measured_s: NDArray[np.float64]
    predicted_s: NDArray[np.float64]
    prefills: NDArray[np.bool_]
    """Whether a step had a chunk of a prompt."""
    num_compiled: int
    """Steps left out: kernels were compiled in them."""

    @property
    def errors(self) -> tuple[StepErrors, ...]:
        """Over all steps, and by kind where there are some."""
        masks = (np.ones(len(self.prefills), dtype=bool), ~self.prefills, self.prefills)
        found = zip(KINDS, masks, strict=True)
        return tuple(self._errors(kind, mask) for kind, mask in found if mask.any())

    def _errors(self, kind: str, mask: NDArray[np.bool_]) -> StepErrors:
        measured, predicted = self.measured_s[mask], self.predicted_s[mask]
        relative = np.abs(predicted / measured - 1)
        return StepErrors(
            kind=kind,
            num_steps=int(mask.sum()),
            bias=float(predicted.sum() / measured.sum() - 1),
            median=float(np.median(relative)),
            p95=float(np.quantile(relative, 0.95)),
        )


def forced(steps: Sequence[StepRecord], cost: StepCost, moves: Moves | None = None) -> Forced:
    """Predict the steps of a run, each from what was in it.

    Args:
        steps: of one run, in order; measured is how long each kept the engine.
        cost: step times.
        moves: what copies and swaps add; None = nothing.

    Raises:
        ValueError: no step to look at.
    """
    pairs = [
        (step, period)
        for step, period in zip(steps, periods_s(steps), strict=True)
        if step.rows and not step.compiled
    ]
    if not pairs:
        raise ValueError("log must have a step in which nothing was compiled.")
    batches = [batch_of(step) for step, _ in pairs]
    predicted_ns = [cost.step_ns(batch) for batch in batches]
    moved_ns = [0.0 if moves is None else _moved_ns(step, moves) for step, _ in pairs]
    return Forced(
        measured_s=np.array([period for _, period in pairs]),
        predicted_s=(np.array(predicted_ns) + np.array(moved_ns)) / NS_PER_S,
        prefills=np.array([bool(batch.chunks) for batch in batches]),
        num_compiled=sum(bool(step.compiled) for step in steps),
    )


def _moved_ns(step: StepRecord, moves: Moves) -> float:
    out, back = step.swapped_out_blocks, step.swapped_in_blocks
    moved = moves.copy_ns(step.copied_blocks) if step.copied_blocks else 0.0
    moved += moves.swap_ns(out) if out else 0.0
    return moved + (moves.swap_ns(back, inward=True) if back else 0.0)
