"""Typical batches: their total, their spread, their order; which sizes are looked at."""

from __future__ import annotations

from math import exp
from statistics import NormalDist

import pytest

from kvsim.calibration.profile.uneven import SIGMA, neighbours, typical_lengths


def test_lengths_add_up() -> None:
    for batch in (1, 2, 7, 64, 1000):
        for mean in (1, 17, 1000, 60_000):
            lengths = typical_lengths(batch, mean)
            assert len(lengths) == batch
            assert min(lengths) >= 1
            if mean > 1:
                assert sum(lengths) == batch * mean
    assert typical_lengths(1, 123) == [123]


def test_lengths_are_lognormal() -> None:
    """Two sequences: the quartiles. A thousand: 16 % are longer than e^sigma times the median."""
    quartile = exp(SIGMA * NormalDist().inv_cdf(0.75))
    low, high = sorted(typical_lengths(2, 10_000))
    assert high / low == pytest.approx(quartile**2, rel=1e-3)
    lengths = sorted(typical_lengths(1000, 10_000))
    assert lengths[841] / lengths[499] == pytest.approx(exp(SIGMA), rel=0.01)


def test_long_and_short_ones_are_mixed() -> None:
    """Every eighth of the batch is about as long as the whole."""
    lengths = typical_lengths(256, 4000)
    for begin in range(0, 256, 32):
        assert sum(lengths[begin : begin + 32]) / 32 == pytest.approx(4000, rel=0.12)


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        (1, (1, 2, 0)),
        (16, (16, 17, 0)),
        (17, (16, 18, 0.5)),
        (63, (60, 64, 0.75)),
        (64, (64, 72, 0)),
        (250, (240, 256, 0.625)),
        (1000, (960, 1024, 0.625)),
    ],
)
def test_eight_sizes_to_an_octave(batch: int, found: tuple[int, int, float]) -> None:
    assert neighbours(batch) == found
