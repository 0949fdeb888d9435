"""How long a step keeps the engine: what lies between two steps counts, idleness does not."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.calibration.engine.periods import periods_s
from support.logged import step


def test_a_step_lasts_until_the_next_one_that_goes_on() -> None:
    steps = [
        step(0.0, (0, 8, 0), wall_s=0.010),
        step(0.012, (0, 1, 8), wall_s=0.010),  # 2 ms behind
        step(0.026, (0, 1, 9), wall_s=0.010),  # 4 ms behind
    ]
    assert periods_s(steps) == pytest.approx([0.012, 0.014, 0.013]), "the last: the median"


def test_idleness_is_no_part_of_a_step() -> None:
    steps = [
        step(0.0, (0, 8, 0), wall_s=0.010),
        step(0.011, (0, 1, 8), wall_s=0.010),
        step(9.0, (1, 8, 0), wall_s=0.010),  # somebody else, long after
        step(9.013, (1, 1, 8), wall_s=0.010),
    ]
    assert periods_s(steps) == pytest.approx([0.011, 0.012, 0.013, 0.012])


def test_where_nothing_goes_on_the_wall_time_stands() -> None:
    steps = [step(0.0, (0, 8, 0), wall_s=0.010), step(5.0, (1, 8, 0), wall_s=0.020)]
    assert periods_s(steps) == pytest.approx([0.010, 0.020])
    assert np.array_equal(periods_s([]), [])
