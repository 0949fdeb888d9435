"""Points on disk: read back, cut off, damaged, of another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvsim.calibration.measure.partial import Partial, partial_path
from kvsim.calibration.measure.point import Point
from kvsim.calibration.profile.values import Sample

HEADER = {"gpu": "h200", "seed": 0, "kernel_hash": "sha256:1"}
ONE = Point(family="gemm", x={"m": 1, "seq_lens": [[3, 2]]})
TWO = Point(family="gemm", x={"m": 2})
SAMPLE = Sample(family="gemm", x={"m": 1, "seq_lens": [[3, 2]]}, t=(1e-6, 2e-6), flags=("noisy",))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return partial_path(tmp_path / "h200.json")


def write(path: Path, header: dict[str, Any] = HEADER) -> None:
    partial = Partial(path, header)
    partial.add_sample(ONE, SAMPLE)
    partial.add_failure(TWO, "OutOfMemoryError: no room")
    partial.add_run({"seconds": 3.0})
    partial.close()


def test_the_file_lies_beside_the_profile() -> None:
    assert partial_path(Path("a/h200.json")) == Path("a/h200.partial.jsonl")
    assert partial_path(Path("a/h200.v2.json")) == Path("a/h200.v2.partial.jsonl")


def test_what_was_written_is_there_again(path: Path) -> None:
    write(path)
    read = Partial(path, HEADER)
    assert read.samples == {ONE.key: SAMPLE}
    assert read.failures == {TWO.key: "OutOfMemoryError: no room"}
    assert read.runs == [{"seconds": 3.0}]
    assert ONE.key in read
    assert TWO.key in read
    assert "other" not in read
    read.close()


def test_every_point_is_on_disk_at_once(path: Path) -> None:
    partial = Partial(path, HEADER)
    partial.add_sample(ONE, SAMPLE)
    assert len(path.read_text().splitlines()) == 2
    partial.delete()
    assert not path.exists()


def test_a_line_that_was_cut_off_is_dropped_and_written_over(path: Path) -> None:
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"point": "x", "sam')
    partial = Partial(path, HEADER)
    partial.add_run({"seconds": 4.0})
    partial.close()
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line) for line in path.read_text().splitlines()][-1] == {
        "run": {"seconds": 4.0}
    }


@pytest.mark.parametrize("line", ["{", '{"point": "x"}', '{"point": "x", "sample": {}}', "[]"])
def test_a_damaged_line_is_named(path: Path, line: str) -> None:
    write(path)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"h200\.partial\.jsonl line 5 is damaged"):
        Partial(path, HEADER)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"gpu": "a100"}, {"kernel_hash": "sha256:2"}])
def test_points_of_another_run_are_not_mixed_in(path: Path, changed: dict[str, Any]) -> None:
    write(path)
    before = path.read_bytes()
    (name,) = changed
    with pytest.raises(ValueError, match=rf"was measured with {name}\(=.*: move it away"):
        Partial(path, HEADER | changed)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be written: No such file"):
        Partial(tmp_path / "no" / "x.partial.jsonl", HEADER)
