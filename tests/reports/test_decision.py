"""A decision on the page: sentences, tables, bars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kvsim.reports.decision_sheets import block_rate_sheet, evidence_sheets, option_sheet
from kvsim.reports.decision_words import answer_lines, decision_lines, question_lines
from kvsim.reports.figures.block_sizes import block_sizes
from kvsim.reports.figures.options import MOST_ROWS, objective, options_cost, options_rate
from kvsim.reports.page import plan_page
from kvsim.reports.style import fresh
from kvsim.sim.plan import Plan
from kvsim.sim.planner.decision import Decision
from kvsim.sim.server import Server
from support.planned import decided, fake_searches

RATES = {"a100": 10.0, "h100-sxm": 25.0, "h200": 32.0, "l40s": 5.0}


def rate(server: Server) -> float:
    """Blocks of 32 hold a tenth more."""
    return RATES[server.gpu.name] * (1.1 if server.deployment.block_size == 32 else 1.0)


@pytest.fixture
def decision(monkeypatch: pytest.MonkeyPatch) -> Decision:
    fake_searches(monkeypatch, rate)
    gpus = {"gpu": ("a100", "h100-sxm", "l4")}
    return decided({**gpus, "model": "qwen3-14b"}, {"block_size": (16, 32)}, target_rate_per_s=21.0)


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> Decision:
    fake_searches(monkeypatch, lambda server: 0.0)
    return decided({"gpu": ("a100", "h200")}, target_rate_per_s=5.0)


def test_the_sentences(decision: Decision) -> None:
    lines = decision_lines(decision)
    assert lines[0] == "Objective: TTFT <= 2 s and TPOT <= 0.05 s for 95 % of the requests."
    assert lines[1] == "Target: 21.0 requests/s (given)."
    assert lines[2] == (
        "Deploy 2 x (a100, block_size 32): each holds 11.0 requests/s, bound by compute; 2 GPUs, "
        "2.60 USD/h, 0.344 USD per million output tokens at the target (1.3 USD per GPU and hour: "
        "2026-05, midpoint of a May 2026 survey, specialty providers)."
    )  # 2.60 USD over 21 * 100 * 3600 tokens
    assert lines[3].startswith("Confirmed on 2 replicas, round robin by session: at 21.0")
    assert "Runner-up: h100-sxm, block_size 32: 1.15x the price: 1 GPU, 3.00 USD/h." in lines
    assert lines[-1] == (
        "Over vLLM's defaults for block_size this gains 10.0 %: 10.0 to 11.0 requests/s a replica."
    )
    assumed = replace(decision, assumed_slo=True, target_rate_per_s=None)
    assert "(assumed: no limit was given)" in question_lines(assumed)[0]
    assert question_lines(assumed)[1].startswith("No target rate")


def test_fewer_bits_are_remarked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, rate)
    assert answer_lines(decided(flags={"kv_cache_dtype": "fp8"}))[-1] == (
        "kv_cache_dtype fp8 changes what the model says: kvsim does not see how much."
    )


def test_every_server_has_a_row(decision: Decision) -> None:
    rows = {row[0]: row[1:] for row in option_sheet(decision).rows}
    assert next(iter(rows)) == "a100, block_size 32"
    assert rows["a100, block_size 32"] == ("11.0", "2", "2", "2.60", "0.344", "chosen")
    assert rows["a100, block_size 16"][:4] == ("10.0", "3", "3", "3.90")
    assert rows["l4, block_size 16"][:5] == ("-",) * 5
    assert "do not fit" in rows["l4, block_size 16"][5]
    assert len(rows) == 6


def test_block_sizes_have_their_rates(decision: Decision, plan: Plan) -> None:
    sheet = block_rate_sheet(decision, plan.block_sizes)
    assert sheet is not None
    assert plan.block_sizes is not None
    tails = {one.block_size: one.tail_share for one in plan.block_sizes.sizes}
    assert [(row[0], row[1], row[4]) for row in sheet.rows] == [
        ("16", f"{100 * tails[16]:.1f} %", "10.0"),
        ("32 (chosen)", f"{100 * tails[32]:.1f} %", "11.0"),
    ]
    drawn = block_sizes(replace(plan, decision=decision))
    assert drawn is not None
    assert len(drawn.figure.axes) == 4
    assert "holds 11.0 requests/s" in drawn.alt
    without = block_sizes(plan)
    assert without is not None
    assert len(without.figure.axes) == 3


def test_bars_are_what_the_table_says(decision: Decision, plan: Plan) -> None:
    with_it = replace(plan, decision=decision)
    cost, held = options_cost(with_it), options_rate(with_it)
    assert cost is not None
    assert held is not None
    widths = [bar.get_width() for bar in cost.figure.axes[0].patches]  # type: ignore[attr-defined]
    assert widths == pytest.approx([2.6, 3.0, 3.0, 3.9])
    widths = [bar.get_width() for bar in held.figure.axes[0].patches]  # type: ignore[attr-defined]
    assert widths[0] == pytest.approx(11.0)
    assert cost.alt.startswith(
        "Bars, USD per hour, all replicas: a100, block_size 32 2.60: 2 GPUs (chosen); "
    )
    assert objective(with_it) is not None


def test_many_servers_are_cut(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    fake_searches(monkeypatch, lambda server: 10.0)
    sizes = tuple(range(100, 120))
    drawn = options_cost(replace(plan, decision=decided(flags={"max_num_seqs": sizes})))
    assert drawn is not None
    assert len(drawn.figure.axes[0].patches) == MOST_ROWS
    assert drawn.caption.endswith(f"{20 - MOST_ROWS} more in the table.")
    assert len(drawn.sheet.rows) == 20


def test_without_prices_there_is_no_cost(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    fake_searches(monkeypatch, rate)
    decision = decided({"gpu": "l40s"}, target_rate_per_s=8.0)
    assert options_cost(replace(plan, decision=decision)) is None
    assert options_rate(replace(plan, decision=decision)) is not None
    assert "2 GPUs, whose price is not known (--price)" in answer_lines(decision)[0]


def test_the_page_begins_with_the_decision(decision: Decision, plan: Plan, tmp_path: Path) -> None:
    with_it = replace(plan, decision=decision)
    with fresh():
        picture = options_cost(with_it)
        assert picture is not None
        page = plan_page(with_it, [picture], directory=tmp_path)
    titles = ("Deploy 2 x", "What to deploy</h2>", 'id="options-cost"', "What happens</h2>")
    places = [page.index(title) for title in titles]
    assert places == sorted(places)
    assert page.count('id="options-cost"') == 1
    for text in ("1.15x the price", "schema = ", "What binds, and every rate tried"):
        assert text in page
    with fresh():
        assert "What to deploy" not in plan_page(plan, [])


def test_a_page_of_nothing_that_holds(nothing: Decision, plan: Plan) -> None:
    with_it = replace(plan, decision=nothing)
    assert options_cost(with_it) is None
    assert options_rate(with_it) is None
    with fresh():
        page = plan_page(with_it, [])
    assert "No server keeps the objective." in page
    assert "What to deploy</h2>" in page
    assert "recommended.toml" not in page
    assert evidence_sheets(nothing)


def test_words_of_a_name_stay_text(decision: Decision, plan: Plan) -> None:
    evil = "<script>alert(1)</script>"
    losers = tuple(replace(one, reason=evil) for one in decision.losers)
    with fresh():
        page = plan_page(replace(plan, decision=replace(decision, losers=losers)), [])
    assert evil not in page
