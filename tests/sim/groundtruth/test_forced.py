"""Level one: each step from its composition."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.engine.fitted import FittedMoves
from kvsim.sim.groundtruth.forced import forced
from support.logged import step

COST = AffineCost(base_s=0.010, per_scheduled_token_s=0.001)
STEPS = [
    step(0.00, (0, 10, 0), wall_s=0.025),  # predicted 20 ms: -20 %
    step(0.10, (1, 1, 4), (2, 1, 7), wall_s=0.010),  # 12 ms: +20 %
    step(0.20, (3, 1, 4), wall_s=0.011),  # 11 ms: right
    step(0.30, (4, 1, 9), wall_s=0.010),  # 11 ms: +10 %
    step(0.40, (5, 1, 9), wall_s=9.0, compiled=1),
]


def test_errors_by_hand() -> None:
    found = forced(STEPS, COST)
    assert found.predicted_s == pytest.approx([0.020, 0.012, 0.011, 0.011])
    assert found.measured_s == pytest.approx([0.025, 0.010, 0.011, 0.010])
    assert found.num_compiled == 1
    every, decode, prefill = found.errors
    assert [one.kind for one in found.errors] == ["all", "decode", "with prefill"]
    assert [one.num_steps for one in found.errors] == [4, 3, 1]
    assert every.bias == pytest.approx(54 / 56 - 1), "of the times added up"
    assert every.median == pytest.approx(0.15), "of 0, 10, 20 and 20 %"
    assert decode.bias == pytest.approx(34 / 31 - 1)
    assert decode.median == pytest.approx(0.10)
    assert decode.p95 == pytest.approx(0.19)
    assert prefill.bias == pytest.approx(-0.2)
    assert prefill.p95 == pytest.approx(0.2)


def test_moves_are_added_to_the_step_that_makes_them() -> None:
    moves = FittedMoves(terms_ns=(1e6, 1e6, 2e6, 2e6, 4e6, 4e6), block_bytes=1)
    moving = [
        step(0.0, (0, 1, 4), swapped_out_blocks=3),
        step(0.1, (1, 1, 4), swapped_in_blocks=2),
        step(0.2, (2, 1, 4), copied_blocks=1, swapped_out_blocks=1),
    ]
    found = forced(moving, COST, moves)
    assert found.predicted_s == pytest.approx([0.011 + 0.004, 0.011 + 0.006, 0.011 + 0.010])
    assert forced(moving, COST).predicted_s == pytest.approx(np.full(3, 0.011))


def test_a_log_of_compiling_steps_says_nothing() -> None:
    with pytest.raises(ValueError, match=r"^log must have a step in which nothing was compiled\.$"):
        forced(STEPS[-1:], COST)
