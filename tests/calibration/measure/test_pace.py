"""Which family waits when the time gets short."""

from __future__ import annotations

import pytest

from kvsim.calibration.measure.pace import Pace
from kvsim.calibration.measure.point import Point


def point(family: str, seconds: float = 1.0, *, role: str = "fit", number: int = 0) -> Point:
    return Point(family=family, x={"i": number}, role=role, seconds=seconds)


PCIE, GEMM, DECODE = point("pcie", 10), point("gemm", 10), point("decode", 10)
END = point("decode", 2 / 1.3, role="anchor")  # 2 s with the reserve
TODO = [PCIE, GEMM, DECODE, END]


def test_with_time_for_all_the_order_is_kept() -> None:
    assert Pace(32).next(TODO, 0.0) is PCIE
    assert Pace(32).put_off(TODO, 32) == set()


def test_the_last_family_waits_first() -> None:
    assert Pace(31).next(TODO, 0.0) is GEMM, "31 s, 32 expected: pcie waits"
    assert Pace(21).next(TODO, 0.0) is DECODE, "21 s: gemm waits as well"


def test_the_anchors_of_the_end_keep_their_time() -> None:
    assert Pace(11).next([PCIE, END], 9.5) is END, "1.5 s are left and the anchors take 2"
    assert Pace(11).next([PCIE, END], 8.5) is PCIE
    assert Pace(11).next([PCIE, END], 11) is None


def test_the_only_family_left_uses_the_time_up() -> None:
    assert Pace(5).next([PCIE], 0.0) is PCIE
    assert Pace(5).next([PCIE], 5.0) is None


def test_a_slow_run_puts_off_more_and_a_fast_one_takes_them_back() -> None:
    slow = Pace(100)
    slow.add(point("decode", 10), 30.0)
    assert slow.factor == pytest.approx(3.0)
    assert slow.put_off(TODO, 70) == {"pcie"}, "3 x 32 s are left, of 70"
    slow.add(point("decode", 90), 20.0)
    assert slow.factor == pytest.approx(0.5)
    assert slow.put_off(TODO, 17) == set()


def test_a_pace_is_believed_after_ten_seconds() -> None:
    pace = Pace(100)
    pace.add(point("decode", 9), 90.0)
    assert pace.factor == 1.0
