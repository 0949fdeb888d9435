"""Agent sessions of kv-cache-tester: who waits for whom, ids of their own, the published hits."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.traces import Trace, load_trace, trace_stats
from kvsim.traces.cache_curve import cache_curve
from kvsim.traces.intake import Intake, take_in
from kvsim.traces.prefix_stats import prefix_stats
from kvsim.traces.stats import length_stats

Write = Callable[[str, str | bytes], Path]
NAN = float("nan")


def request(t: float, tokens: int = 130, out: int = 7, **more: Any) -> dict[str, Any]:
    """A request whose ids are those of its full blocks, from 1."""
    ids = list(range(1, tokens // 64 + 1))
    return {"t": t, "type": "n", "in": tokens, "out": out, "hash_ids": ids, **more}


def session(*requests: Any, **more: Any) -> str:
    head = {"id": "x", "block_size": 64, "hash_id_scope": "local", **more}
    return json.dumps({**head, "requests": list(requests)})


def subagent(t: float, *requests: Any) -> dict[str, Any]:
    return {"t": t, "type": "subagent", "agent_id": "a", "requests": list(requests)}


STORY = (
    request(0, 201, api_time=10),  # ends at 10
    subagent(12, request(0, 202, api_time=3), request(5, 203, api_time=2)),  # at 15 and 19
    request(16, 204, api_time=1),  # goes on before the sub-agent ends
    request(20, 205),  # after the sub-agent's end at 19; its own end is told by the think time:
    request(30, 206, api_time=5, think_time=4),  # 26
    request(40, 207, out=0, api_time=1),  # skipped
    request(50, 208),
)


def links(trace: Trace) -> dict[int, tuple[int, float]]:
    """Prompt tokens -> the parent's prompt tokens (-1 = none) and the delay."""
    assert trace.parent is not None
    assert trace.delay_s is not None
    prompt = trace.prompt_tokens.tolist()
    pairs = zip(trace.parent.tolist(), trace.delay_s.tolist(), strict=True)
    return {
        own: (prompt[parent], delay) if parent >= 0 else (-1, NAN)
        for own, (parent, delay) in zip(prompt, pairs, strict=True)
    }


@pytest.mark.parametrize("indent", [None, 1])
def test_requests_wait_for_the_latest_end(write: Write, indent: int | None) -> None:
    text = json.dumps(json.loads(session(*STORY)), indent=indent)
    trace = load_trace(write("s.json", text))
    assert links(trace) == {
        201: (-1, pytest.approx(NAN, nan_ok=True)),
        202: (201, 2.0),
        204: (201, 6.0),
        203: (202, 2.0),
        205: (203, 1.0),
        206: (205, 4.0),
        208: (206, 15.0),  # past the skipped request
    }
    np.testing.assert_array_equal(trace.arrival_s, [0.0, *[NAN] * 6])
    assert [str(skip) for skip in trace.skipped] == ["s.json row 7: out(=0) must be > 0"]
    assert trace.notes == ()


def test_an_agent_does_not_wait_for_itself(write: Write) -> None:
    """Its only request counts as ended at once, as nothing tells when; nor for one that runs on."""
    text = session(
        request(0, 201, api_time=1),
        subagent(5, request(0, 202)),
        subagent(5, request(1, 203, api_time=9)),
        subagent(8, request(0, 204, api_time=1)),
        request(20, 205),
    )
    found = links(load_trace(write("s.json", text)))
    assert found[202] == (201, 4.0)
    assert found[203] == (202, 1.0)
    assert found[204] == (202, 3.0)
    assert found[205] == (203, 5.0)


def test_open_replay_has_the_recorded_times(write: Write) -> None:
    trace = load_trace(write("s.json", session(*STORY)), session_replay="open")
    assert trace.arrival_s is not None
    assert trace.arrival_s.tolist() == [0.0, 12.0, 16.0, 17.0, 20.0, 30.0, 50.0]
    assert trace.delay_s is None
    assert trace.num_sessions == 1


def test_a_request_without_output_can_be_kept(write: Write) -> None:
    path = write("s.json", session(*STORY))
    trace = load_trace(path, keep_empty=True)
    assert trace.skipped == ()
    assert trace.output_tokens.tolist() == [7, 7, 7, 7, 7, 7, 1, 7]
    assert links(trace)[208] == (207, 9.0)
    assert "count as 1 output token (rows: 1; 7)" in trace.notes[0]
    assert take_in(Intake(trace=(str(path),), keep_empty=True)).trace.digest == trace.digest


def test_ids_of_two_sessions_differ(write: Write) -> None:
    path = write("s.json", session(request(0), request(9, 200)))
    twice = load_trace([path, path])
    chains = [twice.hash_chain(row).tolist() for row in range(4)]
    assert chains[0] == chains[2][:2]
    assert chains[1] == chains[3][:2]
    assert not set(chains[2]) & set(chains[3])
    assert twice.num_sessions == 2
    assert "all begin at 0" in twice.notes[0]
    common = write("g.json", session(request(0), hash_id_scope="global"))
    joined = load_trace([common, path, common])
    same = [joined.hash_chain(row).tolist() for row in range(3)]
    assert same[0] == same[2]
    assert not set(same[0]) & set(same[1])


def test_huge_local_ids(write: Write) -> None:
    row = {**request(0), "hash_ids": [2**64 - 1, 2**63]}
    path = write("s.json", session(row))
    trace = load_trace([path, path])
    assert len({*trace.hash_chain(0).tolist(), *trace.hash_chain(1).tolist()}) == 4


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"t": -1}, "t(=-1) must be >= 0"),
        ({"t": "soon"}, "t(=soon) is not a number"),
        ({"t": 1e300}, "t(=1e+300) is too large"),
        ({"in": 0}, "in(=0) must be > 0"),
        ({"in": None}, "in is missing"),
        ({"out": "x"}, "out(=x) is not a number"),
        ({"api_time": -2}, "api_time(=-2) must be >= 0"),
        ({"cancel_s": 0}, "cancel_s(=0) must be > 0"),
        ({"type": "subagent"}, "requests of the sub-agent must be a list"),
    ],
)
def test_bad_requests_are_skipped(write: Write, bad: dict[str, Any], reason: str) -> None:
    path = write("s.json", session(request(0), {**request(1), **bad}, request(2)))
    trace = load_trace(path)
    assert [(skip.row, skip.reason) for skip in trace.skipped] == [(2, reason)]
    assert trace.parent is not None
    assert trace.parent.tolist() == [-1, 0]
    with pytest.raises(ValueError, match=r"^s\.json row 2: "):
        load_trace(path, strict=True)


def test_nesting_has_an_end(write: Write) -> None:
    inner: dict[str, Any] = request(1)
    for _ in range(40):
        inner = subagent(0, inner)
    trace = load_trace(write("s.json", session(request(0), inner, request(5))))
    assert [str(skip) for skip in trace.skipped] == [
        "s.json row 2: requests are nested more than 16 deep"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "s.json is not one JSON document: Expecting"),
        ("[1]", "s.json is not weka: it has no list of requests."),
        (session(block_size=0), "s.json: block_size(=0) must be > 0."),
        (session(), "s.json holds no requests."),
    ],
)
def test_files_that_are_none(write: Write, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^s\.json") as caught:
        load_trace(write("s.json", text), trace_format="weka")
    assert str(caught.value).startswith(message)


def test_too_many_and_too_few_ids(write: Write) -> None:
    many, few = {**request(0), "hash_ids": [1, 2, 3]}, {**request(1, 300), "hash_ids": [1, 2, 3]}
    path = write("s.json", session(many, few))
    trace = load_trace(path)
    assert trace.hash_chain(0).tolist() == [0, 1]
    assert [note.partition(": ")[2][:16] for note in trace.notes] == [
        "surplus hash_ids",
        "hash_ids end bef",
    ]
    with pytest.raises(ValueError, match=r"row 1: hash_ids \(=3 ids\) must be 2 for a prompt of"):
        load_trace(path, strict=True)


def files(shared_traces: Path) -> list[Path]:
    return sorted((shared_traces / "kv-cache-tester").iterdir())


def test_the_published_sessions(shared_traces: Path) -> None:
    """Counts, lengths and hits of the 49 sessions, session k begun at 60 k seconds."""
    golden = json.loads((shared_traces / "GOLDEN.json").read_text())["kv-cache-tester"]
    began = time.perf_counter()
    loaded = load_trace(files(shared_traces), session_replay="open", keep_empty=True)
    assert time.perf_counter() - began < 5
    trace = loaded.with_session_starts(60.0 * np.arange(golden["traces"]))
    merged = dict(golden["canonical_merge"])
    sizes = [int(size) for size in merged["lru"]]
    began = time.perf_counter()
    assert prefix_stats(trace, sizes) == merged
    assert time.perf_counter() - began < 10
    stats = trace_stats(trace, capacities=(30000,))
    assert stats["input"] == pytest.approx(golden["input"], rel=1e-12)
    assert (stats["requests"], stats["sum_in"]) == (golden["requests"], golden["sum_in"])
    assert trace.notes[:2] == loaded.notes[:2]
    empty = sum(note.count("count as 1 output token") for note in trace.notes)
    assert stats["sum_out"] == golden["sum_out"] + empty
    curve = cache_curve(trace)
    assert curve.convention == "floor"
    for size, counts in merged["lru"].items():
        assert round(curve.token_ratio(int(size)) * curve.input_tokens) == counts["hit_tokens"]
        assert round(curve.block_ratio(int(size)) * curve.block_refs) == counts["hit_blocks"]
    per_session = np.bincount(np.unique(_session(trace), return_inverse=True)[1])
    assert length_stats(per_session) == pytest.approx(golden["reqs_per_session"], rel=1e-12)
    assert trace.arrival_s is not None
    last = np.zeros(golden["traces"])
    np.maximum.at(last, _session(trace), trace.arrival_s)
    duration = length_stats((last - 60.0 * np.arange(len(last))).round().astype(np.int64))
    assert duration["mean"] == pytest.approx(golden["session_duration_s"]["mean"], abs=1)
    assert duration["max"] == golden["session_duration_s"]["max"]


def _session(trace: Trace) -> np.ndarray[Any, Any]:
    """Number of each row's session by its start, whatever comes first in the trace."""
    assert trace.parent is not None
    number = np.zeros(len(trace), dtype=np.int64)
    roots = 0
    for row, parent in enumerate(trace.parent.tolist()):
        number[row] = number[parent] if parent >= 0 else roots
        roots += parent < 0
    return number


def test_the_published_sessions_without_the_empty_requests(shared_traces: Path) -> None:
    golden = json.loads((shared_traces / "GOLDEN.json").read_text())["kv-cache-tester"]
    taken = take_in(Intake(trace=(str(shared_traces / "kv-cache-tester"),)))
    trace = taken.trace
    assert len(trace) + len(trace.skipped) == golden["requests"]
    assert {skip.reason for skip in trace.skipped} == {"out(=0) must be > 0"}
    assert int(trace.output_tokens.sum()) == golden["sum_out"]
    assert trace.num_roots == trace.num_sessions == golden["traces"]
    later = len(trace) - golden["traces"]
    assert taken.arrivals == f"the trace's own times, 0 s; {later} turns follow the turn before"
    assert trace.arrival_s is not None
    assert np.nansum(trace.arrival_s) == 0.0


def test_sessions_begin_by_an_arrival_process(shared_traces: Path) -> None:
    """The golden merge through the options: one session a minute, at its recorded distances."""
    options: dict[str, Any] = {"arrival_process": "constant", "rate_per_s": 1 / 60}
    paths = tuple(str(path) for path in files(shared_traces)[:6])
    opened = take_in(Intake(trace=paths, session_replay="open", **options))
    expected = load_trace(paths, session_replay="open").with_session_starts(60.0 * np.arange(6))
    assert opened.trace.digest == expected.digest
    assert opened.arrivals == "constant at 0.01667/s for sessions, seed 0"
    closed = take_in(Intake(trace=paths, **options)).trace
    assert closed.arrival_s is not None
    assert closed.arrival_s[~np.isnan(closed.arrival_s)].tolist() == (60.0 * np.arange(6)).tolist()


def test_a_think_time_is_the_delay(shared_traces: Path) -> None:
    """The publisher's own pause before a request is what the recorded times leave, about."""
    path = shared_traces / "kv-cache-tester/trace_0006.json.gz"
    trace = load_trace(path)
    recorded = json.loads(gzip.decompress(path.read_bytes()))["requests"]
    think_s = np.array([entry["think_time"] for entry in recorded[1:]])
    assert trace.delay_s is not None
    assert np.abs(trace.delay_s[1:] - think_s).max() < 1.01  # times are whole seconds
