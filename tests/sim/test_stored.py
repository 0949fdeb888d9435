"""Results read back: what was written, under names that tell them apart, or one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kvsim.sim.files import json_bytes
from kvsim.sim.folder import write_folder
from kvsim.sim.store import write_result
from kvsim.sim.stored import distinct, read_all, read_result, read_stored
from support.stored_runs import small_run, stored_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return stored_run(tmp_path / "a")


def plan_folder(path: Path) -> Path:
    values = {"schema": "kvsim-plan/1", "candidates": [{"title": "paged", "summary": {}}]}
    write_folder(path, "plan", {"plan.json": json_bytes(values)})
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    result, summary = small_run()
    write_result(result, summary, tmp_path / "a")
    found = read_stored(tmp_path / "a")
    assert (found.name, found.kind) == ("a", "result")
    assert found.values == json.loads(json.dumps(summary.to_json()))
    requests, segments = found.columns("requests"), found.columns("occupancy")
    assert requests is not None
    assert segments is not None
    for name, column in result.requests.items():
        np.testing.assert_array_equal(requests[name], column, err_msg=name)
    np.testing.assert_array_equal(segments["token_states"], result.segments["token_states"])
    assert found.columns("phase_of_the_moon") is None


def test_the_summary_of_a_folder_stands_for_the_folder(folder: Path) -> None:
    found = read_stored(folder / "summary.json")
    assert found.name == "a"
    assert found.columns("requests") is not None


def test_a_lone_summary_has_no_columns(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "night.json"
    alone.parent.mkdir()
    alone.write_bytes((folder / "summary.json").read_bytes())
    found = read_stored(alone)
    assert (found.name, found.kind) == ("night", "result")
    assert found.columns("requests") is None


def test_names_tell_folders_apart(folder: Path, tmp_path: Path) -> None:
    other = stored_run(tmp_path / "b" / "a")
    names = [run.name for run in read_all([folder, other, folder])]
    assert names == [f"{tmp_path.name}/a", "b/a", f"{tmp_path.name}/a (2)"]
    assert not any(str(tmp_path) in name for name in names)
    assert distinct(["x", "y"], [Path("1/x"), Path("1/y")]) == ["x", "y"]


def change(file: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text(text) and None  # type: ignore[return-value]


def rewritten(**values: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        files = {"summary.json": json_bytes(values)} if values else {"x.json": b"{}"}
        write_folder(folder, "result", files)

    return spoil


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "half-written": (lambda folder: (folder / "kvsim.json").unlink(), "half-written"),
    "a file is missing": (lambda folder: (folder / "requests.parquet").unlink(), "lacks requests"),
    "a file was changed": (change("summary.json", "{}"), "another summary.json"),
    "another version": (change("kvsim.json", '{"schema": "kvsim-folder/9"}'), "another version"),
    "no manifest of ours": (change("kvsim.json", "[1]"), "half-written, or not kvsim's"),
    "another schema": (rewritten(schema="kvsim-result/9"), "schema 'kvsim-result/9'"),
    "no schema": (rewritten(num_finished=3), "schema None"),
    "a plan inside": (rewritten(schema="kvsim-plan/1"), "holds no result in summary.json"),
    "no summary": (rewritten(), "holds no summary.json"),
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_spoiled_folder_is_one_sentence(folder: Path, spoil: str) -> None:
    do, sentence = SPOILED[spoil]
    do(folder)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_stored(folder)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_other_inputs_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    (tmp_path / "y.json").write_text("[]")
    write_folder(tmp_path / "c", "calibration", {"report.html": b""})
    plan = plan_folder(tmp_path / "p")
    cases = {
        "": "must name a folder",
        str(tmp_path / "none"): "does not exist",
        str(tmp_path / "x.json"): "x.json is not valid JSON",
        str(tmp_path / "y.json"): "must hold a JSON object, not a list",
        str(tmp_path / "c"): "folder of kind 'calibration'",
    }
    for path, sentence in cases.items():
        with pytest.raises(ValueError, match=sentence):
            read_stored(path)
    with pytest.raises(ValueError, match="holds a plan"):
        read_result(plan)
    with pytest.raises(ValueError, match="'p' holds a plan and 'a' a result"):
        read_all([folder, plan])
    with pytest.raises(ValueError, match=r"results\(=1\) must be 2 to 8"):
        read_all([folder])
    with pytest.raises(ValueError, match=r"results\(=9\) must be 2 to 8"):
        read_all([folder] * 9)
    (tmp_path / "plan.json").write_text('{"schema": "kvsim-plan/1", "candidates": [{}]}')
    with pytest.raises(ValueError, match=r"plan\.json must hold candidates"):
        read_stored(tmp_path / "plan.json")


def test_a_parquet_file_that_is_none_is_one_sentence(folder: Path) -> None:
    files = {"summary.json": (folder / "summary.json").read_bytes(), "requests.parquet": b"no"}
    write_folder(folder, "result", files)
    with pytest.raises(ValueError, match=r"requests\.parquet cannot be read as Parquet"):
        read_stored(folder).columns("requests")
