"""Binning keeps the integral: whatever the bins, slots times seconds come out as they went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.reports.resample import COUNTS, HELD, resample

POOL = 1000


def segments_of(durations: list[float], gaps: list[float], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    num = len(durations)
    ends = np.cumsum(np.array(durations) + np.array(gaps[:num]))
    shares = rng.dirichlet(np.ones(len(HELD) + 1), size=num) * POOL
    held = {name: shares[:, index] for index, name in enumerate(HELD)}
    counts = {name: rng.integers(0, 300, num) for name in COUNTS}
    columns = {"start_s": ends - np.array(durations), "duration_s": np.array(durations)}
    return {**columns, **held, **counts, "free": shares[:, -1]}


times = st.floats(0.0, 50.0, allow_nan=False)


@given(
    durations=st.lists(times, min_size=1, max_size=60),
    gaps=st.lists(times, min_size=60, max_size=60),
    num_bins=st.integers(1, 700),
    seed=st.integers(0, 99),
)
def test_the_integral_is_conserved(
    durations: list[float], gaps: list[float], num_bins: int, seed: int
) -> None:
    segments = segments_of(durations, gaps, seed)
    binned = resample(segments, POOL, num_bins)
    widths = np.diff(binned.edges_s)
    for name in (*HELD, *COUNTS):
        whole = float(segments[name] @ segments["duration_s"])
        if widths.sum() > 1e-6:
            assert float(binned.means[name] @ widths) == pytest.approx(whole, rel=1e-9, abs=1e-7)


def test_idle_time_is_free_and_the_areas_fill_the_pool() -> None:
    segments = segments_of([1.0, 1.0], [0.0, 8.0] * 30, seed=1)
    binned = resample(segments, POOL, 10)
    total = sum(binned.means[name] for name in (*HELD, "free"))
    assert total == pytest.approx(np.full(10, POOL))
    assert binned.means["free"][4] == POOL
    assert binned.means["num_running"][4] == 0


def test_a_bin_inside_a_segment_has_its_value() -> None:
    segments = segments_of([2.0, 2.0], [0.0] * 60, seed=2)
    binned = resample(segments, POOL, 4)
    expected = np.repeat(segments["token_states"], 2)
    assert binned.means["token_states"] == pytest.approx(expected)
    assert list(binned.centres_s) == pytest.approx([0.5, 1.5, 2.5, 3.5])


def test_bins_must_be_positive() -> None:
    segments = segments_of([1.0], [0.0] * 60, seed=0)
    with pytest.raises(ValueError, match=r"num_bins\(=0\) must be > 0\."):
        resample(segments, POOL, 0)


def test_no_segments() -> None:
    empty = {name: column[:0] for name, column in segments_of([1.0], [0.0] * 60, 0).items()}
    with pytest.raises(ValueError, match="segments"):
        resample(empty, POOL, 10)
