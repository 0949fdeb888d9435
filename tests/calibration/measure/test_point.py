"""Points as plain data: names that stay, expected seconds by hand."""

from __future__ import annotations

import pytest

from kvsim.calibration.measure.point import FIXED_S, Point, expected_s


def test_a_name_depends_on_what_is_asked_and_on_nothing_else() -> None:
    point = Point(family="gemm", x={"m": 1, "n": 2}, seconds=3.0, memory_bytes=4)
    same = Point(family="gemm", x={"n": 2, "m": 1})
    assert point.key == same.key
    others = [
        Point(family="decode", x={"m": 1, "n": 2}),
        Point(family="gemm", x={"m": 1, "n": 3}),
        Point(family="gemm", x={"m": 1, "n": 2}, role="heldout"),
        Point(family="gemm", x={"m": 1, "n": 2}, flags=("anchor:end",)),
    ]
    assert len({point.key, *(other.key for other in others)}) == 5


@pytest.mark.parametrize(
    ("work", "call_s"),
    [
        ({"moved_bytes": 3e9}, 1e-3),  # 3 GB at 3 TB/s
        ({"flops": 6e12}, 1e-2),  # 6 TFLOP at 600 TFLOP/s
        ({"moved_bytes": 3e9, "flops": 6e12}, 1e-2),  # the longer one
    ],
)
def test_twenty_calls_and_some_again(work: dict[str, float], call_s: float) -> None:
    samples_s = max(0.03, 20 * (5e-6 + call_s))
    assert expected_s(**work) == pytest.approx(FIXED_S + 1.2 * samples_s)


def test_a_short_call_is_measured_for_30_ms() -> None:
    assert expected_s(moved_bytes=1) == pytest.approx(0.05 + 1.2 * 0.03)


def test_long_lists_are_cut_where_a_point_is_named() -> None:
    text = str(Point(family="ragged", x={"seq_lens": [[i, 1] for i in range(99)], "heads": 8}))
    assert text.startswith("ragged seq_lens=[[0, 1],")
    assert text.endswith("... heads=8")
    assert len(text) < 80
