"""Batches: runs of lengths, and draws that keep their mean and their seed."""

from __future__ import annotations

from random import Random

import pytest

from kvsim.calibration.measure.batches import (
    LONGEST_TOKENS,
    RAGGED_SHAPES,
    lengths_of,
    ragged,
    runs,
)


def test_equal_neighbours_are_one_run() -> None:
    assert runs([5, 5, 3, 5]) == [[5, 2], [3, 1], [5, 1]]
    assert lengths_of([[5, 2], [3, 1]]) == [5, 5, 3]


@pytest.mark.parametrize("kind", RAGGED_SHAPES)
def test_a_draw_has_its_size_and_about_its_mean(kind: str) -> None:
    lengths = lengths_of(ragged(kind, 256, 1024, Random("a")))
    assert len(lengths) == 256
    assert 0.8 * 1024 < sum(lengths) / 256 < 1.25 * 1024 or kind == "one_long"
    assert 1 <= min(lengths) < max(lengths) <= LONGEST_TOKENS
    assert lengths == lengths_of(ragged(kind, 256, 1024, Random("a")))
    assert lengths != lengths_of(ragged(kind, 256, 1024, Random("b")))


def test_every_fifth_of_a_bimodal_batch_is_sixteen_times_as_long() -> None:
    lengths = lengths_of(ragged("bimodal", 100, 1000, Random(0)))
    long, short = lengths[::5], [n for i, n in enumerate(lengths) if i % 5]
    assert all(0.75 * 4000 <= n <= 1.25 * 4000 for n in long)
    assert all(0.75 * 250 <= n <= 1.25 * 250 for n in short)


def test_one_sequence_has_a_good_part_of_the_tokens() -> None:
    lengths = lengths_of(ragged("one_long", 8, 1000, Random(0)))
    assert 0.3 * 8000 <= lengths[0] <= 0.7 * 8000
    assert sum(lengths) == pytest.approx(8000, rel=0.15)


def test_a_batch_stays_within_a_million_tokens() -> None:
    lengths = lengths_of(ragged("lognormal", 256, 8192, Random(0)))
    assert sum(lengths) < 1.3 * (1 << 20)
