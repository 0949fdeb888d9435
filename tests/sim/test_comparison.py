"""Comparisons: relative to the first, judged by direction, with what else differs said aloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvsim.sim.comparison import Comparison, Row, compare
from kvsim.sim.metric_directions import METRICS
from kvsim.sim.stored import Stored, read_all
from support.stored_runs import stored_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at = tmp_path_factory.mktemp("runs")
    return {
        "base": stored_run(at / "base"),
        "again": stored_run(at / "again"),
        "narrow": stored_run(at / "narrow", max_num_seqs=8),
        "other": stored_run(at / "other", seed=1),
        "small": stored_run(at / "small", blocks=400),
    }


def compared(runs: Mapping[str, Path], *names: str) -> Comparison:
    return compare(read_all([runs[name] for name in names]))


def row(comparison: Comparison, path: str, group: str = "") -> Row:
    return next(one for one in comparison.rows if (one.path, one.group) == (path, group))


def test_a_run_is_the_same_as_itself(runs: Mapping[str, Path]) -> None:
    found = compared(runs, "base", "again")
    assert not any(one.differs for one in found.rows)
    assert found.differences == ()
    assert found.warnings == ()
    assert {one.change(1) for one in found.rows} == {"same"}


def test_fewer_seats_are_worse_where_they_cost(runs: Mapping[str, Path]) -> None:
    found = compared(runs, "base", "narrow")
    ttft, running = row(found, "ttft_s.p95"), row(found, "peak_running")
    before, after = ttft.values
    assert before is not None
    assert after is not None
    assert ttft.change(1) == "worse"
    assert ttft.relative(1) == pytest.approx(after / before - 1)
    assert row(found, "output_tokens_per_s").change(1) == "worse"
    assert row(found, "tpot_s.p50").change(1) == "better"
    assert running.values == (16, 8)
    assert running.change(1) == "different"
    assert [one.values for one in found.differences if one.name == "max_num_seqs"] == [("16", "8")]
    assert not any("traces differ" in line for line in found.warnings)


def test_another_trace_is_said_aloud(runs: Mapping[str, Path]) -> None:
    found = compared(runs, "base", "other")
    assert found.warnings == ("The traces differ: the columns do not serve the same requests.",)
    assert [one.name for one in found.differences] == ["digest: trace"]


def test_another_pool_is_said_aloud(runs: Mapping[str, Path]) -> None:
    found = compared(runs, "base", "small")
    said = "The memory budgets differ: the KV pools hold another number of tokens."
    assert found.warnings == (said,)
    assert row(found, "pool_slots").change(1) == "worse"


def test_differences_are_to_the_first_of_three(runs: Mapping[str, Path]) -> None:
    found = compared(runs, "narrow", "base", "again")
    ttft = row(found, "ttft_s.p95")
    assert ttft.change(1) == ttft.change(2) == "better"
    assert ttft.relative(1) == ttft.relative(2)
    assert found.names == ("narrow", "base", "again")


def test_json_holds_what_the_table_shows(runs: Mapping[str, Path]) -> None:
    found = compared(runs, "base", "narrow")
    values = found.to_json()
    assert values["columns"] == ["base", "narrow"]
    metrics: Any = values["metrics"]
    ttft = next(one for one in metrics if one["path"] == "ttft_s.p95")
    assert ttft["change"] == [None, "worse"]
    assert ttft["values"] == list(row(found, "ttft_s.p95").values)
    assert ttft["relative"][1] > 0


def test_a_missing_value_is_no_difference() -> None:
    one = Row(path="x", metric=METRICS["ttft_s.p50"], values=(None, 2.0, 0.0))
    assert (one.change(1), one.relative(1)) == (None, None)
    zero = Row(path="x", metric=METRICS["num_preemptions"], values=(0, 2))
    assert (zero.change(1), zero.relative(1)) == ("worse", None)
    assert zero.differs


def test_a_result_without_digests_says_that_it_has_none() -> None:
    empty = Stored(name="a", kind="result", values={"num_finished": 1})
    found = compare([empty, replace(empty, name="b")])
    assert found.warnings[0].startswith("a, b has no digest of its trace")


def test_another_version_is_said_aloud(runs: Mapping[str, Path]) -> None:
    base, again = read_all([runs["base"], runs["again"]])
    sources = {**again.values["sources"], "version": "0.0"}
    later = replace(again, values={**again.values, "sources": sources})
    found = compare([base, later])
    assert found.warnings == ("The versions of kvsim differ.",)
    assert [one.name for one in found.differences] == ["version"]


def test_nothing_in_common_is_one_sentence() -> None:
    one = Stored(name="a", kind="result", values={"makespan_s": 1.0})
    two = Stored(name="b", kind="result", values={"num_steps": 1})
    with pytest.raises(ValueError, match="a and b have no metric in common"):
        compare([one, two])


def plan(name: str, running: float, *, titles: tuple[str, ...] = ("max",)) -> Stored:
    def candidate(title: str, value: float) -> dict[str, object]:
        backlog = {"mean_running": value, "output_tokens_per_s": 10 * value}
        deployment = {"max_num_seqs": 16}
        summary = {"digests": {"trace": "t", "cost": "c", "budget": "b"}, "num_finished": 5}
        return {
            "title": title,
            "backlog": backlog,
            "summary": summary,
            "deployment": deployment,
            "usd_per_million_output_tokens": 1 / value,
        }

    candidates = [candidate("paged", running), *(candidate(title, 3.0) for title in titles)]
    return Stored(name=name, kind="plan", values={"candidates": candidates, "trace": {}})


def test_plans_are_compared_by_candidate() -> None:
    found = compare([plan("a", 10.0), plan("b", 8.0, titles=("max", "pow2"))])
    assert row(found, "backlog.mean_running").change(1) == "worse"
    assert row(found, "usd_per_million_output_tokens").change(1) == "worse"
    assert row(found, "backlog.mean_running", "max").change(1) == "same"
    assert row(found, "backlog.mean_running", "pow2").values == (None, 3.0)
    assert row(found, "backlog.mean_running", "pow2").title == "pow2: running under backlog"
    assert row(found, "summary.num_finished").values == (5, 5)
    assert found.warnings == ()
    assert {one.group for one in found.rows} == {"", "max", "pow2"}
