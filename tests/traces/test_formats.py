"""Each file format: units, columns, links; samples of the real files and hand-made ones."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kvsim.traces import ALIASES, FORMATS, CsvColumns, Trace, load_trace

Write = Callable[[str, str | bytes], Path]


def lengths(trace: Trace) -> list[tuple[int, int]]:
    return list(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


def arrivals(trace: Trace) -> list[float]:
    assert trace.arrival_s is not None
    return [float(time) for time in trace.arrival_s]


SAMPLES = {
    "azure2024_code_head5.csv": (
        [(2162, 5), (2399, 6), (76, 15), (2376, 1), (7670, 8)],
        [0.0, 0.007405, 0.012384, 0.027915, 0.07396],
    ),
    "azure2024_conv_head5.csv": (
        [(1452, 3), (584, 3), (862, 38), (1569, 3), (617, 104)],
        [0.0, 0.04052, 0.156825, 0.157769, 0.247116],
    ),
    "bailian_format_example.jsonl": ([(502, 1494), (40, 132), (176, 80)], [0.0, 61.114, 62.5]),
    "burstgpt_1_head3.csv": ([(472, 18), (1087, 230), (417, 276)], [0.0, 40.0, 113.0]),
    "burstgpt_3_head4.csv": (
        [(906, 446), (36, 29), (1779, 123), (935, 178)],
        [0.0, 51.0, 82.0, 144.0],
    ),
    "splitwise_sim_test_trace.csv": ([(4096, 32), (2048, 8), (2048, 16)], [1.0, 3.0, 4.0]),
    "llmservingsim_example_trace.jsonl": (
        [
            *[(10, 70), (22, 104), (16, 69), (4, 12), (13, 96)],
            *[(15, 63), (15, 84), (2, 9), (18, 58), (5, 26)],
        ],
        [
            *[0.046926808, 0.347938952, 0.479613521, 0.570907776, 0.587870263],
            *[0.604829893, 0.610813769, 0.811936856, 0.903845071, 1.026970077],
        ],
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_format_sample(shared_traces: Path, name: str) -> None:
    trace = load_trace(shared_traces / "format_samples" / name)
    assert lengths(trace) == SAMPLES[name][0]
    assert arrivals(trace) == SAMPLES[name][1]
    assert trace.skipped == ()


def test_every_format_sample_is_covered(shared_traces: Path) -> None:
    assert {path.name for path in (shared_traces / "format_samples").iterdir()} == set(SAMPLES)


def test_bailian_chats_are_linked(shared_traces: Path) -> None:
    trace = load_trace(shared_traces / "format_samples/bailian_format_example.jsonl")
    assert trace.parent is not None
    assert trace.parent.tolist() == [-1, -1, 1]
    assert trace.delay_s is None  # all three have times of their own
    assert trace.hash_block_size == 16
    assert trace.hash_chain(2).tolist()[:2] == trace.hash_chain(1).tolist()[:2] == [1089, 1090]


def test_llmservingsim_tokens_become_chains(write: Write) -> None:
    first = list(range(40))
    rows = [
        {"input_toks": 40, "output_toks": 1, "arrival_time_ns": 0, "input_tok_ids": first},
        {"input_toks": 33, "output_toks": 1, "arrival_time_ns": 5, "input_tok_ids": first[:33]},
        {
            "input_toks": 32,
            "output_toks": 1,
            "arrival_time_ns": 9,
            "input_tok_ids": first[:16] + [7] * 16,
        },
    ]
    trace = load_trace(write("t.jsonl", "\n".join(map(json.dumps, rows))))
    chains = [trace.hash_chain(row).tolist() for row in range(3)]
    assert trace.hash_block_size == 16
    assert list(map(len, chains)) == [2, 2, 2]  # full blocks only
    assert chains[0] == chains[1]
    assert chains[2][0] == chains[0][0]
    assert chains[2][1] != chains[0][1]
    assert arrivals(trace) == [0.0, 5e-9, 9e-9]


def test_golden_cases(write: Write) -> None:
    text = (
        '{"id": "a", "arrival_s": 0.25, "output_tokens": 5, "prompt_tokens": 7, "priority": 3}\n'
        '{"id": "b", "arrival_s": 0.5, "output_tokens": 6, "hash_ids": [1, 2], "block_size": 16}\n'
        '{"id": "c", "arrival_s": 0.5, "output_tokens": 6, "prompt_ranges": [[0, 20], [50, 13]], '
        '"block_size": 16}\n'
    )
    trace = load_trace(write("g.jsonl", text), trace_block_size=16)
    assert lengths(trace) == [(7, 5), (32, 6), (33, 6)]
    assert arrivals(trace) == [0.25, 0.5, 0.5]
    assert trace.priority is not None
    assert trace.priority.tolist() == [3, 0, 0]
    assert list(map(len, map(trace.hash_chain, range(3)))) == [0, 2, 2]


def test_mooncake_dialect(write: Write) -> None:
    text = (
        '{"created_time": 1500, "input_tokens": 10, "output_tokens": 2, "extra": null}\n'
        '{"created_time": "2000", "input_tokens": "20", "output_tokens": 3.0, "model": "m"}\n'
    )
    trace = load_trace(write("m.jsonl", text))
    assert lengths(trace) == [(10, 2), (20, 3)]
    assert arrivals(trace) == [1.5, 2.0]
    assert trace.hash_ids is None


@pytest.mark.parametrize(
    ("stated", "asked", "used"), [(None, None, 512), (16, None, 16), (16, 64, 64)]
)
def test_trace_block_size(write: Write, stated: int | None, asked: int | None, used: int) -> None:
    record = {"timestamp": 0, "input_length": 30, "output_length": 2, "hash_ids": [8, 9]}
    if stated is not None:
        record["block_size"] = stated
    trace = load_trace(write("m.jsonl", json.dumps(record)), trace_block_size=asked)
    assert trace.hash_block_size == used
    assert len(trace.hash_chain(0)) == -(-30 // used)


def test_generic_csv_with_units_and_dates(write: Write) -> None:
    text = "Reply,When,Prompt\n5,1700000000250,10\n6,1700000000750,20\n"
    columns = CsvColumns(
        timestamp_column="when",
        prompt_tokens_column="Prompt",
        output_tokens_column="reply",
        timestamp_unit="ms",
    )
    trace = load_trace(write("x.csv", text), columns=columns)
    assert lengths(trace) == [(10, 5), (20, 6)]
    assert arrivals(trace) == [0.0, 0.5]
    text = "Reply,When,Prompt\n5,2024-01-01T00:00:00Z,10\n6,2024-01-01T00:00:02Z,20\n"
    trace = load_trace(write("x.csv", text), trace_format="csv", columns=columns)
    assert arrivals(trace) == [0.0, 2.0]


def test_nanoseconds_stay_exact_beside_a_large_epoch(write: Write) -> None:
    text = "t,p,o\n1700000000000000001,1,1\n1700000000000000004,1,1\n"
    columns = CsvColumns(
        timestamp_column="t",
        prompt_tokens_column="p",
        output_tokens_column="o",
        timestamp_unit="ns",
    )
    assert arrivals(load_trace(write("x.csv", text), columns=columns)) == [0.0, 3e-9]


def test_columns_are_found_by_name(write: Write) -> None:
    text = "GeneratedTokens, contexttokens ,extra,TIMESTAMP\n4,3,x,2023-11-16 18:15:46.6805900\n"
    assert lengths(load_trace(write("a.csv", text))) == [(3, 4)]


def test_gzip_is_told_by_content(write: Write) -> None:
    text = "arrived_at,num_prefill_tokens,num_decode_tokens\n0,3,4\n"
    assert lengths(load_trace(write("plain.csv", gzip.compress(text.encode())))) == [(3, 4)]


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases_name_formats(write: Write, alias: str, name: str) -> None:
    assert name in FORMATS
    with pytest.raises(ValueError, match=r"empty.txt holds no requests\.$"):
        load_trace(write("empty.txt", ""), trace_format=alias)


def test_several_files_are_joined_in_time_order(write: Write) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    late = write("late.csv", header + "2024-01-01 00:00:02,1,1\n2024-01-01 00:00:04,2,1\n")
    early = write("early.csv", header + "2024-01-01 00:00:01,3,1\n2024-01-01 00:00:03,4,1\n")
    trace = load_trace([late, early])
    assert trace.prompt_tokens.tolist() == [3, 1, 4, 2]
    assert arrivals(trace) == [0.0, 1.0, 2.0, 3.0]
    assert trace.name == "late.csv+early.csv"


def test_sessions_of_two_files_stay_apart(write: Write) -> None:
    first = '{"session_id": "a", "timestamp": 0, "input_length": 5, "output_length": 5}\n'
    second = '{"session_id": "a", "timestamp": 9, "input_length": 6, "output_length": 5}\n'
    assert load_trace([write("1.jsonl", first), write("2.jsonl", second)]).parent is None
    assert load_trace(write("3.jsonl", first + second)).parent is not None


def test_unsorted_rows_are_sorted_and_said(write: Write) -> None:
    text = "arrived_at,num_prefill_tokens,num_decode_tokens\n2,1,1\n1,2,1\n1,3,1\n"
    trace = load_trace(write("u.csv", text))
    assert trace.prompt_tokens.tolist() == [2, 3, 1]  # stable
    assert trace.num_out_of_order == 1
    assert "sorted by time: 1." in trace.notes[0]


def test_fast_and_slow_wall_clock_agree(write: Write) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    times = ["2024-02-28 23:59:59.9999999", "2024-02-29 00:00:00.0000001"]
    fast = "".join(f"{time},1,1\n" for time in times)
    slow = "".join(f"{time}{zone},1,1\n" for time, zone in zip(times, ("Z", "+0000"), strict=True))
    expected = arrivals(load_trace(write("f.csv", header + fast)))
    assert expected == [0.0, 2e-7]
    assert arrivals(load_trace(write("s.csv", header + slow))) == expected


def test_columns_cannot_be_written_to(write: Write) -> None:
    text = "arrived_at,num_prefill_tokens,num_decode_tokens\n0,3,4\n"
    trace = load_trace(write("t.csv", text))
    with pytest.raises(ValueError, match="read-only"):
        trace.prompt_tokens[0] = 9
    assert trace.prompt_tokens.dtype == np.int64
