"""Terminal tables: whole at 100 columns, plain in a pipe, and no matplotlib for them."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table

from kvsim.calibration.gpus import known_gpus
from kvsim.calibration.models import known_models
from kvsim.reports import tables
from kvsim.reports.sheet import Sheet
from kvsim.sim.plan import Plan
from kvsim.traces.stats import trace_stats

WIDTH = 100


def printed(table: Table) -> str:
    out = StringIO()
    Console(file=out, width=WIDTH, force_terminal=False).print(table)
    text = out.getvalue()
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    return text


def test_plan_table_is_whole_at_100_columns(plan: Plan) -> None:
    text = printed(tables.plan_table(plan))
    assert "…" not in text
    rows = text.split("─\n")[-1]
    assert rows.index("paged") < rows.index("contiguous-max") < rows.index("contiguous-oracle")
    assert plan.chosen.bound_by.partition("(")[0] in text


def test_plan_table_of_a_baseline_that_runs_nothing(lopsided_plan: Plan) -> None:
    text = printed(tables.plan_table(lopsided_plan))
    assert "no request" in text
    assert "nan" not in text


def test_budget_table_names_every_line_and_the_total(plan: Plan) -> None:
    text = printed(tables.budget_table(plan.budget))
    for word in ("weights", "activation peak", "KV pool", "total", "100.0 %", "given by the user"):
        assert word in text


def test_pool_table_counts_requests_of_a_length(plan: Plan) -> None:
    lines = printed(tables.pool_table(plan.budget, [160])).splitlines()
    row = next(line for line in lines if "requests of 160 tokens" in line)
    assert row.split()[-1] == str(plan.budget.requests_of(160))


def test_summary_table_has_times_rates_and_shares(plan: Plan) -> None:
    text = printed(tables.summary_table(plan.chosen.summary))
    for word in ("TTFT", "p99", "output tokens/s", "effective KV utilisation", "pool: reserved"):
        assert word in text


def test_stats_table_flattens_groups(plan: Plan) -> None:
    text = printed(tables.stats_table(trace_stats(plan.trace), title="mine"))
    assert "mine" in text
    assert "input: p50" in text
    assert "requests" in text
    assert "120" in text


def test_catalogues_fit() -> None:
    gpus = printed(tables.gpus_table(known_gpus()))
    models = printed(tables.models_table(known_models()))
    assert "a100-pcie" in gpus
    assert "llama-3.1-8b" in models
    assert "…" not in gpus + models


def test_a_row_must_match_the_header() -> None:
    with pytest.raises(ValueError, match="must have 2 cells"):
        Sheet(title="", columns=("a", "b"), rows=(("1",),))


def test_tables_load_no_heavy_library() -> None:
    code = (
        "import sys, kvsim.reports, kvsim.reports.tables;"
        "print([m for m in ('matplotlib', 'jinja2', 'pandas', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
