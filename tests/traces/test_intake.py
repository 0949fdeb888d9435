"""From options to a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kvsim.traces.intake import Intake, take_in, with_poisson


def write(tmp_path: Path, rows: list[str]) -> tuple[str, ...]:
    path = tmp_path / "rows.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + "\n".join(rows) + "\n")
    return (str(path),)


def test_default_is_two_thousand_sharegpt_lengths() -> None:
    taken = take_in(Intake())
    assert len(taken.trace) == 2000
    assert taken.trace.arrival_s is None
    assert taken.arrivals == ""
    assert taken.origin == "synthetic sharegpt, seed 0"


def test_window_head_and_speed(tmp_path: Path) -> None:
    trace = write(tmp_path, [f"{t},10,5" for t in range(10)])
    taken = take_in(Intake(trace=trace, window="2:8", max_requests=4, arrival_speedup_ratio=2.0))
    assert taken.trace.arrival_s is not None
    assert taken.trace.arrival_s.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert "sped up 2 times" in taken.arrivals


def test_a_rate_replaces_the_times_of_a_trace(tmp_path: Path) -> None:
    trace = write(tmp_path, [f"{t},10,5" for t in range(500)])
    taken = take_in(Intake(trace=trace, rate_per_s=10.0, seed=3))
    assert taken.trace.arrival_s is not None
    assert taken.trace.arrival_s[-1] == pytest.approx(50, rel=0.15)
    assert taken.arrivals == "poisson at 10/s, seed 3"


def test_lengths_do_not_change_with_the_arrivals() -> None:
    plain = take_in(Intake(workload="alpaca", num_requests=50))
    timed = take_in(Intake(workload="alpaca", num_requests=50, rate_per_s=3.0))
    np.testing.assert_array_equal(plain.trace.prompt_tokens, timed.trace.prompt_tokens)
    again = with_poisson(plain, rate_per_s=3.0, seed=0, why="because")
    np.testing.assert_array_equal(again.trace.arrival_s, timed.trace.arrival_s)
    assert "because" in again.arrivals


def test_wall_clock_times_count_from_the_first_arrival(tmp_path: Path) -> None:
    trace = write(tmp_path, ["1700000000.25,10,5", "1700000001.5,10,5"])
    taken = take_in(Intake(trace=trace))
    assert taken.trace.arrival_s is not None
    assert taken.trace.arrival_s.tolist() == pytest.approx([0.0, 1.25])
    assert "1700000000.250 s" in taken.trace.notes[-1]


def test_sessions_and_prefixes() -> None:
    taken = take_in(
        Intake(
            workload="sharegpt",
            num_requests=30,
            turns=3,
            think_time_s=2.0,
            prefix_groups=2,
            prefix_tokens=64,
            rate_per_s=1.0,
        )
    )
    trace = taken.trace
    assert trace.parent is not None
    assert (trace.parent >= 0).sum() >= 15
    assert trace.hash_ids is not None
    assert (trace.prompt_tokens > 64).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workload": "alpaca", "prompt_tokens": 1, "output_tokens": 1}, "exclude each other"),
        ({"prompt_tokens": 1}, "go together"),
        ({"prefix_groups": 1}, "go together"),
        ({"trace": ("x",), "turns": 2}, "synthetic workloads"),
        ({"concurrency": 2, "rate_per_s": 1.0}, "closed loop"),
        ({"seed": -1}, r"seed\(=-1\) must be >= 0"),
    ],
)
def test_contradictions(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Intake(**options)  # type: ignore[arg-type]
