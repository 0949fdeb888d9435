"""Which changes fail: by direction, by tolerance, by what there is to compare."""

from __future__ import annotations

import pytest

from kvsim.sim.regress.compare import Comparison, compare
from kvsim.sim.regress.tolerance import NONE, Tolerances, read_tolerances
from support.suites import baseline

BOTH = read_tolerances({"both": True})
LOOSE = read_tolerances({"relative": 0.1})


def compared(
    metric: str, old: float | None, new: float | None, tolerances: Tolerances = NONE
) -> Comparison:
    """One metric beside its baseline."""
    return compare(
        baseline(metrics={metric: old}), baseline(metrics={metric: new}), tolerances, line=3
    )


@pytest.mark.parametrize(
    ("metric", "old", "new", "tolerances", "verdict", "fails"),
    [
        ("ttft_s.p95", 1.0, 1.000000001, NONE, "worse", True),
        ("ttft_s.p95", 1.0, 0.9, NONE, "improved", False),
        ("ttft_s.p95", 1.0, 0.9, BOTH, "improved", True),
        ("ttft_s.p95", 1.0, 1.05, LOOSE, "within", False),
        ("ttft_s.p95", 1.0, 1.2, LOOSE, "worse", True),
        ("requests_per_s", 4.0, 3.9, NONE, "worse", True),
        ("requests_per_s", 4.0, 4.1, NONE, "improved", False),
        ("num_preemptions", 0, 1, NONE, "worse", True),
        ("num_preemptions", 1, 0, NONE, "improved", False),
        ("peak_running", 12, 13, NONE, "changed", True),
        ("peak_running", 12, 11, NONE, "changed", True),
        ("peak_running", 12, 13, LOOSE, "within", False),
        ("tpot_s.p50", None, 0.1, NONE, "changed", True),
        ("tpot_s.p50", 0.1, None, LOOSE, "changed", True),
        ("of_a_newer_kvsim", 1.0, 2.0, NONE, "changed", True),
    ],
)
def test_verdicts(
    metric: str,
    old: float | None,
    new: float | None,
    tolerances: Tolerances,
    verdict: str,
    fails: bool,
) -> None:
    found = compared(metric, old, new, tolerances)
    (change,) = found.changes
    assert (change.verdict, change.fails) == (verdict, fails)
    assert (found.verdict == "regressed") is fails
    assert (change.old, change.new) == (old, new)


def test_what_is_the_same_is_only_counted() -> None:
    for value in (0.5, None):
        found = compared("ttft_s.p95", value, value)
        assert (found.verdict, found.changes, found.num_metrics) == ("same", (), 1)


def test_metrics_that_come_and_go() -> None:
    old = baseline(metrics={"num_steps": 7, "wasted_tokens": 1})
    new = baseline(metrics={"num_steps": 7, "shared_saved": 0.5})
    gone, added = compare(old, new, NONE).changes
    assert (gone.metric, gone.verdict, gone.fails) == ("wasted_tokens", "gone", True)
    assert (added.metric, added.verdict, added.fails) == ("shared_saved", "new", False)


def test_changes_come_in_the_order_of_a_summary() -> None:
    old = {"num_steps": 1, "ttft_s.p95": 1.0, "makespan_s": 1.0, "zzz": 1.0}
    new = {name: 2 * value for name, value in old.items()}
    found = compare(baseline(metrics=old), baseline(metrics=new), NONE)
    names = [change.metric for change in found.changes]
    assert names == ["makespan_s", "ttft_s.p95", "num_steps", "zzz"]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({"ttft_s.p95": (1.0, 0.5), "ttft_s.p99": (1.0, 2.0)}, "regressed"),
        ({"ttft_s.p95": (1.0, 0.5), "ttft_s.p99": (1.0, 1.01)}, "improved"),
        ({"ttft_s.p99": (1.0, 1.01)}, "within"),
        ({"ttft_s.p99": (1.0, 1.0)}, "same"),
    ],
)
def test_a_case_is_as_bad_as_its_worst(
    verdicts: dict[str, tuple[float, float]], expected: str
) -> None:
    old, new = ({name: pair[side] for name, pair in verdicts.items()} for side in (0, 1))
    loose = read_tolerances({"relative": 0.1})
    assert compare(baseline(metrics=old), baseline(metrics=new), loose).verdict == expected


def test_other_inputs_are_named() -> None:
    digests = {"trace": "t" * 64, "cost": "x", "budget": "y"}
    found = compare(baseline(), baseline(digests=digests), NONE)
    assert found.notes == (
        "the step times are not the baseline's",
        "the memory budget is not the baseline's",
    )
    assert compare(baseline(), baseline(), NONE).notes == ()


def test_json_holds_the_change() -> None:
    found = compared("ttft_s.p95", 0.4, 0.5, LOOSE).to_json()
    assert found == {
        "name": "chat",
        "verdict": "regressed",
        "num_metrics": 1,
        "changes": [
            {
                "metric": "ttft_s.p95",
                "old": 0.4,
                "new": 0.5,
                "relative_change": 0.25,
                "tolerance": {"relative": 0.1, "absolute": 0.0},
                "verdict": "worse",
                "fails": True,
            }
        ],
        "notes": [],
    }
    (change,) = compared("num_preemptions", 0, 3).changes
    assert change.relative is None
