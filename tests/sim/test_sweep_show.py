"""The rows of a sweep and its Pareto front, against a front found by hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from kvsim.sim.load import load_server
from kvsim.sim.planner.probe import at_rate, probe
from kvsim.sim.planner.search import search_rate
from kvsim.sim.slo import SLO
from kvsim.sim.sweep.export import csv_bytes, parquet_bytes
from kvsim.sim.sweep.run import run_sweep
from kvsim.sim.sweep.show import Row, pareto, read_rows
from kvsim.traces.intake import Intake, take_in
from support.suites import CLOCK
from support.sweeps import GRID, grid_of, row


def names(rows: list[Row]) -> list[str]:
    """What is on a front."""
    return [one.name for one in rows]


ROWS = [
    row("cheap", 1.0, 100, 0.5),
    row("cheap but slow", 1.0, 100, 0.6),
    row("fast", 3.0, 100, 0.1),
    row("productive", 3.0, 900, 0.5),
    row("dear", 4.0, 900, 0.5),
    row("between", 2.0, 500, 0.3),
    row("as good", 2.0, 500, 0.3),
    row("worse than between", 2.5, 400, 0.4),
]


def test_the_front_by_hand() -> None:
    assert names(pareto(ROWS)) == ["cheap", "fast", "productive", "between", "as good"]
    assert names(pareto(ROWS, latency="e2e_s.p50")) == [
        *("cheap", "cheap but slow", "productive", "between", "as good")
    ]


def test_traces_do_not_compete() -> None:
    other = row("other trace", 9.0, 1, 9.0, trace="code")
    assert names(pareto([*ROWS, other]))[-1] == "other trace"


def test_what_cannot_be_weighed_is_left_out() -> None:
    unpriced = row("unpriced", None, 5000, 0.01)
    assert "unpriced" not in names(pareto([*ROWS, unpriced]))
    nothing = [row("idle", 1.0, None, None), row("failed", 0.1, 9999, 0.0, status="crashed")]
    assert names(pareto([*nothing, *ROWS])) == names(pareto(ROWS))
    free = [row("a", None, 100, 0.1), row("b", None, 100, 0.2), row("c", None, 200, 0.3)]
    assert names(pareto(free)) == ["a", "c"]


def test_dollars_for_a_million_tokens() -> None:
    # 3.6 $/h at 100 tokens/s = 360,000 tokens/h: 10 $ for 1,000,000
    assert row("a", 3.6, 100, 0.1).usd_per_million_output_tokens == 10.0
    assert row("a", None, 100, 0.1).usd_per_million_output_tokens is None
    assert row("a", 3.6, None, 0.1).usd_per_million_output_tokens is None


def test_csv_and_parquet_hold_every_value() -> None:
    rows = [*ROWS, row('idle, "quoted"', None, None, None, rate_per_s=None)]
    flat = [json.loads(json.dumps(one.flat())) for one in rows]
    assert pyarrow.parquet.read_table(io.BytesIO(parquet_bytes(rows))).to_pylist() == flat
    found = list(csv.DictReader(io.StringIO(csv_bytes(rows).decode())))
    assert [one["name"] for one in found] == [one["name"] for one in flat]
    assert found[-1]["rate_per_s"] == found[-1]["usd_per_hour"] == ""
    assert float(found[0]["output_tokens_per_s"]) == 100


def test_attainment_is_the_probes(tmp_path: Path) -> None:
    """Each run says who kept the limits, as the planner counts it."""
    limits = "slo_ttft = 0.3\nquantile = 0.9\nrates"
    text = (
        GRID.replace("rates", limits)
        .replace("[8, 16]", "16")
        .replace("requests = 20", "requests = 60")
    )
    run_sweep(grid_of(tmp_path, text), str(tmp_path / "out"), jobs=1)
    trace = take_in(Intake(workload="sharegpt", num_requests=60, rate_per_s=1.0)).trace
    slo = SLO(ttft_s=0.3, quantile=0.9)
    for one in read_rows(str(tmp_path / "out")):
        assert one.rate_per_s is not None
        expected = probe(_server(at_rate(trace, one.rate_per_s)), trace, one.rate_per_s, slo)
        assert one.attainment == pytest.approx(expected.attainment)
        assert one.goodput_per_s == pytest.approx(expected.goodput_per_s)
        assert 0 < one.attainment < 1, "limits that say something"


def test_a_searched_rate_is_the_planners(tmp_path: Path) -> None:
    text = GRID.replace("rates = [4, 8]", 'slo_ttft = 0.5\nquantile = 0.9\nrates = "slo"')
    text = text.replace("[8, 16]", "16")
    done = run_sweep(grid_of(tmp_path, text), str(tmp_path / "out"), jobs=1)
    assert done.failures == ()
    (one,) = read_rows(str(tmp_path / "out"))
    trace = take_in(Intake(workload="sharegpt", num_requests=20, rate_per_s=1.0)).trace
    expected = search_rate(_server(trace), trace, SLO(ttft_s=0.5, quantile=0.9))
    assert expected.rate_per_s > 0
    assert one.rate_per_s == pytest.approx(expected.rate_per_s)
    assert one.attainment is not None
    assert one.attainment >= 0.9


def test_no_rate_that_holds(tmp_path: Path) -> None:
    text = GRID.replace("rates = [4, 8]", 'slo_ttft = 1e-6\nrates = "slo"').replace("[8, 16]", "16")
    done = run_sweep(grid_of(tmp_path, text), str(tmp_path / "out"), jobs=1)
    assert done.failures == ()
    (one,) = read_rows(str(tmp_path / "out"))
    assert (one.status, one.rate_per_s, one.on_front) == ("done", 0.0, False)


def _server(trace: Any) -> Any:
    flags = {"step_cost": CLOCK, "num_gpu_blocks_override": 200, "block_size": 16}
    return load_server(trace, hardware={"gpu": "a100", "model": "llama-3.1-8b"}, flags=flags)
