"""The log of a run: read as it was written, and what is whole of one that was cut off."""

from __future__ import annotations

import gzip
import json
import math
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from kvsim.calibration.engine.log import SCHEMA, Header, LogWriter
from kvsim.calibration.engine.log_reader import Log, read_log
from kvsim.calibration.engine.loop import Served
from kvsim.calibration.engine.records import RequestRecord
from support.logged import step

NAN = math.nan
HEADER = Header(
    engine="mini",
    hardware={"name": "cpu"},
    software={"torch": "2.13.0"},
    model={"name": "toy"},
    flags={"block_size": 4},
    trace={"name": "t", "digest": "d", "requests": 3},
)


STEPS = [
    step(0.0, (0, 8, 0), waiting=2),
    step(0.1, (0, 3, 8), (1, 5, 0)),
    step(0.2, (0, 1, 11), (1, 1, 5), (2, 4, 0), bucket=4, gpu_s=0.006),
    step(0.3, (0, 1, 12), (2, 1, 4), preempted=1, swapped_out_blocks=2),  # 1 is preempted
    step(0.4, (0, 1, 13), (1, 1, 6), (2, 1, 5), swapped_in_blocks=2, compiled=1),
    step(0.5, (1, 1, 7)),
    step(0.6, (0, 1, 3), (1, 1, 8)),  # 0 comes back to what it had long ago
    step(0.7, (0, 1, 4), (1, 1, 9), copied_blocks=3),
]
REQUESTS = [
    RequestRecord(
        request=1,
        arrival_s=0.0,
        scheduled_s=0.1,
        first_token_s=0.1125,
        last_token_s=0.7,
        prompt_tokens=5,
        output_tokens=6,
        preemptions=1,
    ),
    RequestRecord(
        request=2,
        arrival_s=0.05,
        scheduled_s=NAN,
        first_token_s=NAN,
        last_token_s=NAN,
        prompt_tokens=900,
        output_tokens=0,
        status="needs more than all 9 blocks of the pool",
    ),
]


def written(path: Path) -> Path:
    """A whole log."""
    with LogWriter(path, HEADER) as log:
        for record in STEPS:
            log.step(record)
        for request in REQUESTS:
            log.request(request)
        log.end({"why": "done"})
    return path


def same(found: object, expected: object) -> bool:
    """Equal, where NaN is NaN."""
    return repr(found) == repr(expected)


@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz"])
def test_a_log_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    log = read_log(written(tmp_path / name))
    assert log.header == HEADER
    for found, expected in zip(log.steps, STEPS, strict=True):
        assert same(found, expected)
    assert same(list(log.requests), REQUESTS)
    assert (log.end, log.notes, log.is_whole) == ({"why": "done"}, (), True)


def test_steps_that_only_decode_repeat_no_row(tmp_path: Path) -> None:
    lines = written(tmp_path / "run.jsonl").read_text().splitlines()
    assert ["rows" in json.loads(line) for line in lines[1:9]] == [
        True,  # a prompt
        True,  # its rest, another one
        True,  # a third; the first two decode
        False,
        True,  # the second comes back
        False,
        True,
        False,
    ]


def cut(whole: Path, num_bytes: int) -> Log:
    """What is read of so many bytes."""
    path = whole.with_name("cut" + "".join(whole.suffixes))
    path.write_bytes(whole.read_bytes()[:num_bytes])
    return read_log(path)


def test_of_a_log_that_is_cut_off_what_is_whole_is_used(tmp_path: Path) -> None:
    whole = written(tmp_path / "run.jsonl")
    lines = whole.read_bytes().splitlines(keepends=True)
    log = cut(whole, sum(map(len, lines[:4])) + 10)
    assert same(list(log.steps), STEPS[:3])
    assert not log.is_whole
    assert log.notes == (
        "cut.jsonl is cut off: 3 steps and 0 of 3 requests are whole and used, the rest is "
        "missing.",
    )
    everything_but_the_end = cut(whole, sum(map(len, lines[:-1])))
    assert len(everything_but_the_end.requests) == 2
    assert not everything_but_the_end.is_whole


def test_a_zipped_log_may_end_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl.gz"
    with LogWriter(path, HEADER) as log:
        for number in range(3000):
            log.step(step(number / 10, (number, 7, 0)))
    size = path.stat().st_size
    read = [len(cut(path, size * part // 10).steps) for part in range(3, 10)]
    assert read == sorted(read)
    assert 0 < read[-1] < 3000
    assert cut(path, size - 20).notes


def test_a_line_in_the_middle_that_is_no_line_ends_the_log(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    for broken in ("{]\n", "[1]\n", '{"step":[1]}\n'):
        path.write_text("".join([*lines[:3], broken, *lines[3:]]))
        log = read_log(path)
        assert (len(log.steps), log.is_whole) == (2, False)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (
            '{"schema":"kvsim-groundtruth/2"}',
            "schema(=kvsim-groundtruth/2) must be kvsim-groundtruth/1: run.jsonl is no log of this "
            "version.",
        ),
        (
            "arrived_at,num_prefill",
            "the first line of run.jsonl must be kvsim-groundtruth/1: run.jsonl is no log of this "
            "version.",
        ),
        (
            '{"schema":"kvsim-groundtruth/1","engine":"mini"}',
            "the header of run.jsonl must have hardware.",
        ),
    ],
)
def test_another_version_is_refused(tmp_path: Path, first: str, message: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(first + "\n")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_log(path)


def test_an_empty_file_and_one_that_is_not_zipped(tmp_path: Path) -> None:
    for name in ("empty.jsonl", "empty.jsonl.gz"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ValueError, match=f"the first line of {name} must be"):
            read_log(tmp_path / name)
    (tmp_path / "plain.gz").write_text("{}")
    with pytest.raises(ValueError, match="must be kvsim-groundtruth/1"):
        read_log(tmp_path / "plain.gz")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="must be kvsim-groundtruth/1"):
        read_log(tmp_path / "bytes.jsonl")


def test_a_compact_log_of_a_long_run_is_small(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl.gz"
    with LogWriter(path, HEADER) as log:
        for number in range(1000):
            log.step(step(number / 100, *((one, 1, 500 + number) for one in range(64))))
    assert path.stat().st_size < 64 * 1000, "a byte for each row is more than it takes"
    assert len(gzip.decompress(path.read_bytes())) < 200 * 1000


def test_the_formats_page_names_every_key(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "formats.md").read_text("utf-8")
    lines = map(json.loads, written(tmp_path / "run.jsonl").read_text().splitlines())
    keys = {key for line in lines for key in line} | {field.name for field in fields(Served)}
    for key in (*keys, SCHEMA):
        assert f"`{key}`" in page, key


def test_reading_needs_no_torch() -> None:
    code = (
        "import sys; import kvsim.calibration.engine.log_reader, kvsim.calibration.engine.shape; "
        "print([name for name in ('torch', 'triton', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
