"""``kvsim compare`` and ``kvsim validate`` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kvsim.sim.files import json_bytes
from kvsim.sim.folder import write_folder
from support.command import loaded, run
from support.measured import FOLDER, TRACE

SMALL = [
    "--workload",
    "sharegpt",
    "-n",
    "40",
    "--rate",
    "6",
    "--step-cost",
    "affine:0.02,1e-4,1e-7",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("runs")
    for name, more in {"a": [], "b": ["--max-num-seqs", "4"], "c": ["--seed", "1"]}.items():
        result = run("simulate", *SMALL, *more, "--out", str(at / name))
        assert result.exit_code == 0, result.output
    (at / "mine").mkdir()
    (at / "mine" / "thesis.tex").write_text("x")
    return at


def test_two_results_side_by_side(runs: Path, tmp_path: Path) -> None:
    result = run("compare", str(runs / "a"), str(runs / "b"), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "max_num_seqs" in result.stdout
    assert "b against a: output tokens/s -" in result.stdout
    assert "% worse" in result.stdout
    assert (tmp_path / "out" / "report.html").exists()
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in result.stdout.replace("\n", "")


def test_another_trace_is_said_first(runs: Path) -> None:
    result = run("compare", str(runs / "a"), str(runs / "c"), str(runs / "b"))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Note: The traces differ: the columns do not serve the same")


def test_all_shows_every_metric(runs: Path) -> None:
    few = run("compare", str(runs / "a"), str(runs / "b")).stdout
    every = run("compare", str(runs / "a"), str(runs / "b"), "--all").stdout
    assert "ITL p99" not in few
    assert "ITL p99" in every


def test_json_of_a_comparison(runs: Path) -> None:
    found = loaded("compare", str(runs / "a"), str(runs / "b" / "summary.json"))
    assert found["columns"] == ["a", "b"]
    assert {one["path"] for one in found["metrics"]} >= {"ttft_s.p95", "output_tokens_per_s"}


def test_a_plan_is_no_result(runs: Path, tmp_path: Path) -> None:
    values = {"schema": "kvsim-plan/1", "candidates": [{"title": "paged", "summary": {}}]}
    write_folder(tmp_path / "p", "plan", {"plan.json": json_bytes(values)})
    mixed = run("compare", str(runs / "a"), str(tmp_path / "p"))
    assert mixed.exit_code == 2
    assert "'p' holds a plan and 'a' a result: only results or only plans" in mixed.stderr
    measured = str(runs / "a" / "requests.parquet")
    held = run("validate", "--measured", measured, "--result", str(tmp_path / "p"))
    assert held.exit_code == 2
    assert "holds a plan: give a folder that `kvsim simulate --out` wrote" in held.stderr


def test_the_published_run(shared_file: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    server = ["--gpu", "rtx-pro-6000", "--max-num-seqs", "128", "--max-num-batched-tokens", "2048"]
    trace = ["--trace", str(shared_file(TRACE)), "--trace-block-size", "16"]
    assert run("simulate", *trace, *server, "--out", str(out)).exit_code == 0
    names = ("requests.jsonl.gz", "timeseries.csv")
    given = [word for n in names for word in ("--measured", str(shared_file(f"{FOLDER}/{n}")))]
    asked = ["validate", *given, "--result", str(out)]
    shown = run(*asked, "--out", str(tmp_path / "page"))
    assert shown.exit_code == 0, shown.output
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    for line in (
        "E2E p50 29.6 s 28.3 s -4.4 % yes",
        "E2E p95 36.6 s 35.0 s -4.3 % yes",
        "TTFT p95 18.4 s 16.9 s -8.1 % yes",
        "running, peak 128 128 0.0 % -",
        "waiting, peak 104 98 -5.8 % -",
        "KV pool in use, mean not recorded 19.6 % - -",
    ):
        assert line in lines, line
    assert (tmp_path / "page" / "latency-cdf.png").exists()
    assert run(*asked, "--tolerance", "15%").exit_code == 0
    missed = run(*asked, "--tolerance", "10%", "--out", str(tmp_path / "page"))
    written = json.loads((tmp_path / "page" / "validation.json").read_bytes())
    assert (written["tolerance"], written["misses"]) == (0.1, ["ttft_s.p50"])
    assert missed.exit_code == 1
    assert "Off by more than 10 %: TTFT p50 (-14.0 %)." in missed.stdout
    values = json.loads(run(*asked, "--tolerance", "10%", "--json").stdout)
    assert values["misses"] == ["ttft_s.p50"]
    assert values["per_request"]["num_paired"] == 300


WRONG = {
    "one folder": (["compare", "{runs}/a"], "results(=1) must be 2 to 8"),
    "no folder": (["compare", "{runs}/a", "{runs}/x"], "does not exist"),
    "no metrics": (
        ["validate", "--measured", "{runs}/x", "--result", "{runs}/a"],
        "cannot be read",
    ),
    "no result": (
        ["validate", "--measured", "{runs}/a/requests.parquet", "--result", "{runs}/x"],
        "result(='{runs}/x') does not exist",
    ),
    "a page as input": (
        ["validate", "--measured", "{runs}/a/summary.json", "--result", "{runs}/a"],
        "a/summary.json') is in no format known here",
    ),
    "no tolerance": (
        [
            *("validate", "--measured", "{runs}/a/requests.parquet"),
            *("--result", "{runs}/a", "--tolerance", "much"),
        ],
        "tolerance(='much') must be a share >= 0",
    ),
    "out is an input": (
        ["compare", "{runs}/a", "{runs}/b", "--out", "{runs}/b"],
        "out(='{runs}/b') holds '{runs}/b': name another folder",
    ),
    "out holds an input": (
        ["compare", "{runs}/a", "{runs}/b", "--out", "{runs}"],
        "out(='{runs}') holds '{runs}/a': name another folder",
    ),
    "out is the result": (
        [
            *("validate", "--measured", "{runs}/a/requests.parquet"),
            *("--result", "{runs}/b", "--out", "{runs}/a"),
        ],
        "out(='{runs}/a') holds '{runs}/a/requests.parquet'",
    ),
    "a folder of someone's": (
        ["compare", "{runs}/a", "{runs}/b", "--out", "{runs}/mine"],
        "holds files that kvsim did not write",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_is_one_sentence(runs: Path, wrong: str) -> None:
    words, sentence = WRONG[wrong]
    result = run(*(word.format(runs=runs) for word in words))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert sentence.format(runs=runs) in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
