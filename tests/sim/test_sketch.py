"""The quantile sketch keeps what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.sim.streaming.fold import _step_times
from kvsim.sim.streaming.sketch import ACCURACY, Sketch

TIMES = st.lists(st.one_of(st.just(0.0), st.floats(1e-8, 1e7)), min_size=1, max_size=60)
SHARES = st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0])
NEAR = ACCURACY * (1 + 1e-9)


@settings(deadline=None)
@given(values=TIMES, q=SHARES)
def test_quantiles_are_within_the_accuracy(values: list[float], q: float) -> None:
    sketch = Sketch()
    for part in np.array_split(np.array(values), 3):
        sketch.add(part)
    exact = float(np.quantile(values, q))
    assert sketch.quantile(q, linear=True) == pytest.approx(exact, rel=NEAR, abs=0)
    ranked = float(np.quantile(values, q, method="inverted_cdf"))
    assert sketch.quantile(q, linear=False) == pytest.approx(ranked, rel=NEAR, abs=0)
    assert sketch.mean() == pytest.approx(np.mean(values), rel=1e-12)


def test_weights_count_and_sketches_merge() -> None:
    values, often = np.array([1.0, 3.0, 0.0, 8.0]), np.array([2, 5, 1, 0])
    weighted, single, half = Sketch(), Sketch(), Sketch()
    weighted.add(values, often)
    single.add(np.repeat(values, often)[:3])
    half.add(np.repeat(values, often)[3:])
    single.merge(half)
    assert weighted.num == single.num == 8
    np.testing.assert_array_equal(weighted.counts, single.counts)
    assert weighted.total_s == single.total_s == 17.0
    assert weighted.quantile(0.5, linear=False) == pytest.approx(3.0, rel=NEAR)
    assert weighted.quantile(0.1, linear=False) == 0.0


def test_nothing_has_no_quantiles() -> None:
    assert np.isnan(Sketch().quantile(0.5, linear=True))
    assert np.isnan(Sketch().mean())


@settings(deadline=None)
@given(
    first=st.floats(1e-4, 1.0),
    slope=st.floats(-1e-7, 1e-2),
    steps=st.integers(1, 900),
    decodes=st.integers(1, 5),
)
def test_parts_of_a_run_stand_for_its_steps(
    first: float, slope: float, steps: int, decodes: int
) -> None:
    columns = {
        "first_step_s": np.array([first]),
        "step_slope_s": np.array([slope]),
        "num_steps": np.array([steps]),
        "num_decodes": np.array([decodes]),
    }
    times, weights = _step_times(columns)
    assert weights.sum() == steps * decodes
    singly = first + slope * np.arange(steps)
    assert times @ weights == pytest.approx(decodes * singly.sum(), rel=1e-9)
    stand_in = np.repeat(times, weights // decodes)
    np.testing.assert_allclose(stand_in, singly, rtol=0.0004 + 1e-9)
