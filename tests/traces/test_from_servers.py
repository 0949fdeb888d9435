"""Traces out of what a running server left: benchmark results, access logs, spans."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.traces import Trace, load_trace

Write = Callable[[str, str | bytes], Path]
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


def lengths(trace: Trace) -> list[tuple[int, int]]:
    return list(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


def arrivals(trace: Trace) -> list[float]:
    assert trace.arrival_s is not None
    return [float(time) for time in trace.arrival_s]


def reasons(trace: Trace) -> list[tuple[int, str]]:
    return [(skip.row, skip.reason) for skip in trace.skipped]


def lines(*records: object) -> str:
    return "\n".join(json.dumps(record) for record in records)


# -- vllm bench serve ----------------------------------------------------------------------------

BENCH: dict[str, Any] = {
    "date": "20260901-101500",
    "backend": "vllm",
    "request_rate": "inf",
    "max_concurrency": None,
    "completed": 3,
    "total_input_tokens": 60,
    "request_throughput": 1.0,
    "input_lens": [10, 20, 30, 40],
    "output_lens": [5, 0, 7, 8],
    "start_times": [5000.5, 5000.75, 5000.250000001, 5001.0],
    "ttfts": [0.1, 0.0, 0.1, 0.1],
    "itls": [[0.01], [], [0.01], [0.01]],
    "generated_texts": ["a", "", "b", "c"],
    "errors": ["", "Traceback (most recent call last):\n  x\nTimeoutError: 300 s\n", "", ""],
}


def test_benchmark(write: Write) -> None:
    trace = load_trace(write("b.json", json.dumps(BENCH)))
    assert lengths(trace) == [(30, 7), (10, 5), (40, 8)]
    assert arrivals(trace) == [0.0, 0.249999999, 0.749999999]
    assert reasons(trace) == [(2, "the request failed (TimeoutError: 300 s)")]


def test_a_benchmark_is_told_by_its_lists(write: Write) -> None:
    few = {key: BENCH[key] for key in ("input_lens", "output_lens")}
    trace = load_trace(write("b.json", json.dumps({**few, "max_concurrency": 8}, indent=1)))
    assert lengths(trace) == [(10, 5), (30, 7), (40, 8)]
    assert reasons(trace) == [(2, "output_lens(=0) must be > 0")]
    assert trace.notes == ()


@pytest.mark.parametrize("starts", [None, [0.0, 0.0, 0.0, 0.0], []], ids=["old", "zeros", "empty"])
def test_benchmark_without_times(write: Write, starts: list[float] | None) -> None:
    result = {key: value for key, value in BENCH.items() if key != "start_times"}
    if starts:
        result["start_times"] = starts
    trace = load_trace(write("b.json", json.dumps(result)))
    assert trace.arrival_s is None
    assert lengths(trace) == [(10, 5), (30, 7), (40, 8)]
    assert trace.notes == ()


def test_benchmark_with_a_start_that_is_missing(write: Write) -> None:
    trace = load_trace(write("b.json", json.dumps({**BENCH, "start_times": [9.0, 0, 0.0, 9.5]})))
    assert reasons(trace)[1:] == [(3, "start_times (=0) was not recorded")]
    assert arrivals(trace) == [0.0, 0.5]


def test_benchmark_of_so_many_clients(write: Write) -> None:
    trace = load_trace(write("b.json", json.dumps({**BENCH, "max_concurrency": 8})))
    assert "at most 8 requests were under way at once" in trace.notes[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input_lens": None, "output_lens": None}, "let vllm bench serve --save-detailed write"),
        ({"output_lens": None}, "has no input_lens and output_lens"),
        ({"errors": [""]}, r"errors \(=1 entries\) must have 4 as input_lens"),
        ({"start_times": 5}, r"start_times\(=5\) must be a list"),
    ],
)
def test_benchmark_that_cannot_be_read(write: Write, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_trace(write("b.json", json.dumps({**BENCH, **change})))


def test_several_benchmarks_in_a_file(write: Write) -> None:
    path = write("b.json", lines(BENCH, BENCH))
    with pytest.raises(
        ValueError, match=r"^b\.json holds several results: give a file for each\.$"
    ):
        load_trace(path)


def test_another_file_named_a_benchmark(write: Write) -> None:
    with pytest.raises(ValueError, match=r"is not vllm-bench"):
        load_trace(write("b.json", '{"a": 1}'), trace_format="vllm-bench")
    with pytest.raises(ValueError, match=r"is not one JSON document"):
        load_trace(write("b.json", "x"), trace_format="vllm-bench")


# -- access logs ---------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
START = "2026-09-01T10:00:00.250+00:00"
START_S = 1788256800.25


def shapes() -> dict[str, dict[str, Any]]:
    """The same request, as servers and gateways write it."""
    return {
        "flat": {"start_time": START, "model": "m", "usage": USAGE},
        "seconds": {"request_time": START_S, "usage": USAGE},
        "text": {"started_at": str(START_S), "usage": USAGE},
        "milliseconds": {"arrival_time": START_S * 1e3, "usage": USAGE},
        "microseconds": {"received_at": int(START_S * 1e6), "usage": USAGE},
        "nanoseconds": {"start_time": 1788256800250000000, "usage": USAGE},
        "nested": {"start_time": START, "response": {"model": "m", "usage": USAGE}},
        "batch": {"response": {"status_code": 200, "body": {"start_time": START, "usage": USAGE}}},
        "responses": {"start_time": START, "usage": {"input_tokens": 10, "output_tokens": 5}},
        "litellm": {
            "startTime": START_S,
            "endTime": START_S + 3,
            "status": "success",
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "response": {"created": 1},
        },
    }


@pytest.mark.parametrize("name", shapes())
def test_access_log(write: Write, name: str) -> None:
    later = {"start_time": "2026-09-01T10:00:01Z", "usage": {**USAGE, "completion_tokens": 6}}
    trace = load_trace(write("log.jsonl", lines(later, shapes()[name])))
    assert lengths(trace) == [(10, 5), (10, 6)]
    assert arrivals(trace) == [0.0, 0.75]
    assert trace.notes == ("rows earlier than the row before, sorted by time: 1.",)


def test_access_log_as_a_list(write: Write) -> None:
    records = [shapes()["flat"], 5, {**shapes()["flat"], "usage": {"prompt_tokens": 3}}]
    trace = load_trace(write("log.json", json.dumps(records, indent=1)))
    assert lengths(trace) == [(10, 5)]
    assert reasons(trace) == [(2, "is not a JSON object"), (3, "completion_tokens is missing")]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("timestamp", "the time of the log line counts as the arrival"),
        ("created", "the time at which the response was created counts as the arrival"),
    ],
)
def test_times_that_may_be_late_are_said(write: Write, key: str, said: str) -> None:
    rows = [{key: 1788256800 + 10 * i, "usage": USAGE} for i in range(3)]
    trace = load_trace(write("log.jsonl", lines(*rows)))
    assert arrivals(trace) == [0.0, 10.0, 20.0]
    (note,) = trace.notes
    assert said in note
    assert "(rows: 3; 1, 2, 3)" in note


def test_the_start_comes_before_other_times(write: Write) -> None:
    row = {"created": 5, "timestamp": 1788256900, "start_time": START, "usage": USAGE}
    created = {"created": START_S + 1, "timestamp": START_S + 2, "usage": USAGE}
    trace = load_trace(write("log.jsonl", lines(row, created)))
    assert arrivals(trace) == [0.0, 2.0]


def test_access_log_without_times(write: Write) -> None:
    trace = load_trace(write("log.jsonl", lines({"usage": USAGE}, {"usage": USAGE})))
    assert trace.arrival_s is None
    assert trace.notes == ()


def test_a_row_without_a_time_among_others(write: Write) -> None:
    trace = load_trace(write("log.jsonl", lines(shapes()["flat"], {"usage": USAGE})))
    assert reasons(trace) == [(2, "has no time, and other rows have one")]
    assert lengths(trace) == [(10, 5)]


def test_failed_requests_are_skipped(write: Write) -> None:
    rows = [
        {"start_time": START, "error": {"message": "overloaded"}},
        {"start_time": START, "status_code": 503},
        {"start_time": START, "usage": None},
        {"start_time": START, "usage": {"prompt_tokens": 9, "completion_tokens": 0}},
        {"start_time": "soon", "usage": USAGE},
        shapes()["flat"],
    ]
    path = write("log.jsonl", lines(*rows) + "\nnonsense\n")
    trace = load_trace(path)
    assert lengths(trace) == [(10, 5)]
    assert reasons(trace) == [
        (1, "the request failed (overloaded)"),
        (2, "the request failed (status 503)"),
        (3, "usage is missing"),
        (4, "completion_tokens(=0) must be > 0"),
        (5, "start_time(=soon) is not a date and time"),
        (7, "is not valid JSON (Expecting value at column 1)"),
    ]
    with pytest.raises(ValueError, match=r"^log\.jsonl row 1: the request failed \(overloaded\)"):
        load_trace(path, strict=True)


def test_what_the_server_found_is_said(write: Write) -> None:
    chat = {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}}
    reply = {"input_tokens": 30, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 16}}
    odd = {**USAGE, "prompt_tokens_details": {"cached_tokens": "many"}}
    rows = [{"start_time": START, "usage": usage} for usage in (chat, reply, odd)]
    (note,) = load_trace(write("log.jsonl", lines(*rows))).notes
    assert "found 20 of 50 prompt tokens in its cache" in note


def test_several_models_are_said(write: Write) -> None:
    rows = [{"start_time": START, "model": f"m{i}", "usage": USAGE} for i in range(5)]
    (note,) = load_trace(write("log.jsonl", lines(*rows))).notes
    assert "requests to 5 models are one trace (m0, m1, m2, ...)" in note
    assert load_trace(write("log.jsonl", lines(*rows[:1], *rows[:1]))).notes == ()


# -- spans ---------------------------------------------------------------------------------------

BASE_NS = 1788256800_000000000
GenAI = dict[str, str | int]


def chat(tokens: tuple[int, int] = (10, 5), **others: str | int) -> GenAI:
    named = {f"gen_ai.{key.replace('__', '.')}": value for key, value in others.items()}
    usage = {"gen_ai.usage.input_tokens": tokens[0], "gen_ai.usage.output_tokens": tokens[1]}
    return {"gen_ai.operation.name": "chat", **usage, **named}


def otlp(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": spans}]}]}


def span(
    name: str, attributes: GenAI, *, start_ns: int = 0, end_ns: int = 0, parent: str = ""
) -> dict[str, Any]:
    def value(one: str | int) -> dict[str, str]:
        return {"stringValue": one} if isinstance(one, str) else {"intValue": str(one)}

    return {
        "traceId": "t",
        "spanId": name,
        "parentSpanId": parent,
        "name": "chat m",
        "startTimeUnixNano": str(BASE_NS + start_ns),
        "endTimeUnixNano": str(BASE_NS + end_ns),
        "attributes": [{"key": key, "value": value(one)} for key, one in attributes.items()],
    }


def printed(name: str, attributes: GenAI, second: int, parent: str | None = None) -> dict[str, Any]:
    """As the Python SDK's console exporter prints it."""
    return {
        "name": "chat m",
        "context": {"trace_id": "0x1", "span_id": name, "trace_state": "[]"},
        "kind": "SpanKind.CLIENT",
        "parent_id": parent,
        "start_time": f"2026-09-01T10:00:{second:02d}.000001Z",
        "end_time": f"2026-09-01T10:00:{second + 1:02d}.000001Z",
        "status": {"status_code": "UNSET"},
        "attributes": attributes,
        "events": [],
        "links": [],
        "resource": {"attributes": {}, "schema_url": ""},
    }


TWO = (
    span("a", chat((10, 5)), start_ns=1, end_ns=9),
    span("b", chat((20, 6)), start_ns=5, end_ns=8),
)
PRINTED = (printed("0xa", chat((10, 5)), 1), printed("0xb", chat((20, 6)), 3))
SPANS = {
    "document": (json.dumps(otlp(*TWO), indent=2), 4e-9),
    "lines": (lines(otlp(TWO[0]), otlp(TWO[1])), 4e-9),
    "list": (json.dumps([otlp(*TWO)]), 4e-9),
    "snake": (json.dumps({"resource_spans": [{"scope_spans": [{"spans": TWO}]}]}), 4e-9),
    "printed": ("\n".join(json.dumps(one, indent=4) for one in PRINTED), 2.0),
    "printed-lines": (lines(*PRINTED), 2.0),
    "printed-list": (json.dumps(PRINTED, indent=4), 2.0),
}


@pytest.mark.parametrize("name", SPANS)
def test_spans(write: Write, name: str) -> None:
    text, second_s = SPANS[name]
    trace = load_trace(write("spans.json", text))
    assert lengths(trace) == [(10, 5), (20, 6)]
    assert arrivals(trace) == [0.0, second_s]
    assert (trace.parent, trace.skipped, trace.notes) == (None, (), ())


def test_spans_of_former_names_and_of_vllm_itself(write: Write) -> None:
    usage: GenAI = {"gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 3}
    trace = load_trace(write("spans.json", lines(otlp(span("a", usage)), otlp(span("b", {})))))
    assert lengths(trace) == [(7, 3)]


def agent(tokens: tuple[int, int]) -> GenAI:
    return {**chat(tokens), "gen_ai.operation.name": "invoke_agent"}


@pytest.mark.parametrize(
    ("spans", "kept", "note"),
    [
        (  # an agent sums up what it called, with a span of no usage between
            [
                span("root", agent((30, 11))),
                span("step", {}, parent="root"),
                span("a", chat((10, 5)), parent="step"),
                span("b", chat((20, 6)), parent="step"),
            ],
            [(10, 5), (20, 6)],
            "repeat the usage of spans below them were left out (rows: 1; 1)",
        ),
        (  # a gateway's chat around the client's
            [span("in", chat(), parent="mid"), span("mid", chat(), parent="out"), span("out", {})],
            [(10, 5)],
            "repeat the usage of spans below them were left out (rows: 1; 2)",
        ),
        (  # an agent whose calls were not recorded is no request, nor is an embedding
            [
                span("root", agent((30, 11))),
                span("e", {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 9}),
                span("a", {**chat(), "gen_ai.operation.name": "text_completion"}),
                span("b", {**chat((2, 2)), "gen_ai.operation.name": "generate_content"}),
            ],
            [(10, 5), (2, 2)],
            "operations than chat, text_completion and generate_content were left out "
            "(rows: 2; 1, 2)",
        ),
    ],
    ids=["agent", "gateway", "others"],
)
def test_usage_counts_once(
    write: Write, spans: Sequence[dict[str, Any]], kept: list[tuple[int, int]], note: str
) -> None:
    trace = load_trace(write("spans.json", json.dumps(otlp(*spans))))
    assert lengths(trace) == kept
    assert note in trace.notes[0]
    assert len(trace.notes) == 1


def test_equal_span_ids_of_two_traces_are_two_spans(write: Write) -> None:
    inner = span("a", chat((1, 1)), parent="b")
    other = {**span("b", chat((2, 2))), "traceId": "u"}
    trace = load_trace(write("spans.json", json.dumps(otlp(inner, other))))
    assert lengths(trace) == [(1, 1), (2, 2)]


def test_spans_in_a_ring_come_to_an_end(write: Write) -> None:
    ring = [span("a", chat(), parent="b"), span("b", chat(), parent="a"), span("c", chat((3, 3)))]
    ring.append(span("d", chat((4, 4)), parent="d"))
    trace = load_trace(write("spans.json", json.dumps(otlp(*ring))))
    assert lengths(trace) == [(3, 3), (4, 4)]


def test_conversations_are_sessions(write: Write) -> None:
    """The third turn overlaps the second: both wait for the first."""
    talk = {"conversation__id": "c"}
    spans = [
        span("c", chat((30, 1), **talk), start_ns=16, end_ns=28),
        span("a", chat((10, 1), **talk), start_ns=0, end_ns=10),
        span("b", chat((20, 1), **talk), start_ns=15, end_ns=30),
        span("d", chat((40, 1), **talk), start_ns=50, end_ns=60),
        span("x", chat((50, 1), conversation__id="other"), start_ns=20, end_ns=21),
        span("y", chat((60, 1)), start_ns=22, end_ns=23),
    ]
    path = write("spans.json", json.dumps(otlp(*spans)))
    trace = load_trace(path)
    assert trace.prompt_tokens.tolist() == [10, 20, 30, 50, 60, 40]
    assert trace.parent is not None
    assert trace.parent.tolist() == [-1, 0, 0, -1, -1, 1]
    assert trace.delay_s is not None
    np.testing.assert_array_equal(trace.delay_s[[1, 2, 5]], [5e-9, 6e-9, 20e-9])
    opened = load_trace(path, session_replay="open")
    assert arrivals(opened) == [0.0, 1.5e-8, 1.6e-8, 2e-8, 2.2e-8, 5e-8]


def test_spans_that_cannot_be_read(write: Write) -> None:
    bad = [
        span("a", {"gen_ai.usage.input_tokens": 5}),
        span("b", chat((0, 5))),
        {**span("c", chat()), "startTimeUnixNano": "0"},
        {**span("d", chat()), "startTimeUnixNano": "noon"},
        5,
        span("e", chat()),
    ]
    text = lines(otlp(*bad)) + '\n{"resourceSpans": \n' + lines(otlp(span("f", chat((7, 7)))))
    trace = load_trace(write("spans.json", text))
    assert lengths(trace) == [(10, 5), (7, 7)]
    assert reasons(trace) == [
        (1, "gen_ai.usage.output_tokens is missing"),
        (2, "gen_ai.usage.input_tokens(=0) must be > 0"),
        (3, "start time(=0) must be > 0"),
        (4, "start time(=noon) is not a date and time"),
        (5, "is not a span"),
        (7, "line 2 is not valid JSON (Expecting ',' delimiter)"),
    ]
    with pytest.raises(ValueError, match=r"^spans\.json row 1: gen_ai\.usage\.output_tokens"):
        load_trace(write("spans.json", text), strict=True)


def test_an_end_that_cannot_be_read_is_the_start(write: Write) -> None:
    first = {**span("a", chat(conversation__id="c")), "endTimeUnixNano": "never"}
    second = span("b", chat(conversation__id="c"), start_ns=7)
    trace = load_trace(write("spans.json", json.dumps(otlp(first, second))))
    assert trace.delay_s is not None
    assert trace.delay_s[1] == 7e-9


@pytest.mark.parametrize("text", ['{"resourceSpans": []}', "[]", '{"resourceSpans": 7}'])
def test_no_spans(write: Write, text: str) -> None:
    with pytest.raises(ValueError, match=r"^spans\.json is not otel: it holds no spans\.$"):
        load_trace(write("spans.json", text), trace_format="otel")


# -- all of them ---------------------------------------------------------------------------------


def test_a_first_row_that_failed_does_not_hide_the_format(write: Write) -> None:
    failed = {"id": "x", "model": "m", "error": {"message": "no"}}
    trace = load_trace(write("log.jsonl", lines(failed, shapes()["flat"])))
    assert reasons(trace) == [(1, "the request failed (no)")]


def test_only_rows_that_failed(write: Write) -> None:
    failed = {"id": "x", "model": "m", "error": {"message": "no"}}
    with pytest.raises(ValueError, match=r"records of no known format \(keys: id, model, error\)"):
        load_trace(write("log.jsonl", lines(failed, {"id": "y"})))
    with pytest.raises(ValueError, match=r"row 1: the request failed \(no\)"):
        load_trace(write("log.jsonl", lines(failed)), trace_format="openai")


@pytest.mark.parametrize(
    ("names", "file", "requests", "skipped"),
    [
        (("vllm-bench", "VLLM_BENCH", "vllm-bench-serve"), "bench-result.json", 39, 1),
        (("openai", "openai-log", "litellm"), "access-log.jsonl", 29, 1),
        (("otel", "otlp", "otel_genai", "otel_trace_replay"), "spans.otlp.jsonl", 24, 0),
    ],
)
def test_examples(names: tuple[str, ...], file: str, requests: int, skipped: int) -> None:
    for trace_format in ("auto", *names):
        trace = load_trace(EXAMPLES / file, trace_format=trace_format)
        assert (len(trace), len(trace.skipped)) == (requests, skipped)
        assert trace.arrival_s is not None


def test_the_agents_of_the_example_are_closed_loops() -> None:
    trace = load_trace(EXAMPLES / "spans.otlp.jsonl")
    assert trace.num_sessions == 8
    assert trace.delay_s is not None
    assert (trace.delay_s[~np.isnan(trace.delay_s)] > 0.1).all()
