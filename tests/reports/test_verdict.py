"""The answer in words says what the numbers say."""

from __future__ import annotations

from kvsim.reports import words
from kvsim.reports.verdict import answer, headline, setting, short_name, verdict
from kvsim.sim.plan import Plan


def test_headline_prints_the_defaults_first(plan: Plan) -> None:
    text = "\n".join(setting(plan))
    assert headline(plan)[: len(setting(plan))] == setting(plan)
    for word in (
        "llama-3.1-8b",
        "A100",
        "gpu_memory_utilization 0.92",
        "max_model_len 2048",
        "max_num_seqs 16",
        "synthetic sharegpt",
        "poisson at 6/s",
        "affine, given by the user",
        "prefix caching hash",
    ):
        assert word in text


def test_answer_holds_the_ratios(plan: Plan) -> None:
    assert plan.chosen.backlog is not None
    backlog, memory, trace = answer(plan)[:3]
    assert f"runs {words.mean(plan.chosen.backlog.mean_running)} requests at once" in backlog
    for advantage in plan.advantages:
        name = advantage.baseline.split(" (")[0]
        assert f"{words.times(advantage.under_backlog)} {name}" in backlog
        assert f"{words.times(advantage.memory_alone)} {name}" in memory
        assert f"{words.times(advantage.over_the_trace)} {name}" in trace


def test_verdict_names_the_limit(plan: Plan) -> None:
    assert plan.chosen.bound_by == "max_num_seqs(=16)"
    assert "max_num_seqs(=16) limits it" in verdict(plan)
    assert "memory alone would hold" in verdict(plan)


def test_a_baseline_that_runs_nothing_is_said_to(lopsided_plan: Plan) -> None:
    text = "\n".join(answer(lopsided_plan))
    assert "contiguous-max can hold no request of the trace" in text
    assert "contiguous-max (buddy) rejects 120 requests" in text
    assert "inf" not in text
    assert "nan" not in text


def test_placement_is_named_only_where_it_tells_baselines_apart(plan: Plan) -> None:
    assert short_name(plan, "contiguous-max (buddy)") == "contiguous-max"


def test_skipped_rows_are_counted(evil_plan: Plan) -> None:
    assert any("25 rows skipped" in line for line in setting(evil_plan))
