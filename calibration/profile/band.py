"""How far off the steps of a deployment may be, from the doubt of what they are made of."""

from __future__ import annotations

from dataclasses import replace

from ..engine_defaults import batch_defaults
from ..operator_cost import OperatorCost, widened
from ..step_cost import Batch

TYPICAL_CONTEXT = 1024
"""Tokens of each sequence in the batches that the deployment's band is taken over."""


def with_band(cost: OperatorCost, *, what: str) -> OperatorCost:
    """The cost with a band of its deployment: the widest of a stream, a full batch and a prefill.

    How far these steps are from measured shapes does not count: that is each batch's own.

    Args:
        cost: its ``near_band`` holds for terms in no doubt.
        what: what is in doubt, in words.
    """
    tokens, seats = batch_defaults(cost.gpu)
    if cost.capture_sizes:
        seats = min(seats, max(1, cost.capture_sizes[-1] // 2))
    batches = (
        Batch(1, TYPICAL_CONTEXT),
        Batch(seats, seats * TYPICAL_CONTEXT),
        Batch(0, 0, ((tokens, 0),)),
    )
    wider = max(_doubt(cost, batch) for batch in batches)
    near = cost.near_band or cost.band
    return replace(cost, band=widened(near, wider, f"{wider:.1%} wider by the doubt of {what}"))


def _doubt(cost: OperatorCost, batch: Batch) -> float:
    terms = cost.terms(batch)
    return sum(term.ns * term.doubt for term in terms) / sum(term.ns for term in terms)
