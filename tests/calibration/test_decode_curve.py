"""The curve's two lines, by hand."""

from __future__ import annotations

from kvsim.calibration.decode_curve import DecodeCurve
from kvsim.calibration.step_cost import UNBOUNDED, Line

CURVE = DecodeCurve(
    decodes=4,
    knots=[0.0, 400.0],
    ns=[100.0, 100.0],
    slopes=[0.0, 2.0],
    full_ns=[80.0, 80.0],
    full_slopes=[0.0, 1.5],
    longest_floor_ns=10.0,
    longest_ns_per_token=3.0,
)


def test_even_sequences() -> None:
    """800 tokens over 4: 100 + 400 x 2 ns, 2 ns for each of the 4 tokens a step."""
    assert CURVE.lines(800, 0) == (Line(900.0, 8.0, UNBOUNDED),)
    assert CURVE.lines(800, 200) == (Line(900.0, 8.0, UNBOUNDED),)


def test_the_longest_sequence() -> None:
    """300 where the mean is 200: half its excess beside the rest, or it alone at the end."""
    beside = Line(900.0 + 3.0 * (300 - 200) / 2, 8.0, UNBOUNDED)
    alone = Line(900.0 - (80.0 + 400 * 1.5) + 10.0 + 3.0 * 300, 8.0 - 6.0 + 3.0, UNBOUNDED)
    assert CURVE.lines(800, 300) == (beside, alone)


def test_steps_up_to_the_next_knot() -> None:
    """4 tokens a step from 301 on: 301, 305 ... 397 lie below 400."""
    assert CURVE.lines(301, 0) == (Line(100.0, 0.0, 25),)
