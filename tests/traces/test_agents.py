"""TraceLab and Dynamo: agents' rounds, what they share and what they wait for."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.traces import Trace, load_trace, measured_cached_tokens, trace_stats
from kvsim.traces.prefix_stats import prefix_stats

Write = Callable[[str, str | bytes], Path]
NAN = float("nan")
HEAD = "session_id,arrival_time,round_idx,prefix_len,input_len,output_len,tool_wait_after_ms\n"


def columns(trace: Trace, *names: str) -> list[Any]:
    return [getattr(trace, name).tolist() for name in names]


def test_tracelab_rounds(shared_traces: Path) -> None:
    trace = load_trace(shared_traces / "tracelab/multi_session_example.csv")
    prompt, parent, rows, shared = columns(
        trace, "prompt_tokens", "parent", "prefix_row", "prefix_tokens"
    )
    assert prompt == [512, 704, 896, 400, 548, 600, 784, 864]
    assert parent == rows == [-1, 0, 1, -1, 3, -1, 5, 6]
    assert shared == [0, 576, 768, 0, 448, 0, 664, 784]
    np.testing.assert_array_equal(trace.arrival_s, [0, NAN, NAN, 0.2, NAN, 0.5, NAN, NAN])
    np.testing.assert_array_equal(trace.delay_s, [NAN, 0.1, 0.1, NAN, 0.08, NAN, 0.05, 0.05])
    assert trace.skipped == trace.notes == ()


def test_tracelab_plan_of_hits(shared_traces: Path) -> None:
    trace = load_trace(shared_traces / "tracelab/multi_session_large.csv")
    stats = trace_stats(trace)
    assert (stats["requests"], trace.num_sessions) == (303, 48)
    assert round(100 * stats["prefix_links"]["token_ratio"], 2) == 81.66
    assert trace.skipped == trace.notes == ()
    with pytest.raises(ValueError, match=r"session_replay\(=open\) needs a recorded time.*row 3"):
        load_trace(shared_traces / "tracelab/multi_session_large.csv", session_replay="open")


def test_tracelab_without_arrivals(shared_traces: Path) -> None:
    """One session that goes back to its fourth round; its first prefix is nobody's."""
    trace = load_trace(shared_traces / "tracelab/session_workload_example.csv")
    assert trace.num_roots == 1
    assert trace.arrival_s is not None
    assert trace.arrival_s[0] == 0.0
    assert trace.prefix_tokens is not None
    assert trace.prefix_tokens[[0, 10]].tolist() == [0, 48060]
    assert trace.prompt_tokens[[0, 10]].tolist() == [18336, 57904]
    assert "belong to no row and count as new (rows: 1; 2)." in trace.notes[0]


def test_tracelab_events(shared_traces: Path) -> None:
    path = shared_traces / "tracelab/sanitized_round_trace.jsonl"
    trace = load_trace(path)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    by_prompt = {record["input_tokens_total"]: record for record in records}
    assert int(trace.prompt_tokens.sum()) == 514_012
    assert trace.prefix_tokens is not None
    assert trace.parent is not None
    for row, prompt in enumerate(trace.prompt_tokens.tolist()):
        measured = by_prompt[prompt]["prefix_tokens"]
        assert trace.prefix_tokens[row] == (measured if trace.parent[row] >= 0 else 0)
    # 40:31.647 the last tool call of the first round, 40:50.938 the last result of its tools
    first = trace.prompt_tokens.tolist().index(32272)
    assert trace.delay_s is not None
    assert trace.delay_s[first + 1] == pytest.approx(19.291)
    opened = load_trace(path, session_replay="open")
    assert opened.arrival_s is not None
    assert opened.arrival_s[first + 1] - opened.arrival_s[first] == pytest.approx(30.787)


def test_tracelab_rows_that_do_not_fit(write: Write) -> None:
    text = (
        "0,5,2,40,10,5,0\n"  # row 2: its round 1 is missing
        "0,5,0,0,20,5,9\n"  # row 3: the session's first round, later in the file
        "1,7,0,0,20,5,9\n"
        "1,7,1,26,10,5,9\n"  # row 5: at most 25 tokens were said
        "1,7,2,0,0,5,9\n"  # row 6: no prompt
        "1,7,3,36,1,5,-1\n"  # row 7: a negative wait
        "1,7,4,36,1,5,0\n"  # row 8: after rows that were skipped
    )
    path = write("t.csv", HEAD + text)
    trace = load_trace(path)
    prompt, parent, shared = columns(trace, "prompt_tokens", "parent", "prefix_tokens")
    assert prompt == [20, 50, 20, 36, 37]
    assert parent == [-1, 0, -1, 2, 3]
    assert shared == [0, 25, 0, 25, 36]
    assert [str(skip) for skip in trace.skipped] == [
        "t.csv row 6: prefix_len + input_len(=0) must be > 0",
        "t.csv row 7: tool_wait_after_ms(=-1) must be >= 0",
    ]
    assert [note.partition("(")[2] for note in trace.notes] == [
        "rows: 2; 2, 8).",
        "rows: 2; 2, 5).",
    ]
    with pytest.raises(ValueError, match=r"t\.csv row 2: round_idx\(=2\) of .* must be 1\.$"):
        load_trace(path, strict=True)


def test_tracelab_needs_its_columns(write: Write) -> None:
    with pytest.raises(ValueError, match=r"t\.csv is not tracelab: no column 'round_idx'"):
        load_trace(write("t.csv", "session_id,input_len\n1,2\n"), trace_format="tracelab")


def dynamo(shared_traces: Path) -> Path:
    return shared_traces / "dynamo/pi_request_trace.jsonl.gz"


def recorded(shared_traces: Path) -> list[dict[str, Any]]:
    """The events of finished requests, by arrival."""
    lines = gzip.decompress(dynamo(shared_traces).read_bytes()).decode().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    requests = [event for event in events if event["event_type"] == "request_end"]
    return sorted(requests, key=lambda event: event["request"]["request_received_ms"])


def test_dynamo_requests(shared_traces: Path) -> None:
    trace, events = (
        load_trace(dynamo(shared_traces), session_replay="open"),
        recorded(shared_traces),
    )
    requests = [event["request"] for event in events]
    assert trace.prompt_tokens.tolist() == [r["input_tokens"] for r in requests]
    assert trace.output_tokens.tolist() == [r["output_tokens"] for r in requests]
    start_ms = requests[0]["request_received_ms"]
    assert trace.arrival_s is not None
    assert np.rint(trace.arrival_s * 1000).tolist() == [
        r["request_received_ms"] - start_ms for r in requests
    ]
    for row, r in enumerate(requests):
        assert trace.hash_chain(row).tolist() == r["replay"]["input_sequence_hashes"]
    assert trace.hash_block_size == 16
    assert trace.hash_ids is not None
    assert int(trace.hash_ids.max()) > 2**63
    assert trace.skipped == ()


def test_dynamo_hits(shared_traces: Path) -> None:
    """The server's own hits, against an infinite cache of prompts: 75.6 % and 71.7 %."""
    trace = load_trace(dynamo(shared_traces), session_replay="open")
    measured = measured_cached_tokens(dynamo(shared_traces))
    assert measured.tolist() == [
        event["request"]["cached_tokens"] for event in recorded(shared_traces)
    ]
    assert round(100 * measured.sum() / trace.prompt_tokens.sum(), 1) == 75.6
    assert round(100 * prefix_stats(trace)["infinite"]["token_ratio"], 1) == 71.7


def test_dynamo_turns_wait_for_turns_and_agents(shared_traces: Path) -> None:
    trace, events = load_trace(dynamo(shared_traces)), recorded(shared_traces)
    names = [event["agent_context"]["session_id"].rpartition("Z:")[2] for event in events]
    assert trace.parent is not None
    assert trace.delay_s is not None
    parent = trace.parent.tolist()
    assert parent[:2] == [-1, -1]  # two sessions of their own
    for row in range(2, len(trace)):
        gap_ms = (
            events[row]["request"]["request_received_ms"]
            - events[parent[row]]["event_time_unix_ms"]
        )
        assert trace.delay_s[row] == pytest.approx(gap_ms / 1000)
    waits = {(names[row], names[parent[row]]) for row in range(2, len(trace))}
    agents = [f"ea45d969:{who}" for who in ("scout:0", "scout:1", "reviewer:2")]
    among = {(agent, agent) for agent in agents}
    started = {(agent, "root") for agent in agents}
    assert waits == {*among, *started, ("root", "root"), ("root", "ea45d969:scout:0")}


def event(start_ms: int, end_ms: int, **more: Any) -> dict[str, Any]:
    replay = {"trace_block_size": 16, "input_length": 20, "input_sequence_hashes": [1, 2]}
    request = {"input_tokens": 20, "output_tokens": 3, "request_received_ms": start_ms}
    body = {"event_type": "request_end", "event_time_unix_ms": end_ms}
    return {
        "timestamp": end_ms,
        "event": {**body, "request": {**request, "replay": replay, **more}},
    }


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"output_tokens": 0}, "output_tokens(=0) must be > 0"),
        ({"request_received_ms": None}, "request_received_ms is missing"),
        ({"replay": {"input_length": -1}}, "input_length(=-1) must be > 0"),
        ({"cancel_s": -1}, "cancel_s(=-1) must be > 0"),
    ],
)
def test_bad_dynamo_requests(write: Write, bad: dict[str, Any], reason: str) -> None:
    rows = [event(1000, 1500), event(1600, 1700, **bad), event(1800, 1900), {"timestamp": 1}]
    text = "\n".join(map(json.dumps, rows))
    trace = load_trace(write("d.jsonl", text))
    assert [str(skip) for skip in trace.skipped] == [
        f"d.jsonl row 2: {reason}",
        "d.jsonl row 4: event is missing",
    ]
    assert trace.prompt_tokens.tolist() == [20, 20]


def test_dynamo_without_measured_hits(write: Write) -> None:
    path = write("d.jsonl", json.dumps(event(1, 2)))
    assert len(load_trace(path)) == 1
    with pytest.raises(ValueError, match=r"^d\.jsonl row 1: cached_tokens is missing\.$"):
        measured_cached_tokens(path)


def test_the_tiny_mooncake_file(shared_traces: Path) -> None:
    trace = load_trace(shared_traces / "dynamo/mooncake_trace_tiny.jsonl")
    assert columns(trace, "prompt_tokens", "output_tokens") == [[8, 8], [2, 2]]
    assert trace.hash_chain(0).tolist() == trace.hash_chain(1).tolist() == [1]
