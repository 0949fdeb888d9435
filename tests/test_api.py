"""The names that ``from kvsim import ...`` gives, and the examples of docs/python.md."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas
import pytest

import kvsim
from kvsim import SLO, Deployment, Trace, plan, read_trace, simulate
from kvsim.api import STABLE
from kvsim.cli import options
from kvsim.cli.groups import _parameters
from kvsim.sim.job import simulate_server
from kvsim.sim.load import load_server

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"


@pytest.fixture(scope="module")
def trace() -> Trace:
    return read_trace(workload="sharegpt", num_requests=60, rate_per_s=20.0, seed=2)


def test_the_stable_names_are_there() -> None:
    assert all(getattr(kvsim, name).__name__ == name for name in STABLE)
    assert set(STABLE) <= set(dir(kvsim))
    assert set(STABLE) == set(kvsim._HOMES)
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        kvsim.simulat  # noqa: B018


def test_importing_kvsim_imports_none_of_it() -> None:
    code = "import sys, kvsim; print([n for n in ('numpy', 'simpy', 'pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_deployment_is_the_command_line(trace: Trace) -> None:
    """The same names, the same defaults: a flag added to one must be added to the other."""
    groups = (options.hardware_options, options.flag_options, options.allocator_options)
    shown = {p.name: p.default for group in groups for p in _parameters(group)}
    shown["page_size"] = shown.pop("page_bytes")
    assert {field.name: field.default for field in fields(Deployment)} == shown


def test_simulate_is_kvsim_simulate(trace: Trace) -> None:
    run = simulate(trace, Deployment(gpu="h100-sxm", block_size=32, max_num_seqs=8))
    server = load_server(
        trace,
        hardware={"gpu": "h100-sxm", "model": "llama-3.1-8b"},
        flags={"block_size": 32, "max_num_seqs": 8},
    )
    _, summary = simulate_server(server, trace=trace)
    assert run.summary.to_json() == summary.to_json()


def test_tables_have_the_columns_of_the_files(trace: Trace, tmp_path: Path) -> None:
    run = simulate(trace)
    run.save(tmp_path / "here")
    written = pandas.read_parquet(tmp_path / "here" / "requests.parquet").set_index("index")
    table = run.requests
    pandas.testing.assert_frame_equal(table[list(written)], written, check_dtype=False)
    assert np.allclose(table["ttft_s"], table["first_token_s"] - table["arrival_s"])
    assert table["ttft_s"].quantile(0.95) == pytest.approx(run.summary.ttft_s.p95, rel=1e-9)
    assert run.occupancy["duration_s"].sum() > 0
    assert set(run.phases["phase"]) >= {"queued", "decode"}
    assert run.figure("latency-cdf").axes
    with pytest.raises(ValueError, match=r"figure\(='latency-cd'\) is unknown; near: latency-cdf"):
        run.figure("latency-cd")


def test_attainment_counts_requests(trace: Trace) -> None:
    run = simulate(trace)
    limit = float(np.sort(run.requests["ttft_s"])[44])  # 45 of 60 are within
    assert run.attainment(SLO(ttft_s=limit)) == pytest.approx(45 / 60)
    assert run.attainment(SLO(ttft_s=limit, e2e_s=1e-9)) == 0.0


def test_a_table_is_a_trace() -> None:
    lengths = {"prompt_tokens": [5, 6], "output_tokens": [7, 8]}
    table = pandas.DataFrame({**lengths, "arrival_s": [1.0, 0.5], "tenant": [0, 1]})
    made = read_trace(table)
    assert made.prompt_tokens.tolist() == [6, 5]  # in order of arrival
    assert made.arrival_s is not None
    assert made.arrival_s.tolist() == [0.5, 1.0]
    assert made.tenant is not None
    assert made.tenant.tolist() == [1, 0]
    assert read_trace(pandas.DataFrame(lengths)).arrival_s is None


WRONG = {
    "no column": (lambda: read_trace(pandas.DataFrame({"prompt_tokens": [1]})), "output_tokens"),
    "half a token": (
        lambda: read_trace(pandas.DataFrame({"prompt_tokens": [1.5], "output_tokens": [2]})),
        "column prompt_tokens must hold whole numbers.",
    ),
    "unknown argument": (lambda: read_trace(workloads="alpaca"), "near: workload."),
    "a table and more": (lambda: read_trace(pandas.DataFrame(), seed=3), "seed is for files"),
    "no such file": (lambda: read_trace("/nowhere/x.csv"), "x.csv"),
    "negative memory": (lambda: Deployment(non_kv_memory=-1).spec, "non_kv_memory(=-1) must be"),
    "no limit": (SLO, "slo has no limit"),
    "quantile": (lambda: SLO(ttft_s=1, quantile=95), "quantile(=95) must be in (0, 1]."),
    "limit": (lambda: SLO(tpot_s=0), "slo_tpot(=0) must be > 0 s."),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_sentence(name: str) -> None:
    act, words = WRONG[name]
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_a_plan_has_tables_and_figures(trace: Trace, tmp_path: Path) -> None:
    made = plan(trace, Deployment(gpu="a100", max_num_seqs=16))
    assert list(made.candidates.index) == [one.title for one in made.plan.candidates]
    assert made.candidates["bound_by"].iloc[0] == "max_num_seqs(=16)"
    assert made.serve_command.startswith("vllm serve ")
    assert set(made.figures()) >= {"requests-at-once", "tornado"}
    assert made.save(tmp_path / "report")[0].name == "report.html"


def test_a_plan_decides(trace: Trace) -> None:
    made = plan(
        trace,
        Deployment(max_num_seqs=16),
        slo=SLO(ttft_s=2.0, tpot_s=0.05),
        choices={"gpu": ["a100", "h200"]},
        target_rate_per_s=3.0,
        confidence_runs=0,
    )
    assert made.decision is not None
    assert made.decision.met
    assert list(made.options.index) == ["a100", "h200"]
    assert made.options["why_not"].map(bool).tolist().count(False) == 1
    assert (made.options["rate_per_s"] > 0).all()
    assert set(made.figures()) >= {"options-rate", "options-cost", "slo"}


def test_wrong_choices_are_one_sentence(trace: Trace) -> None:
    for choices, words in (
        ({"gpus": ["a100"]}, "choice(='gpus') is unknown; near: gpu"),
        ({"gpu": "a100"}, "must be a list of values."),
        ({"gpu": ["a100", "a100"]}, "must name each GPU once."),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            plan(trace, choices=choices)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="options needs slo"):
        _ = plan(trace).options


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 6
    there: dict[str, object] = {}
    for block in blocks:  # one after the other, as in a notebook
        exec(compile(block, str(PAGE), "exec"), there)
