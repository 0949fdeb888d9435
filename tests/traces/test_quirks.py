"""Odd and broken files: the right rows are kept, every other one is named with line and reason."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from kvsim.traces import CsvColumns, load_trace

Write = Callable[[str, str | bytes], Path]


class Quirk(NamedTuple):
    """Kept (prompt, output) rows, their times (s), and the skipped (line, reason) rows."""

    kept: list[tuple[int, int]]
    arrival_s: list[float]
    skipped: list[tuple[int, str]]


NAN = float("nan")
QUIRKS = {
    "azure_bom_crlf_nofinalnl.csv": Quirk(
        [(374, 44), (396, 109), (879, 55)], [0.0, 4.314579, 4.541877], []
    ),
    "azure2024_mixed_fraction.csv": Quirk(
        [(2162, 5), (2399, 6), (76, 15), (10, 1)], [0.0, 0.070499, 0.570499, 1.320499], []
    ),
    "bad_rows.csv": Quirk(
        [(100, 10), (1000, 10), (1000, 10)],
        [0.0, 2.0, 2.25],
        [
            (3, "num_prefill_tokens(=-3) must be > 0"),
            (4, "num_prefill_tokens(=abc) is not a number"),
            (5, "num_prefill_tokens(=12.5) must be a whole number"),
            (7, "arrived_at(=nan) must be finite"),
            (8, "has 2 fields, the header has 3"),
            (9, "has 4 fields, the header has 3"),
        ],
    ),
    "burstgpt_fails_blank_session.csv": Quirk(
        [(906, 446), (120, 7)],
        [0.0, 2.0],
        [(3, "Response tokens(=0) must be > 0"), (4, "Request tokens(=0) must be > 0")],
    ),
    "mooncake_edge.jsonl": Quirk(
        [(512, 5), (512, 5), (1025, 1), (100, 3), (100, 3), (700, 3), (700, 3), (100, 3)],
        [0.0, 0.0, 3.0, 7.0005, 7.001, 7.002, 7.003, 7.004],
        [(5, "output_length(=0) must be > 0")],
    ),
    "mooncake_sessions.jsonl": Quirk(
        [(2048, 128), (2560, 128), (512, 16), (3000, 4)], [1.0, NAN, 1.2, NAN], []
    ),
    "mooncake_truncated_last_line.jsonl": Quirk(
        [(512, 5)],
        [0.0],
        [(2, "is not valid JSON (Expecting ',' delimiter at column 78)")],
    ),
    "parallel_sampling.jsonl": Quirk(
        [(600, 100), (600, 100), (300, 64), (300, 200)], [0.0, 0.005, 0.009, 0.012], []
    ),
}
NO_REQUESTS = ("empty.jsonl", "header_only.csv")


@pytest.mark.parametrize("name", QUIRKS)
def test_quirk_keeps_the_right_rows(shared_traces: Path, name: str) -> None:
    trace, quirk = load_trace(shared_traces / "quirks" / name), QUIRKS[name]
    kept = zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    assert list(kept) == quirk.kept
    np.testing.assert_array_equal(trace.arrival_s, quirk.arrival_s)
    assert [(skip.row, skip.reason) for skip in trace.skipped] == quirk.skipped
    assert all(skip.file == name for skip in trace.skipped)


@pytest.mark.parametrize("name", [name for name, quirk in QUIRKS.items() if quirk.skipped])
def test_strict_makes_the_first_bad_row_fatal(shared_traces: Path, name: str) -> None:
    row, reason = QUIRKS[name].skipped[0]
    with pytest.raises(ValueError, match=r"^.*\.$") as caught:
        load_trace(shared_traces / "quirks" / name, strict=True)
    assert str(caught.value) == f"{name} row {row}: {reason}."


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_files_without_requests(shared_traces: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} holds no requests\.$"):
        load_trace(shared_traces / "quirks" / name)


def test_every_quirk_is_covered(shared_traces: Path) -> None:
    there = {path.name for path in (shared_traces / "quirks").iterdir()}
    assert there == {*QUIRKS, *NO_REQUESTS}


def test_blank_sessions_link_nothing(shared_traces: Path) -> None:
    trace = load_trace(shared_traces / "quirks/burstgpt_fails_blank_session.csv")
    assert trace.parent is None


def test_hash_ids_that_do_not_fit(shared_traces: Path) -> None:
    trace = load_trace(shared_traces / "quirks/mooncake_edge.jsonl")
    chains = [trace.hash_chain(row).tolist() for row in range(len(trace))]
    big = [18435288317095910706, 2**64 - 1]
    assert chains == [[0], [0], [0, 1, 2], [], [], big, [5], [5]]
    start = "mooncake_edge.jsonl: "
    assert trace.notes == (
        start + "hash_ids missing or empty, the prefix counts as unknown (rows: 2; 6, 7).",
        start + "surplus hash_ids were dropped (rows: 1; 10).",
        start + "hash_ids end before the prompt does, the rest counts as unknown (rows: 1; 9).",
        "rows earlier than the row before, sorted by time: 1.",
    )


def test_sessions_with_delays(shared_traces: Path) -> None:
    trace = load_trace(shared_traces / "quirks/mooncake_sessions.jsonl")
    assert trace.parent is not None
    assert trace.parent.tolist() == [-1, 0, -1, 1]
    np.testing.assert_array_equal(trace.delay_s, [NAN, 0.05, NAN, 0.0])
    assert trace.num_roots == 2
    assert trace.notes == ()


def test_parallel_sampling(shared_traces: Path) -> None:
    trace = load_trace(shared_traces / "quirks/parallel_sampling.jsonl")
    assert trace.num_samples is not None
    assert trace.beam_width is not None
    assert trace.num_samples.tolist() == [4, 1, 2, 4]
    assert trace.beam_width.tolist() == [0, 0, 4, 0]


GOOD = '{"timestamp": 0, "input_length": 5, "output_length": 5}\n'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"timestamp": 1, "output_length": 5}', "input_length is missing"),
        ('{"timestamp": 1, "input_length": NaN, "output_length": 5}', "input_length is NaN"),
        (
            '{"timestamp": 1, "input_length": true, "output_length": 5}',
            "input_length(=True) is not a number",
        ),
        (
            '{"timestamp": 1, "input_length": 1e30, "output_length": 5}',
            "input_length(=1e+30) must be <= 2147483647",
        ),
        (
            '{"timestamp": 1, "input_length": [1], "output_length": 5}',
            "input_length(=[1]) is not a number",
        ),
        (
            '{"timestamp": -1, "input_length": 1, "output_length": 5}',
            "timestamp(=-1) must be >= 0",
        ),
        (
            '{"timestamp": "soon", "input_length": 1, "output_length": 5}',
            "timestamp(=soon) is not a number",
        ),
        ('{"timestamp": 1, "text_input": "hello"}', "input_length is missing"),
        (
            '{"input_length": 1, "output_length": 5}',
            "has no time, and no earlier turn of its session to follow",
        ),
        (
            '{"session_id": "x", "delay": 5, "input_length": 1, "output_length": 5}',
            "has no time, and no earlier turn of its session to follow",
        ),
        (
            '{"timestamp": 1, "input_length": 1, "output_length": 5, "n": 0}',
            "n(=0) must be > 0",
        ),
        ("[1, 2]", "is not a JSON object"),
        ("null", "is not a JSON object"),
        ("{", "is not valid JSON (Expecting property name enclosed in double quotes at column 2)"),
    ],
)
def test_bad_json_rows(write: Write, line: str, reason: str) -> None:
    trace = load_trace(write("t.jsonl", GOOD + "\n" + line + "\n" + GOOD))
    assert len(trace) == 2
    assert [(skip.row, skip.reason) for skip in trace.skipped] == [(3, reason)]


@pytest.mark.parametrize("bad", ["-1", "1.0", '"7"', "18446744073709551616", "null", "true"])
def test_bad_hash_ids_cut_the_chain(write: Write, bad: str) -> None:
    row = f'{{"timestamp": 0, "input_length": 1500, "output_length": 5, "hash_ids": [4, {bad}, 6]}}'
    trace = load_trace(write("t.jsonl", row))
    assert trace.hash_chain(0).tolist() == [4]
    assert "outside [0, 2^64)" in trace.notes[0]


def test_lines_are_counted_through_quoted_line_breaks(write: Write) -> None:
    text = 'arrived_at,num_prefill_tokens,num_decode_tokens,"no\nte"\n0,1,1,"a\nb"\n1,x,1,c\n'
    trace = load_trace(write("t.csv", text))
    assert [skip.row for skip in trace.skipped] == [5]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "colour,size\nred,3\n", "a.csv has a header of no known format (columns: colour"),
        ("a.json", '{"colour": 3}', "a.json has records of no known format (keys: colour)"),
        ("a.json", "{nonsense", "a.json holds no requests: no line of it is a JSON object"),
        ("a.csv", b"\xff\xfe\x00", "a.csv is not UTF-8 text: byte 0 is bad"),
        ("a.gz", b"\x1f\x8b\x08\x00 cut", "a.gz is a damaged gzip file"),
        ("a.csv", "\n \n", "a.csv holds no requests."),
        (
            "a.csv",
            "arrived_at,num_prefill_tokens,num_decode_tokens\n0,0,1\n",
            "a.csv holds no requests (rows skipped: 1; row 2: num_prefill_tokens(=0) must be > 0)",
        ),
        (
            "a.json",
            '[{"conversations": []}]',
            "a.json is ShareGPT text: it needs --tokenizer tokenizer.json "
            "(pip install 'kvsim[sharegpt]')",
        ),
    ],
)
def test_hopeless_files(write: Write, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=r"^") as caught:
        load_trace(write(name, content))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_hopeless_arguments(write: Write, tmp_path: Path) -> None:
    good = write("good.jsonl", GOOD)
    with pytest.raises(ValueError, match=r"must be one of auto, azure.*did you mean mooncake"):
        load_trace(good, trace_format="moonkake")
    with pytest.raises(ValueError, match=r"trace_block_size\(=0\) must be > 0"):
        load_trace(good, trace_block_size=0)
    with pytest.raises(ValueError, match=r"cannot be read: No such file"):
        load_trace(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match=r"cannot be read: Is a directory"):
        load_trace(tmp_path)
    with pytest.raises(ValueError, match="must name at least one file"):
        load_trace([])
    with pytest.raises(ValueError, match="needs prompt_tokens_column"):
        load_trace(good, trace_format="csv")
    with pytest.raises(ValueError, match=r"timestamp_unit\(=h\) must be one of s, ms, us, ns"):
        CsvColumns(prompt_tokens_column="p", output_tokens_column="o", timestamp_unit="h")


def test_named_columns_must_be_there(write: Write) -> None:
    columns = CsvColumns(prompt_tokens_column="in", output_tokens_column="out")
    with pytest.raises(ValueError, match=r"x\.csv has no column 'out'; its columns are: in, b"):
        load_trace(write("x.csv", "in,b\n1,2\n"), columns=columns)
    with pytest.raises(ValueError, match=r"x\.csv is not azure: no column 'TIMESTAMP' among in, b"):
        load_trace(write("x.csv", "in,b\n1,2\n"), trace_format="azure")


def test_files_that_do_not_go_together(write: Write) -> None:
    timed = write("timed.jsonl", GOOD)
    untimed = write("lengths.csv", "num_prefill_tokens,num_decode_tokens\n1,1\n")
    with pytest.raises(ValueError, match=r"lengths\.csv has lengths only"):
        load_trace([timed, untimed])
    row = '{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": [1]%s}\n'
    one, two = write("1.jsonl", row % ""), write("2.jsonl", row % ', "block_size": 16')
    with pytest.raises(ValueError, match=r"different block sizes \(16, 512 tokens\)"):
        load_trace([one, two])
