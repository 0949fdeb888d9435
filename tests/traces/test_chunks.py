"""Streams have the rows of the trace they stand for, in any chunks."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from kvsim.traces import (
    Lengths,
    PrefixGroups,
    Sessions,
    Trace,
    Workload,
    arrival_times,
    fixed,
    fixed_workload,
    load_trace,
    synthesize,
    write_mooncake,
)
from kvsim.traces.chunks import Chunk, Stream, in_chunks, over_and_over, stream_of, survey
from kvsim.traces.drawn import drawn_in_chunks, with_process
from kvsim.traces.intake import Intake, take_in
from kvsim.traces.pieces import Pieces, in_pieces
from kvsim.traces.stream_intake import take_stream

COLUMNS = ("prompt_tokens", "output_tokens", "arrival_s", "parent", "delay_s", "hash_ids")
WORKLOAD = Workload(
    name="groups and turns",
    prompt=Lengths(kind="uniform", low_tokens=3, high_tokens=40),
    output=fixed(5),
    prefix_groups=PrefixGroups(num_groups=3, prefix_tokens=40),
    sessions=Sessions(turns=fixed(2), think_mean_s=1.0),
)


def joined(stream: Stream, name: str) -> Any:
    """One column of all chunks; None where it is in none."""
    columns = [getattr(chunk, name) for chunk in stream.chunks()]
    return None if columns[0] is None else np.concatenate(columns)


def renamed(ids: Any) -> list[int]:
    """Ids by their first places: what they are called does not matter."""
    places: dict[int, int] = {}
    return [places.setdefault(name, len(places)) for name in ids.tolist()]


def assert_same_rows(stream: Stream, trace: Trace) -> None:
    for name in (*COLUMNS, "cancel_s", "priority"):
        ours, theirs = joined(stream, name), getattr(trace, name)
        if ours is None or theirs is None:
            assert ours is theirs, name
        elif name == "hash_ids":
            np.testing.assert_array_equal(renamed(ours), renamed(theirs))
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_trace_in_chunks_has_its_rows(size: int) -> None:
    trace = take_in(
        Intake(num_requests=50, rate_per_s=2.0, turns=3, prefix_groups=2, prefix_tokens=30)
    ).trace
    stream = in_chunks(trace, size=size)
    assert_same_rows(stream, trace)
    starts = [chunk.first_row for chunk in stream.chunks()]
    assert starts == list(range(0, 50, size))
    assert survey(stream).digest == trace.digest
    read = [stream_of("read", in_chunks(trace, size=n).chunks) for n in (9, 13)]  # as from a file
    assert survey(read[0]) == survey(read[1]), "whatever the size of a chunk"


def test_a_survey_by_hand() -> None:
    trace = Trace(
        name="by hand",
        prompt_tokens=np.array([5, 70, 40]),
        output_tokens=np.array([90, 10, 56]),
        arrival_s=np.array([1.0, 2.5, 4.0]),
    )
    found = survey(in_chunks(trace, size=2))
    assert (found.num_requests, found.longest, found.span_s) == (3, (40, 56), 3.0)
    other = survey(in_chunks(replace(trace, output_tokens=np.array([90, 10, 55])), size=2))
    assert other.digest != found.digest


def test_over_and_over_goes_on_after_a_mean_gap() -> None:
    """Arrivals at 1, 2 and 5 s: every 6 s; ids, and parents, are each time's own."""
    trace = Trace(
        name="thrice",
        prompt_tokens=np.array([4, 4, 4]),
        output_tokens=np.array([1, 2, 3]),
        arrival_s=np.array([1.0, 2.0, 5.0]),
        parent=np.array([-1, -1, 0]),
        hash_ids=np.array([7], dtype=np.uint64),
        hash_offsets=np.array([0, 1, 1, 1]),
        hash_block_size=4,
    )
    stream = over_and_over(in_chunks(trace, size=2), 3)
    assert joined(stream, "arrival_s").tolist() == [1, 2, 5, 7, 8, 11, 13, 14, 17]
    assert joined(stream, "parent").tolist() == [-1, -1, 0, -1, -1, 3, -1, -1, 6]
    assert joined(stream, "hash_ids").tolist() == [7, 15, 23]
    assert joined(stream, "output_tokens").tolist() == [1, 2, 3] * 3
    assert [chunk.first_row for chunk in stream.chunks()] == [0, 2, 3, 5, 6, 8]
    with pytest.raises(ValueError, match=r"repeat\(=0\) must be > 0"):
        over_and_over(in_chunks(trace), 0)


def test_the_first_chunk_is_what_is_drawn_at_once() -> None:
    stream = drawn_in_chunks(WORKLOAD, num_requests=60, seed=4, size=60)
    assert_same_rows(stream, synthesize(workload=WORKLOAD, num_requests=60, seed=4))


def test_chunks_share_groups_and_nothing_else() -> None:
    """The prefix of a group is the same in every chunk; sessions and their ids are not."""
    stream = drawn_in_chunks(WORKLOAD, num_requests=200, seed=4, size=50)
    chunks = list(stream.chunks())
    assert [len(chunk) for chunk in chunks] == [50] * 4
    groups, own = [], []
    for chunk in chunks:
        assert chunk.hash_ids is not None
        assert chunk.hash_offsets is not None
        heads = [chunk.hash_ids[at : at + 2] for at in chunk.hash_offsets[:-1]]  # 40 // 16
        groups.append({tuple(head.tolist()) for head in heads})
        own.append(set(chunk.hash_ids.tolist()) - {i for head in groups[-1] for i in head})
        assert chunk.parent is not None
        inside = (chunk.parent == -1) | (chunk.parent >= chunk.first_row)
        assert inside.all(), "no session lies in two chunks"
    assert groups == [{(0, 1), (2, 3), (4, 5)}] * 4
    assert len(set.union(*own)) == sum(map(len, own))
    lengths = [chunk.prompt_tokens.tolist() for chunk in chunks]
    assert lengths[1] != lengths[0], "each chunk has a seed of its own"
    again = drawn_in_chunks(WORKLOAD, num_requests=200, seed=4, size=50)
    assert survey(again) == survey(stream)
    assert survey(drawn_in_chunks(WORKLOAD, num_requests=200, seed=5, size=50)) != survey(stream)


@pytest.mark.parametrize("process", ["poisson", "gamma", "constant", "backlog"])
def test_arrivals_are_one_process_over_all_chunks(process: str) -> None:
    rate = None if process == "backlog" else 3.0
    stream = in_chunks(synthesize(workload=WORKLOAD, num_requests=90, seed=0), size=8)
    made = with_process(
        stream,
        process=process,
        rate_per_s=rate,
        burstiness=0.5,
        rng=lambda: np.random.default_rng(3),
    )
    times = joined(made, "arrival_s")
    follows = joined(stream, "delay_s") >= 0
    np.testing.assert_array_equal(np.isnan(times), follows)
    expected = arrival_times(
        int((~follows).sum()),
        process=process,
        rate_per_s=rate,
        burstiness=0.5,
        rng=np.random.default_rng(3),
    )
    np.testing.assert_array_equal(times[~follows], expected)


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{46 + i // 3}.{680 + i}0000,{10 + i},{1 + i % 4}\n" for i in range(20)
)
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + "".join(
    f"{19440110 + 2 * i},ChatGPT,{5 + i},{2 + i},0,API\n" for i in range(11)
)


@pytest.mark.parametrize("text", [AZURE, BURST], ids=["azure", "burstgpt"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_table_in_pieces_is_the_table(tmp_path: Path, text: str, zipped: bool) -> None:
    path = tmp_path / ("trace.csv.gz" if zipped else "trace.csv")
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    stream = in_pieces(Pieces(path=path, size=6))
    assert stream is not None
    assert len(list(stream.chunks())) > 1
    assert_same_rows(stream, load_trace(path))


def test_bad_rows_keep_their_line_numbers(tmp_path: Path) -> None:
    lines = AZURE.splitlines()
    lines[9] = lines[9].replace(",18,", ",none,")
    lines[16] = "2023"
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(lines) + "\n")
    stream, whole = in_pieces(Pieces(path=path, size=4)), load_trace(path)
    assert stream is not None
    assert_same_rows(stream, whole)
    assert survey(stream).skipped == whole.skipped
    assert [skip.row for skip in whole.skipped] == [10, 17]


def test_json_lines_in_pieces_are_the_file(tmp_path: Path) -> None:
    groups = replace(WORKLOAD, sessions=None)
    drawn = synthesize(workload=groups, num_requests=30, seed=1)
    times = arrival_times(30, process="poisson", rate_per_s=2.0, rng=np.random.default_rng(0))
    path = write_mooncake(drawn.with_arrivals(times), tmp_path / "trace.jsonl.gz")
    stream = in_pieces(Pieces(path=path, size=8))
    assert stream is not None
    assert_same_rows(stream, load_trace(path))
    turns = synthesize(workload=WORKLOAD, num_requests=30, seed=1).with_arrivals(np.zeros(15))
    path = write_mooncake(turns, tmp_path / "turns.jsonl")
    with pytest.raises(ValueError, match=r"turns\.jsonl has sessions, which are read whole"):
        in_pieces(Pieces(path=path, size=8))


def test_parquet_in_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "requests.parquet"
    columns = {
        "arrival_s": [0.0, 1.5, 2.0],
        "prompt_tokens": [4, 5, 6],
        "output_tokens": [1, 2, 3],
        "status": ["finished"] * 3,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    taken = take_stream(Intake(trace=(str(path),)))
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert joined(taken.stream, name).tolist() == columns[name]
    del columns["arrival_s"]
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(ValueError, match=r"requests\.parquet lacks arrival_s\."):
        take_stream(Intake(trace=(str(path),)))


@pytest.mark.parametrize("large_bytes", [1, 1 << 30], ids=["in pieces", "whole"])
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"max_requests": 7},
        {"rate_per_s": 3.0, "seed": 2},
        {"rate_per_s": 3.0, "burstiness": 0.4},
        {"arrival_speedup_ratio": 2.5},
        {"arrival_process": "backlog"},
        {"concurrency": 4},
        {"window": "0.5:2"},
    ],
    ids=str,
)
def test_a_file_is_taken_in_as_a_whole_one(
    tmp_path: Path, asked: dict[str, Any], large_bytes: int
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(AZURE)
    intake = Intake(trace=(str(path),), **asked)
    taken = take_stream(intake, large_bytes=large_bytes)
    assert_same_rows(taken.stream, take_in(intake).trace)


@pytest.mark.parametrize(
    "asked",
    [
        {"workload": "sharegpt", "rate_per_s": 2.0},
        {"workload": "alpaca", "max_requests": 30},
        {"prompt_tokens": 9, "output_tokens": 3, "concurrency": 2},
        {"turns": 3, "think_time_s": 0.5, "rate_per_s": 1.0, "tenants": 2},
    ],
    ids=str,
)
def test_a_workload_is_taken_in_as_a_whole_one(asked: dict[str, Any]) -> None:
    intake = Intake(num_requests=80, **asked)
    taken, whole = take_stream(intake), take_in(intake)
    assert_same_rows(taken.stream, whole.trace)
    assert taken.origin == whole.origin


def test_what_cannot_be_streamed_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"n\(=2\) must be 1 for a request to be streamed\."):
        take_stream(Intake(n=2))
    with pytest.raises(ValueError, match=r"window\(='0:1'\) needs a trace file"):
        take_stream(Intake(window="0:1"))
    with pytest.raises(ValueError, match=r"trace file '.*gone.csv' cannot be read"):
        take_stream(Intake(trace=(str(tmp_path / "gone.csv"),)))
    with pytest.raises(ValueError, match=r"chunk_size\(=0\) must be > 0"):
        drawn_in_chunks(
            fixed_workload(prompt_tokens=1, output_tokens=1), num_requests=1, seed=0, size=0
        )
    (tmp_path / "empty.csv").write_text("\n")
    with pytest.raises(ValueError, match=r"empty\.csv holds no requests"):
        take_stream(Intake(trace=(str(tmp_path / "empty.csv"),)), large_bytes=1)


def test_a_head_of_a_chunk_keeps_its_chains() -> None:
    chunk = Chunk(
        first_row=5,
        prompt_tokens=np.array([8, 8, 8]),
        output_tokens=np.array([1, 1, 1]),
        arrival_s=None,
        hash_ids=np.array([1, 2, 3, 4], dtype=np.uint64),
        hash_offsets=np.array([0, 2, 3, 4]),
        hash_block_size=4,
    ).head(2)
    assert (len(chunk), chunk.first_row) == (2, 5)
    assert chunk.hash_ids is not None
    assert chunk.hash_ids.tolist() == [1, 2, 3]
