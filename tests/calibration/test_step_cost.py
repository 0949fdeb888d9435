"""The interface of step costs: lines, spans, bands, and the affine clock of the golden cases."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.step_cost import UNBOUNDED, Band, Batch, Line, StepCost


def decodes(num: int, context: int) -> Batch:
    return Batch(num_decodes=num, decode_context_tokens=context)


def single_steps_s(cost: StepCost, batch: Batch, k: int) -> float:
    """The definition of a span: every request gains one token a step."""
    steps = []
    for _ in range(k):
        steps.append(cost.step_ns(batch))
        batch = batch._replace(
            decode_context_tokens=batch.decode_context_tokens + batch.num_decodes
        )
    return math.fsum(steps) / 1e9


def test_batch_counts_tokens() -> None:
    batch = Batch(num_decodes=3, chunks=((100, 0), (28, 512)), num_padding_rows=2)
    assert batch.num_tokens == 133


def test_line() -> None:
    line = Line(10.0, 2.0, UNBOUNDED)
    assert [line.span_ns(k) for k in (0, 1, 2, 4)] == [0, 10, 22, 52]


def test_affine_is_exact_in_nanoseconds() -> None:
    cost = AffineCost.parse("0.005,2e-5,1e-7")
    batch = Batch(num_decodes=2, decode_context_tokens=300, chunks=((50, 0),))
    assert cost.step_ns(batch) == 5_000_000 + 52 * 20_000 + 300 * 100


@given(
    base=st.floats(0, 1),
    token=st.floats(0, 1e-3),
    context=st.floats(0, 1e-6),
    num=st.integers(0, 512),
    mean=st.integers(0, 100_000),
    k=st.integers(0, 300),
)
def test_affine_span_is_the_sum_of_its_steps(
    base: float, token: float, context: float, num: int, mean: int, k: int
) -> None:
    cost = AffineCost(base_s=base + 1e-6, per_scheduled_token_s=token, per_context_token_s=context)
    batch = decodes(num, num * mean)
    expected = single_steps_s(cost, batch, k)
    assert cost.span_s(batch, k) == pytest.approx(expected, rel=1e-12)


def test_affine_is_described() -> None:
    assert AffineCost.parse("1,2,3").describe() == {
        "source": "affine",
        "base_s": 1.0,
        "per_scheduled_token_s": 2.0,
        "per_context_token_s": 3.0,
    }


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "a,b,c"])
def test_affine_wants_three_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="three numbers in seconds"):
        AffineCost.parse(text)


@pytest.mark.parametrize("text", ["-1,0,0", "nan,0,0", "0,inf,0"])
def test_affine_wants_finite_coefficients(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be >= 0 and <= 3600 seconds."):
        AffineCost.parse(text)


def test_affine_must_take_time() -> None:
    with pytest.raises(ValueError, match=r"base_s\(=0.0\) or per_scheduled_token_s"):
        AffineCost.parse("0,0,0")


def test_a_span_only_decodes() -> None:
    cost = AffineCost.parse("1,0,0")
    with pytest.raises(ValueError, match="must be empty"):
        cost.span_s(Batch(chunks=((1, 0),)), 1)
    with pytest.raises(ValueError, match=r"k\(=-1\) must be >= 0."):
        cost.span_s(decodes(1, 1), -1)


def test_the_default_line_is_one_step() -> None:
    class Quadratic(StepCost):
        source = "test"
        band = Band(low=1.0, high=1.0, source="test")

        def step_ns(self, batch: Batch) -> float:
            return float(batch.decode_context_tokens**2)

        def describe(self) -> dict[str, object]:
            return {}

    cost = Quadratic()
    batch = decodes(3, 10)
    assert cost.span_s(batch, 20) == pytest.approx(single_steps_s(cost, batch, 20), rel=1e-12)
    assert cost.step_s(batch) == 1e-7


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1.1, 1.2), (0.5, 0.9)])
def test_a_band_encloses_the_value(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="must enclose 1"):
        Band(low=low, high=high, source="test")
