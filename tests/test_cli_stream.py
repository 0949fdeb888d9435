"""``kvsim simulate --stream`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from kvsim.sim.folder import read_folder
from kvsim.sim.streaming import run as streaming
from support.command import SMALL, loaded, run
from support.streams import ACCURACY, SKETCHED

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{10 + i}.6800000,{10 + i},{1 + i % 4}\n" for i in range(20)
)


def test_the_summary_is_that_of_the_whole_run() -> None:
    whole, streamed = loaded("simulate", *SMALL), loaded("simulate", *SMALL, "--stream")
    assert list(streamed) == list(whole)
    for name in SKETCHED:
        ours, theirs = streamed.pop(name), whole.pop(name)
        assert ours["mean"] == pytest.approx(theirs["mean"], rel=1e-8)
        assert ours == pytest.approx(theirs, rel=ACCURACY)
    *notes, last = streamed["settings"].pop("notes")
    assert notes == whole["settings"].pop("notes")
    assert last.startswith("Streamed: percentiles of times are within 0.1 %")
    assert streamed == whole


def test_requests_are_written_in_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_REQUESTS_KEPT", 25)
    for name, more in (("whole", []), ("streamed", ["--stream"])):
        result = run("simulate", *SMALL, *more, "--out", str(tmp_path / name))
        assert result.exit_code == 0, result.output
    assert "Wrote" in result.stdout
    assert "summary.json, requests.parquet" in result.stdout.replace("\n", "")
    files = read_folder(tmp_path / "streamed", "result")
    assert set(files) == {"summary.json", "requests.parquet"}
    assert pyarrow.parquet.ParquetFile(files["requests.parquet"]).num_row_groups == 3
    ours, theirs = (
        pyarrow.parquet.read_table(tmp_path / name / "requests.parquet").sort_by("index")
        for name in ("streamed", "whole")
    )
    assert ours.equals(theirs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["streamed", "whole"]
    result = run("compare", str(tmp_path / "whole"), str(tmp_path / "streamed"))
    assert result.exit_code == 0, result.output
    assert run("simulate", *SMALL, "--stream", "--out", str(tmp_path / "whole")).exit_code == 0
    assert not (tmp_path / "whole" / "occupancy.parquet").exists(), "of the run before"


def test_a_run_that_breaks_off_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("the disk is full.")

    assert run("simulate", *SMALL, "--stream", "--out", str(tmp_path / "run")).exit_code == 0
    before = (tmp_path / "run" / "summary.json").read_bytes()
    monkeypatch.setattr(streaming.RequestFold, "add", broken)
    more = ["--seed", "1", "--stream", "--out", str(tmp_path / "run")]
    assert run("simulate", *SMALL, *more).exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_a_file_is_played_over_and_over(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    once = loaded("simulate", "--trace", str(path), "--stream")
    thrice = loaded("simulate", "--trace", str(path), "--stream", "--repeat", "3")
    assert once["num_finished"] == 20
    assert thrice["num_finished"] == 60
    assert thrice["makespan_s"] == pytest.approx(once["makespan_s"] + 40, rel=1e-3)
    said = run("simulate", "--trace", str(path), "--stream", "--repeat", "3").stdout
    assert "azure.csv, 3 times, 60 requests" in said.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--repeat", "2"], "repeat(=2) needs --stream."),
        (["--stream", "--repeat", "0"], "repeat(=0) must be > 0."),
        (["--stream", "--timeline", "t.json"], "timeline(=t.json) needs the whole run"),
        (["--stream", "--metrics", "m.txt"], "metrics(=m.txt) needs the whole run"),
        (["--stream", "--n", "2"], "n(=2) must be 1 for a request to be streamed."),
        (["--stream", "--beam-width", "2"], "beam_width(=2) must be 1"),
    ],
)
def test_what_a_stream_does_not_have_is_one_sentence(arguments: list[str], sentence: str) -> None:
    result = run("simulate", *SMALL, *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("simulate", *SMALL, "--stream", "--out", str(tmp_path / name)).exit_code == 0
    names = ("summary.json", "requests.parquet")
    first, second = ([(tmp_path / n / f).read_bytes() for f in names] for n in ("one", "two"))
    assert first == second
    assert json.loads(first[0])["num_requests"] == 60
