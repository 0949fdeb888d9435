"""Tolerances: how far, of what, and whose."""

from __future__ import annotations

import pytest

from kvsim.sim.regress.tolerance import NONE, Tolerance, read_tolerances


@pytest.mark.parametrize(
    ("tolerance", "old", "new", "allowed"),
    [
        (Tolerance(), 1.0, 1.0, True),
        (Tolerance(), 1.0, 1.00000001, False),
        (Tolerance(relative=0.02), 0.1, 0.102, True),  # 0.102 - 0.1 > 0.002 in binary
        (Tolerance(relative=0.02), 0.1, 0.098, True),
        (Tolerance(relative=0.02), 0.1, 0.102000001, False),
        (Tolerance(relative=0.02), -0.1, -0.102, True),
        (Tolerance(relative=0.5), 0.0, 1e-9, False),
        (Tolerance(absolute=3), 100, 103, True),
        (Tolerance(absolute=3), 100, 104, False),
        (Tolerance(absolute=3, relative=0.1), 100, 110, True),
        (Tolerance(absolute=3, relative=0.1), 10, 13, True),
        (Tolerance(absolute=3, relative=0.1), 10, 14, False),
    ],
)
def test_what_is_allowed(tolerance: Tolerance, old: float, new: float, allowed: bool) -> None:
    assert tolerance.allows(old, new) is allowed


def test_a_metric_over_its_group_over_the_default() -> None:
    found = read_tolerances(
        {
            "relative": 0.1,
            "ttft_s": {"relative": 0.2, "both": True},
            "ttft_s.p95": {"absolute": 0.3},
        }
    )
    assert found.of("tpot_s.p95") == Tolerance(relative=0.1)
    assert found.of("ttft_s.p50") == Tolerance(relative=0.2, both=True)
    assert found.of("ttft_s.p95") == Tolerance(relative=0.2, absolute=0.3, both=True)
    assert NONE.of("ttft_s.p95") == Tolerance()


def test_the_nearer_one_holds_where_both_say_the_same() -> None:
    own, group = {"relative": 0.3}, {"relative": 0.2}
    found = read_tolerances({"relative": 0.1, "ttft_s.p95": own, "ttft_s": group})
    assert found.of("ttft_s.p95") == Tolerance(relative=0.3)
    case = read_tolerances({"relative": 0.5, "ttft_s": {"relative": 0.6}})
    over = case.over(found)
    assert over.of("tpot_s.p95") == Tolerance(relative=0.5)
    assert over.of("ttft_s.p50") == Tolerance(relative=0.6)
    assert over.of("ttft_s.p95") == Tolerance(relative=0.3)
    assert found.over(case).of("tpot_s.p95") == Tolerance(relative=0.1)


def test_names_without_quotes_are_tables_in_tables() -> None:
    quoted = read_tolerances({"ttft_s.p95": {"relative": 0.2}})
    assert read_tolerances({"ttft_s": {"p95": {"relative": 0.2}}}) == quoted
    both = read_tolerances({"ttft_s": {"absolute": 1.0, "p95": {"relative": 0.2}}})
    assert both.of("ttft_s.p95") == Tolerance(absolute=1.0, relative=0.2)
    assert both.of("ttft_s.p50") == Tolerance(absolute=1.0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"both": 1}, r"both\(=1\) must be true or false"),
        ({"relative": True}, r"relative\(=True\) must be a number >= 0"),
        ({"absolute": float("inf")}, r"absolute\(=inf\) must be a number >= 0"),
        ({"absolute": "1"}, r"absolute\(='1'\) must be a number >= 0"),
        ({"tpot_s": {"relative": -1}}, r"tolerance of tpot_s: relative\(=-1\) must be"),
        ({"tpot_s": {"p42": {}}}, r"tolerance\(='tpot_s\.p42'\) is unknown; near: tpot_s"),
        ([], r"tolerance\(=\[\]\) must be a table"),
    ],
)
def test_wrong_tolerances(table: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tolerances(table)


def test_words() -> None:
    assert str(Tolerance()) == "0"
    assert str(Tolerance(relative=0.02)) == "2 %"
    assert str(Tolerance(relative=0.025, absolute=0.001)) == "2.5 % or 0.001"
