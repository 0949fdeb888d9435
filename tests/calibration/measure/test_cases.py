"""Baselines and goals: every case by hand, verdicts of invented times."""

from __future__ import annotations

import pytest

from kvsim.calibration.measure.cases import (
    CASES,
    GOALS,
    OURS,
    Verdict,
    baseline_points,
    causal_flops,
    copy_rate,
    judge,
    kv_bytes,
    verdict_line,
)
from kvsim.calibration.profile.values import Sample

X = {case.name: case.x for case in CASES}
COPY_BYTES_PER_S = 4e12


def sample(case: str, time_s: float, name: str = OURS) -> Sample:
    x = {**X[case], "case": case, "name": name}
    return Sample(family="baselines", x=x, t=(time_s,) * 3, role="baseline")


def copy() -> Sample:
    x = {"what": "copy", "dtype": "bf16", "bytes": 8e9, "flops": 0}
    return Sample(family="ceilings", x=x, t=(8e9 / COPY_BYTES_PER_S,))


def verdicts(*samples: Sample) -> dict[tuple[str, str], Verdict]:
    """Those that can be said, by case and quantity (and name beside which)."""
    found = {}
    for verdict in judge([copy(), *samples]):
        goal = verdict.goal
        if verdict.value is not None:
            found[goal.case, goal.quantity if not goal.beside else goal.beside[1]] = verdict
    return found


def test_bytes_of_the_cases_by_hand() -> None:
    assert kv_bytes(X["A block 16"]) == 64 * 4096 * 8 * 128 * 2 * 2 == 1_073_741_824
    assert kv_bytes(X["B 8 x 32k"]) == kv_bytes(X["A block 128"]) == 1_073_741_824
    assert kv_bytes(X["B 1 x 32k"]) == kv_bytes(X["TP 8 shard"]) == 134_217_728
    assert kv_bytes(X["B 1 x 4k"]) == 16_777_216
    assert kv_bytes(X["A fp8 KV"]) == 536_870_912
    assert kv_bytes(X["ragged"]) == pytest.approx(1.07e9, rel=0.1)
    assert causal_flops(X["prefill 8192"]) == 4 * 8192**2 / 2 * 128 * 32
    assert causal_flops({"heads": 1, "head_dim": 2, "chunks": [[10, 5]]}) == 4 * 2 * (50 + 50)


def test_every_goal_has_a_case_that_is_measured() -> None:
    measured = {(point.x["case"], point.x["name"]) for point in baseline_points()}
    for goal in GOALS:
        assert (goal.case, OURS) in measured
        assert goal.beside is None or goal.beside in measured
    assert {point.role for point in baseline_points()} == {"baseline"}


def test_a_share_of_the_copy_rate() -> None:
    at_90_pct = 1_073_741_824 / (0.9 * COPY_BYTES_PER_S)
    assert verdicts(sample("A block 16", 0.999 * at_90_pct))["A block 16", "copy_share"].met
    missed = verdicts(sample("A block 16", 1.001 * at_90_pct))["A block 16", "copy_share"]
    assert missed.met is False
    assert missed.value == pytest.approx(0.9 / 1.001)


def test_blocks_beside_larger_blocks_and_beside_none() -> None:
    found = verdicts(
        sample("A block 16", 1.02e-4),
        sample("A block 64", 1.00e-4),
        sample("A block 16", 0.98e-4, "contiguous"),
    )
    assert found["A block 16", OURS].met
    assert found["A block 16", "contiguous"].value == pytest.approx(1.02 / 0.98 - 1)
    assert found["A block 16", "contiguous"].met is False


def test_absolute_goals_and_times_faster() -> None:
    found = verdicts(
        sample("B 1 x 4k", 14.9e-6),
        sample("A block 16", 2.7e-4),
        sample("A fp8 KV", 2.0e-4),
        sample("prefill 8192", 4 * 8192**2 / 2 * 128 * 32 / 349e12),
    )
    assert found["B 1 x 4k", "seconds"].met
    assert found["A fp8 KV", OURS].value == pytest.approx(1.35)
    assert found["A fp8 KV", OURS].met
    assert found["prefill 8192", "flops_per_s"].met is False


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = judge([sample("A block 16", 1e-4)])  # no copy, nothing beside it
    assert {verdict.met for verdict in found} == {None}
    assert copy_rate([]) is None
    assert "not measured" in verdict_line(found[0])


def test_lines_say_the_goal_and_the_answer() -> None:
    found = verdicts(sample("B 1 x 4k", 16e-6), sample("A block 64", 2.7e-4))
    assert verdict_line(found["B 1 x 4k", "seconds"]) == (
        "B 1 x 4k: seconds 1.6e-05, goal <= 1.5e-05: MISSED"
    )
    assert verdict_line(found["A block 64", "copy_share"]) == (
        "A block 64: copy_share 0.9942, goal >= 0.92: met"
    )
