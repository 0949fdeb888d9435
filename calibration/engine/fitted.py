"""Step times fitted to an engine's own log: for hosts that no profile describes.

The CPU under the interpreter is such a host. Six terms, none negative, over the shape of a step:

    base + decode * decodes + context * decode contexts
         + chunk * chunks + token * their new tokens + pair * (query, key) pairs of the chunks

Least squares on relative errors (each step weighs the same), so that short steps count. On a card
the profile of ``kvsim calibrate`` is used instead: it was measured apart from any run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import nnls

from ..step_cost import NS_PER_S, UNBOUNDED, Band, Batch, Line, StepCost
from .records import StepRecord

LEAST_STEPS = 20
TERMS = ("base", "decode", "context", "chunk", "token", "pair")
_BAND_QUANTILES = (0.05, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCost(StepCost):
    """Nanoseconds per unit of each term; not whole numbers."""

    coefficients_ns: tuple[float, ...]
    """In the order of ``TERMS``."""
    num_steps: int
    band: Band
    source: str = field(default="fitted", init=False)

    def step_ns(self, batch: Batch) -> float:
        """Nanoseconds of one engine step of this shape."""
        return float(np.dot(self.coefficients_ns, _units(batch)))

    def decode_line(self, batch: Batch) -> Line:
        """One line for ever: each decode's context grows by one a step."""
        context_ns = self.coefficients_ns[TERMS.index("context")]
        return Line(self.step_ns(batch), context_ns * batch.num_decodes, UNBOUNDED)

    @property
    def origin(self) -> str:
        """For people."""
        return f"fitted to {self.num_steps} logged steps"

    def describe(self) -> dict[str, object]:
        """The terms in nanoseconds per unit."""
        values = dict(zip(TERMS, self.coefficients_ns, strict=True))
        return {"source": self.source, "num_steps": self.num_steps, "ns_per": values}


def fit_steps(steps: Sequence[StepRecord]) -> FittedCost:
    """Fit the times of logged steps.

    Args:
        steps: of one or several runs; those in which kernels were compiled are left out.

    Raises:
        ValueError: too few of them.
    """
    used = [step for step in steps if not step.compiled and step.rows]
    if len(used) < LEAST_STEPS:
        raise ValueError(f"calibration(={len(used)} steps) must have >= {LEAST_STEPS} steps.")
    units = np.array([_units(batch_of(step)) for step in used])
    wall_ns = np.array([step.wall_s for step in used]) * NS_PER_S
    scale = units.max(axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(units / scale / wall_ns[:, None], np.ones(len(used)))
    coefficients = found / scale
    ratio = wall_ns / (units @ coefficients)
    low, high = np.quantile(ratio, _BAND_QUANTILES)
    return FittedCost(
        coefficients_ns=tuple(coefficients.tolist()),
        num_steps=len(used),
        band=Band(
            low=min(float(low), 1.0), high=max(float(high), 1.0), source="residuals of the fit"
        ),
    )


def batch_of(step: StepRecord) -> Batch:
    """The shape of a logged step; a row of one new token behind others decodes."""
    decodes = [row for row in step.rows if row.new_tokens == 1 and row.past_tokens]
    chunks = [row for row in step.rows if not (row.new_tokens == 1 and row.past_tokens)]
    contexts = [row.past_tokens + 1 for row in decodes]
    return Batch(
        num_decodes=len(decodes),
        decode_context_tokens=sum(contexts),
        chunks=tuple((row.new_tokens, row.past_tokens) for row in chunks),
        num_padding_rows=max(0, step.bucket - len(decodes)),
        longest_context_tokens=max(contexts, default=0),
    )


def _units(batch: Batch) -> tuple[float, ...]:
    return (
        1.0,
        batch.num_decodes,
        batch.decode_context_tokens,
        len(batch.chunks),
        sum(new for new, _ in batch.chunks),
        sum(new * (past + (new + 1) / 2) for new, past in batch.chunks),
    )
