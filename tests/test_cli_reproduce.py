"""``kvsim reproduce`` as a user types it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kvsim.sim.reproduce import ROWS
from kvsim.sim.reproduce.claim import Claim, near
from kvsim.sim.reproduce.row import Row
from kvsim.sim.reproduce.setup import Setting
from support.command import loaded, run


def test_some_rows_and_their_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("reproduce", "--only", "jenga", "--only", "vattention-pages", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "jenga-ratio" in done.stdout
    assert "2 of 2 published results hold" in done.stdout
    assert {path.suffix for path in out.iterdir()} == {".html", ".json", ".png", ".svg"}
    again = run("reproduce", "--only", "jenga", "--out", str(out))
    assert again.exit_code == 0, "its own folder is replaced"
    assert not (out / "vattention-pages.png").exists()


def test_json() -> None:
    values = loaded("reproduce", "--only", "jenga-ratio")
    assert values["set"] == "quick"
    assert values["claims"][0]["verdict"] == "held"


def test_a_surprise_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(setting: Setting) -> Claim:
        return replace(ROWS_BEFORE["jenga-ratio"].run(setting), checks=(near("x", 1.0, 2.0),))

    monkeypatch.setitem(ROWS, "jenga-ratio", Row(run=broken))
    done = run("reproduce", "--only", "jenga-ratio", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["verdict"] == "failed"


ROWS_BEFORE = dict(ROWS)
WRONG = {
    "unknown row": (["--only", "jenga-rate"], "Error: only(='jenga-rate') is unknown; near: jenga"),
    "no folder": (["--traces", "nowhere"], "Error: traces(='nowhere') is no folder."),
    "no process": (["--jobs", "0", "--only", "jenga"], "Error: jobs(=0) must be > 0."),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case: str) -> None:
    arguments, sentence = WRONG[case]
    done = run("reproduce", *arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith(sentence)


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = run("reproduce", "--only", "jenga", "--out", str(tmp_path))
    assert done.exit_code == 2
    assert "mine.txt" in done.stderr
