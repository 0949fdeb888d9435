"""``kvsim calibrate`` as it is typed: measuring (on an invented card), refit, import, report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kvsim.calibration.measure import calibrate as module
from kvsim.calibration.measure.point import Point
from support.command import loaded, run
from support.fake_card import FakeCard

FEW = "ceilings,host,baselines"
IMPORTED = "measured/rtx-pro-6000-llama-3.1-8b/profile"


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    """A card in this machine."""
    invented = FakeCard()
    monkeypatch.setattr(module, "open_card", lambda gpu, seed: invented)
    return invented


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu_is_one_sentence_that_says_what_to_do() -> None:
    result = run("calibrate", "--out", "x.json")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: no NVIDIA GPU here: run this on the card, or use --from, --refit, or "
        "--step-cost silicon.\n"
    )


def test_a_profile_is_measured_fitted_again_and_reported(card: FakeCard, tmp_path: Path) -> None:
    out = tmp_path / "h200.json"
    result = run("calibrate", "--families", FEW, "--budget", "8m", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert f"Wrote {out}, {tmp_path / 'h200.samples.jsonl.gz'}" in result.stdout.replace("\n", " ")
    assert "A block 16" in result.stdout
    assert "Missing: decode, ragged" in result.stdout
    before = out.read_bytes()
    assert run("calibrate", "--refit", str(out)).exit_code == 0
    assert out.read_bytes() == before
    shown = run("calibrate", "report", str(out), "--out", str(tmp_path / "report"))
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / "report" / "report.html").exists()


def test_json_is_the_profile_and_its_paths(card: FakeCard, tmp_path: Path) -> None:
    out = tmp_path / "h200.json"
    found = loaded("calibrate", "--families", FEW, "--seed", "4", "--out", str(out))
    assert found["paths"] == [str(out), str(tmp_path / "h200.samples.jsonl.gz")]
    assert found["run"]["seed"] == 4
    assert found["ended"] == ""
    assert (
        loaded("calibrate", "report", str(out), "--out", str(tmp_path / "r"))["id"] == found["id"]
    )


def test_ctrl_c_leaves_a_profile_and_exit_code_130(card: FakeCard, tmp_path: Path) -> None:
    def stop(point: Point) -> None:
        if len(card.prepared) == 40:
            raise KeyboardInterrupt

    card.on_prepare = stop
    result = run("calibrate", "--families", FEW, "--out", str(tmp_path / "h200.json"))
    assert result.exit_code == 130
    assert "Ended early (interrupted)" in result.stdout
    assert "40" in str(len((tmp_path / "h200.partial.jsonl").read_text().splitlines()) - 2)


def test_a_card_that_fails_is_told_and_leaves_what_was_measured(
    card: FakeCard, tmp_path: Path
) -> None:
    def fail() -> None:
        if len(card.prepared) == 40:
            raise RuntimeError("CUDA error: unspecified launch failure")

    card.on_release = fail
    result = run("calibrate", "--families", FEW, "--out", str(tmp_path / "h200.json"))
    assert result.exit_code == 1
    assert "Ended early (the card failed after " in result.stdout
    assert (tmp_path / "h200.json").exists()


def test_another_tools_times_are_imported(shared_file: object, tmp_path: Path) -> None:
    folder = str(shared_file(IMPORTED))  # type: ignore[operator]
    out = tmp_path / "rtx.json"
    result = run("calibrate", "--from", folder, "--gpu", "rtx-pro-6000", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["provenance"] == "imported"


WRONG = {
    "no path": ([], "out must name the profile to write: --out h200.json."),
    "no json": (["--out", "x"], "out(='x') must be named .json."),
    "budget": (["--out", "x.json", "--budget", "1h"], "budget(='1h') must be seconds or minutes"),
    "families": (["--out", "x.json", "--families", "gems"], "families(='gems') must be of ceil"),
    "model": (["--out", "x.json", "--model", "lama"], "model(='lama') is unknown"),
    "budget beside refit": (
        ["--refit", "x.json", "--budget", "3s"],
        "budget(='3s') says nothing beside --refit: leave it out.",
    ),
    "from beside refit": (
        ["--refit", "x.json", "--from", "a/"],
        "from(='a/') says nothing beside --refit: leave it out.",
    ),
    "seed beside from": (
        ["--from", "a/", "--seed", "3"],
        "seed(=3) says nothing beside --from: leave it out.",
    ),
    "shards beside measuring": (
        ["--out", "x.json", "--tensor-parallel-size", "2"],
        "tensor_parallel_size(=2) says nothing beside measuring: leave it out.",
    ),
    "no card for from": (
        ["--from", "a/", "--out", "x.json"],
        "gpu must name the card that --from was measured on: --gpu NAME.",
    ),
    "no such profile": (["--refit", "none.json"], "none.json cannot be read"),
    "options before report": (
        ["--seed", "3", "report", "x.json"],
        "seed(=3) says nothing beside report: leave it out.",
    ),
    "no such report": (["report", "none.json"], "none.json cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, sentence = WRONG[name]
    result = run("calibrate", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


BARE = """
import sys
from importlib.abc import MetaPathFinder

ABSENT = {absent!r}

class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
sys.path.insert(0, {tests!r})
from kvsim.cli import app
if {invented!r}:
    from kvsim.calibration.measure import calibrate
    from support.fake_card import FakeCard
    calibrate.open_card = lambda gpu, seed: FakeCard()
try:
    app({arguments!r})
except SystemExit as end:
    code = end.code
print([name for name in ("torch", "triton", "scipy") if name in sys.modules], code)
"""
"""Runs a command where some packages are not installed, and says what it loaded."""


def bare(arguments: list[str], absent: tuple[str, ...], *, invented: bool = False) -> str:
    tests = str(Path(__file__).parent)
    text = BARE.format(absent=absent, tests=tests, invented=invented, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return done.stdout


def test_measuring_needs_little_more_than_the_extra(tmp_path: Path) -> None:
    absent = ("simpy", "pandas", "pyarrow", "matplotlib", "jinja2", "aiconfigurator_core")
    out = str(tmp_path / "h200.json")
    shown = bare(["calibrate", "--families", FEW, "--out", out], absent, invented=True)
    assert f"Wrote {out}" in shown.replace("\n", "")
    assert bare(["calibrate", "--refit", out], absent).endswith("['scipy'] 0\n")


def test_help_loads_nothing_that_measures() -> None:
    assert bare(["calibrate", "--help"], ("numpy",)).endswith("[] 0\n")
