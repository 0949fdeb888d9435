"""The table of directions: every number of a summary has one, and changes follow it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from kvsim.sim.metric_directions import METRICS, PLAN_METRICS, Metric, value_at
from support.stored_runs import small_run

NO_METRICS = ("settings.", "sources.", "digests.", "reject_reasons.")


def numbers(values: Mapping[str, object], before: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{before}{name}.")
        elif isinstance(value, int | float):
            yield before + name


def test_every_number_of_a_summary_has_a_direction_and_no_other() -> None:
    paths = numbers(small_run()[1].to_json())
    assert [path for path in paths if not path.startswith(NO_METRICS)] == list(METRICS)


@pytest.mark.parametrize(
    ("path", "direction"),
    [
        ("ttft_s.p95", "lower"),
        ("output_tokens_per_s", "higher"),
        ("num_finished", "higher"),
        ("num_rejected", "lower"),
        ("pool_share.internal", "lower"),
        ("prefix_hit_ratio", "higher"),
        ("mean_running", "neutral"),
        ("num_steps", "neutral"),
    ],
)
def test_which_way_is_better(path: str, direction: str) -> None:
    assert METRICS[path].direction == direction
    assert PLAN_METRICS[f"summary.{path}"] is METRICS[path]


def test_a_change_is_judged_by_the_direction() -> None:
    time, rate, steps = METRICS["ttft_s.p95"], METRICS["requests_per_s"], METRICS["num_steps"]
    assert [time.change(1.0, after) for after in (0.9, 1.0, 1.1)] == ["better", "same", "worse"]
    assert [rate.change(1.0, after) for after in (0.9, 1.0, 1.1)] == ["worse", "same", "better"]
    assert [steps.change(1, after) for after in (0, 1, 2)] == ["different", "same", "different"]


def test_values_are_found_by_path() -> None:
    values = {"a": {"b": 2, "c": None, "d": True}, "e": float("nan"), "f": 1.5}
    paths = ("a.b", "f", "a.c", "a.d", "a", "e", "x.y", "f.g")
    assert [value_at(values, path) for path in paths] == [
        2,
        1.5,
        None,
        None,
        None,
        None,
        None,
        None,
    ]


def test_a_direction_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"direction\(='up'\) must be lower, higher or neutral"):
        Metric(title="x", unit="count", direction="up")  # type: ignore[arg-type]
