"""``kvsim sweep`` as a user types it."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from kvsim.sim.sweep import backends
from support.clusters import free_port
from support.command import loaded, run
from support.sweeps import GRID, write_grid

REFUSED = GRID.replace(
    "block_size = [8, 16]", 'model = ["llama-3.1-8b", "llama-3.1-405b"]'
).replace("num_gpu_blocks_override = 200\n", "")


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    grid = write_grid(folder, GRID.replace("rates", "slo_ttft = 2.0\nrates"))
    done = run("sweep", str(grid), "--out", str(folder / "out"), "--jobs", "1")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"4 cells: 4 new. Look: kvsim sweep show {folder / 'out'}\n"
    return folder


@pytest.fixture(name="place")
def _place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path / "p"


def test_again_with_the_command_or_without(place: Path) -> None:
    for words in (["sweep"], ["sweep", "run"]):
        done = run(*words, "grid.toml", "--out", "out", "--jobs", "1")
        assert done.stdout == ("4 cells: 0 new, 4 stored before. Look: kvsim sweep show out\n")
    assert loaded("sweep", "--out", "out", "grid.toml") == {
        "num_cells": 4,
        "num_stored": 4,
        "num_new": 0,
        "failures": [],
    }


def test_the_table(place: Path) -> None:
    shown = run("sweep", "show", "out")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert [line.split(",")[0] for line in lines if line.startswith("paged")] == [
        *("paged-8", "paged-8", "paged-16", "paged-16")
    ]
    assert "SLO" in shown.stdout
    assert "* on the Pareto front of its trace" in shown.stdout
    cells = loaded("sweep", "show", "out")["cells"]
    assert [cell["rate_per_s"] for cell in cells] == [4.0, 8.0, 4.0, 8.0]
    assert all(0 < cell["attainment"] <= 1 for cell in cells)
    starred = sum(" * " in line for line in lines if line.startswith("paged"))
    assert starred == sum(cell["on_front"] for cell in cells) > 0
    only = run("sweep", "show", "out", "--front").stdout.splitlines()
    assert sum(line.startswith("paged") for line in only) == starred


def test_files_for_other_tools(place: Path) -> None:
    files = ("--csv", "a/cells.csv", "--parquet", "cells.parquet", "--out", "page")
    shown = run("sweep", "show", "out", *files)
    assert shown.exit_code == 0, shown.output
    for name in ("a/cells.csv", "cells.parquet", "page/report.html"):
        assert f"Wrote {name}" in shown.stdout
    cells = loaded("sweep", "show", "out")["cells"]
    table = pyarrow.parquet.read_table(place / "cells.parquet")
    assert table.to_pylist() == cells
    with (place / "a" / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [cell["name"] for cell in cells]
    assert [float(row["ttft_s.p95"]) for row in rows] == [cell["ttft_s.p95"] for cell in cells]
    assert sorted(path.name for path in (place / "page").iterdir()) == [
        *("cells.csv", "cells.parquet", "kvsim.json"),
        *("pareto-front.png", "pareto-front.svg", "report.html"),
    ]


def test_a_cell_without_a_result_is_exit_code_1(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, REFUSED)
    out = str(tmp_path / "out")
    done = run("sweep", str(grid), "--out", out, "--jobs", "1")
    assert done.exit_code == 1
    *failures, last = done.stdout.splitlines()
    assert last.startswith("4 cells: 2 new, 2 without a result.")
    assert [line.split(" refused: ")[0] for line in failures] == [
        f"paged-llama-3.1-405b, chat, {rate}/s" for rate in (4, 8)
    ]
    shown = run("sweep", "show", out)
    assert shown.exit_code == 0
    assert "Without a result" in shown.stdout
    assert "refused" in shown.stdout
    page = run("sweep", "show", out, "--out", str(tmp_path / "page"))
    assert page.exit_code == 0, page.output
    assert "Without a result" in (tmp_path / "page" / "report.html").read_text()


def test_what_has_not_run_yet_is_said(place: Path) -> None:
    gone = sorted((place / "out" / "runs").iterdir())[0]
    gone.unlink()
    cells = loaded("sweep", "show", "out")["cells"]
    assert [cell["status"] for cell in cells if cell["key"] == gone.stem] == ["not run"]
    for path in (place / "out" / "runs").iterdir():
        path.unlink()
    nothing = run("sweep", "show", "out", "--out", "page")
    assert nothing.exit_code == 0, nothing.output
    assert not list((place / "page").glob("*.png"))


WRONG = {
    "no grid": (["none.toml", "--out", "x"], "grid(='none.toml') cannot be read: No such file"),
    "no name": (["grid.toml", "--out", ""], "out(='') must name a folder or a URL."),
    "a folder of others": (["grid.toml", "--out", "."], "did not write (grid.toml, out): name ano"),
    "an unknown backend": (
        ["grid.toml", "--out", "x", "--backend", "spark"],
        "backend(='spark') must be one of loky, ray, dask.",
    ),
    "no processes": (["grid.toml", "--out", "x", "--jobs", "0"], "jobs(=0) must be > 0."),
    "no time": (["grid.toml", "--out", "x", "--timeout", "0"], "timeout(=0) must be > 0 s."),
    "an address of nothing": (
        ["grid.toml", "--out", "x", "--address", "host:1"],
        "address(='host:1') needs backend ray or dask.",
    ),
    "no address": (
        ["grid.toml", "--out", "x", "--backend", "dask", "--address", "host"],
        "address(='host') must be HOST:PORT.",
    ),
    "no sweep": (["show", "none"], "sweep(='none') holds no sweep: run `kvsim sweep` first."),
    "no such latency": (
        ["show", "out", "--latency", "ttft_s.p96"],
        "latency(='ttft_s.p96') is unknown; near: ttft_s.p99, ttft_s.p95",
    ),
    "no such grid": (["show", "out", "--grid", "grids"], "grid(='grids') is unknown; near: grid"),
    "a page over the sweep": (
        ["show", "out", "--out", "out", "--force"],
        "out(='out') holds 'out': name another folder.",
    ),
    "a folder for a file": (["show", "out", "--csv", "out"], "csv(='out') must name a file."),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_sentence(place: Path, name: str) -> None:
    arguments, expected = WRONG[name]
    found = run("sweep", *arguments)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert found.stderr.startswith("Error: ")
    assert expected in found.stderr
    assert found.stderr.count("\n") == 1
    assert not (place / "x").exists()


def test_a_trace_that_cannot_be_read_is_one_sentence(place: Path) -> None:
    write_grid(place, GRID.replace('workload = "sharegpt"\nnum_requests = 20', 'trace = "no.csv"'))
    found = run("sweep", "grid.toml", "--out", "x")
    assert found.exit_code == 2
    assert "no.csv" in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("backend", ["ray", "dask"])
def test_a_cluster_that_is_not_there(place: Path, backend: str) -> None:
    """Asked by a plain connection: the clusters' own clients try for long, and say much."""
    address = f"127.0.0.1:{free_port()}"
    found = run("sweep", "grid.toml", "--out", "x", "--backend", backend, "--address", address)
    assert found.exit_code == 2
    assert found.stderr == (
        f"Error: address(={address!r}) has no {backend} cluster: Connection refused.\n"
    )
    assert not (place / "x").exists()


def test_a_backend_that_is_not_installed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    found = run("sweep", "grid.toml", "--out", "x", "--backend", "ray")
    assert found.exit_code == 2
    assert found.stderr == "Error: backend(='ray') needs ray: pip install 'kvsim[ray]'.\n"


def test_another_versions_folder(place: Path) -> None:
    manifest = place / "out" / "kvsim.json"
    manifest.write_text(manifest.read_text().replace("kvsim-sweep/1", "kvsim-sweep/0"))
    for words in (["grid.toml", "--out", "out"], ["show", "out"]):
        found = run("sweep", *words)
        assert found.exit_code == 2
        assert "holds a sweep of another version ('kvsim-sweep/0'; this kvsim" in found.stderr
        assert found.stderr.count("\n") == 1


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom kvsim.cli import app\n"
        "try: app(['sweep', 'run', '--help'])\nexcept SystemExit: pass\n"
        "heavy = ('numpy', 'pandas', 'matplotlib', 'joblib', 'fsspec', 'kvsim.sim')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_table_is_json_too(place: Path) -> None:
    found = json.loads(run("sweep", "show", "out", "--json").stdout)
    assert found["schema"] == "kvsim-sweep-rows/1"
