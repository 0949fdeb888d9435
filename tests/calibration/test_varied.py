"""A scaled clock: every step, line, span and term so many times as long."""

from __future__ import annotations

import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.costs import step_cost
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.step_cost import Batch, StepCost
from kvsim.calibration.varied import ScaledCost

BATCHES = (
    Batch(1, 700),
    Batch(64, 64 * 900, (), 0, 4000),
    Batch(20, 9000, ((512, 0), (100, 2048))),
    Batch(0, 0, ((2048, 0),)),
)
COSTS: tuple[StepCost, ...] = (
    AffineCost(base_s=5e-3, per_scheduled_token_s=2e-5, per_context_token_s=1e-8),
    step_cost("silicon", model=load_model("llama-3.1-8b"), gpu=load_gpu("a100")),
)


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.source)
@pytest.mark.parametrize("batch", BATCHES)
def test_steps_and_terms_are_so_many_times_as_long(cost: StepCost, batch: Batch) -> None:
    scaled = ScaledCost(cost=cost, factor=1.3)
    assert scaled.step_ns(batch) == pytest.approx(1.3 * cost.step_ns(batch), rel=1e-12)
    assert sum(term.ns for term in scaled.terms(batch)) == pytest.approx(scaled.step_ns(batch))
    assert scaled.uses_longest == cost.uses_longest


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.source)
def test_lines_bend_where_the_source_bends(cost: StepCost) -> None:
    scaled = ScaledCost(cost=cost, factor=0.7)
    for batch in BATCHES[:2]:
        theirs, ours = cost.decode_line(batch), scaled.decode_line(batch)
        assert ours.num_steps == theirs.num_steps
        assert ours.slope_ns == pytest.approx(0.7 * theirs.slope_ns, rel=1e-12)
        assert scaled.span_s(batch, 300) == pytest.approx(0.7 * cost.span_s(batch, 300), rel=1e-12)


def test_it_says_what_it_is() -> None:
    scaled = ScaledCost(cost=COSTS[0], factor=1.25)
    assert scaled.origin == "1.25 times affine"
    assert scaled.describe() == {**COSTS[0].describe(), "times": 1.25}
    assert (scaled.band.low, scaled.band.high) == (1.0, 1.0)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_a_factor_is_positive_and_finite(factor: float) -> None:
    with pytest.raises(ValueError, match=r"factor\(=.*\) must be > 0 and finite\."):
        ScaledCost(cost=COSTS[0], factor=factor)
