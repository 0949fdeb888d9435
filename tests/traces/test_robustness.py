"""Whatever is in a file: a trace, or one sentence; and what loading must not cost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.traces import load_trace

HEADERS = (
    "TIMESTAMP,ContextTokens,GeneratedTokens",
    "Timestamp,Session ID,Request tokens,Response tokens",
    "arrived_at,num_prefill_tokens,num_decode_tokens",
    "arrival_timestamp,prompt_size,token_size",
    "arrived_at,num_prefill_tokens,num_decode_tokens,cancel_s",
    "session_id,round_idx,prefix_len,input_len,output_len,tool_wait_after_ms",
)
CELLS = st.one_of(
    st.sampled_from(
        ["", "1", "0", "-1", "1e3", "1e400", "nan", "inf", "9" * 5000, '"a\nb"', '"1,000"', "x"]
    ),
    st.sampled_from(["2024-01-01 00:00:00", "2024-13-01 00:00:00", "2024-01-01T00:00:00+05:30"]),
    st.text(max_size=5),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 3000),
        st.sampled_from([10**400, -(10**30), 2**64, 1e308, -0.5, 1e18]),
        st.floats(),
        st.text(max_size=4),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
KEYS = [
    "timestamp",
    "created_time",
    "arrival_s",
    "arrival_time_ns",
    "input_length",
    "output_length",
]
KEYS += ["output_lengths", "hash_ids", "session_id", "delay", "n", "best_of", "use_beam_search"]
KEYS += ["priority", "block_size", "turn_of", "chat_id", "parent_chat_id", "prompt_tokens"]
KEYS += ["output_tokens", "prompt_ranges", "prompt_token_ids", "input_toks", "output_toks"]
KEYS += ["cancel_s", "delay_ms", "event", "requests", "timing_events", "round_index"]
KEYS += ["usage", "response", "start_time", "startTime", "created", "completion_tokens", "error"]
KEYS += ["input_lens", "output_lens", "start_times", "errors", "max_concurrency", "attributes"]
KEYS += ["resourceSpans", "context", "tenant", "tenant_id", "user"]
GOOD = {"timestamp": 1, "input_length": 20, "output_length": 3, "hash_ids": [1, 2]}
FORMATS = ["auto", "mooncake", "bailian", "llmservingsim", "golden", "dynamo", "tracelab"]
FORMATS += ["vllm-bench", "openai", "otel"]
REPLAYS = ["auto", "closed", "open"]


def loads_or_says(path: Path, trace_format: str = "auto", session_replay: str = "auto") -> None:
    try:
        trace = load_trace(path, trace_format=trace_format, session_replay=session_replay)
    except ValueError as error:
        said, kind = str(error), type(error)
    else:
        said, kind = "".join(f"{skip}." for skip in trace.skipped) or ".", ValueError
    assert kind is ValueError
    assert said.endswith(".")
    assert said.isprintable()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r") / "file"


slow_ok = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow_ok
@given(st.binary(max_size=60))
def test_any_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    loads_or_says(path)


@slow_ok
@given(st.sampled_from(HEADERS), st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6))
def test_any_table(path: Path, header: str, rows: list[list[str]]) -> None:
    text = "\n".join([header, *map(",".join, rows)])
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    loads_or_says(path)


@slow_ok
@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), max_size=5),
    st.sampled_from(FORMATS),
    st.sampled_from(REPLAYS),
)
def test_any_records(
    path: Path, records: list[dict[str, object]], trace_format: str, session_replay: str
) -> None:
    lines = [json.dumps({**GOOD, **record}) for record in records]
    path.write_text("\n".join(lines))
    loads_or_says(path, trace_format, session_replay)


def changed(good: dict[str, object]) -> st.SearchStrategy[dict[str, object]]:
    """A good record with some of its values replaced by anything."""
    return st.dictionaries(st.sampled_from(sorted(good)), VALUES, max_size=2).map(
        lambda bad: {**good, **bad}
    )


WEKA = {"t": 1.5, "in": 130, "out": 3, "hash_ids": [1, 2], "api_time": 1.0, "think_time": 0.5}
ROUND = {
    "session_id": "a",
    "round_index": 0,
    "prefix_tokens": 3,
    "newly_append_tokens": 4,
    "input_tokens_total": 7,
    "output_tokens": 5,
    "timing_events": [{"event_type": "user_message", "timestamp": "2026-01-01T00:00:00Z"}],
}
REQUEST = {
    "request_received_ms": 5,
    "output_tokens": 3,
    "replay": {"input_length": 20, "input_sequence_hashes": [1, 2], "trace_block_size": 16},
}
CONTEXTS = st.fixed_dictionaries(
    {"session_id": st.integers(0, 2)}, optional={"parent_session_id": st.integers(0, 2)}
)


@slow_ok
@given(
    st.lists(
        changed(WEKA)
        | st.builds(
            lambda t, inner: {"t": t, "type": "subagent", "requests": inner},
            st.integers(0, 3) | VALUES,
            st.lists(changed(WEKA), max_size=3),
        ),
        max_size=5,
    ),
    st.sampled_from(REPLAYS),
)
def test_any_session(path: Path, requests: list[object], session_replay: str) -> None:
    path.write_text(json.dumps({"block_size": 64, "requests": requests}))
    loads_or_says(path, "weka", session_replay)


@slow_ok
@given(st.lists(changed(ROUND), max_size=5), st.sampled_from(REPLAYS))
def test_any_rounds(path: Path, rounds: list[object], session_replay: str) -> None:
    path.write_text("\n".join(map(json.dumps, rounds)))
    loads_or_says(path, "tracelab", session_replay)


@slow_ok
@given(
    st.lists(st.tuples(changed(REQUEST), st.integers(0, 9), CONTEXTS), max_size=6),
    st.sampled_from(REPLAYS),
)
def test_any_events(
    path: Path, rows: list[tuple[object, int, object]], session_replay: str
) -> None:
    events = [
        {"event": {"event_type": "request_end", "event_time_unix_ms": end, "request": request}}
        for request, end, _ in rows
    ]
    for event, (_, _, context) in zip(events, rows, strict=True):
        event["event"]["agent_context"] = context
    path.write_text("\n".join(map(json.dumps, events)))
    loads_or_says(path, "dynamo", session_replay)


fewer = settings(slow_ok, max_examples=100)
BENCH = {"input_lens": [5, 6], "output_lens": [1, 2], "errors": ["", ""], "start_times": [3.5, 4]}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
ACCESS = {"start_time": 1788256800, "model": "m", "status": 200, "usage": USAGE}


@fewer
@given(
    changed({**BENCH, "max_concurrency": 3}),
    st.sampled_from(sorted(BENCH)),
    st.lists(VALUES, min_size=2, max_size=2),
)
def test_any_benchmark(
    path: Path, result: dict[str, object], key: str, column: list[object]
) -> None:
    path.write_text(json.dumps({**result, key: column}))
    loads_or_says(path, "vllm-bench")


@fewer
@given(
    st.lists(st.tuples(changed(ACCESS), changed(USAGE), st.integers(0, 2)), max_size=4),
    st.booleans(),
)
def test_any_access_log(
    path: Path, rows: list[tuple[dict[str, object], object, int]], listed: bool
) -> None:
    records = [
        [{**access, "usage": usage}, {**access, "response": {"body": access}}, access][shape]
        for access, usage, shape in rows
    ]
    path.write_text(json.dumps(records) if listed else "\n".join(map(json.dumps, records)))
    loads_or_says(path, "openai")


SPAN = {
    "traceId": "t",
    "spanId": "a",
    "parentSpanId": "b",
    "startTimeUnixNano": "1788256800000000000",
    "endTimeUnixNano": "1788256801000000000",
}
ATTRIBUTES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 5,
    "gen_ai.usage.output_tokens": 2,
    "gen_ai.conversation.id": "c",
}


@fewer
@given(
    st.lists(st.tuples(changed(SPAN), changed(ATTRIBUTES), st.booleans()), max_size=5),
    st.sampled_from(REPLAYS),
    st.text(max_size=3),
)
def test_any_spans(
    path: Path,
    spans: list[tuple[dict[str, object], dict[str, object], bool]],
    session_replay: str,
    rest: str,
) -> None:
    made = [
        {**span, "attributes": [{"key": k, "value": {"intValue": v}} for k, v in own.items()]}
        if listed
        else {**span, "context": {"trace_id": "t", "span_id": "a"}, "attributes": own}
        for span, own, listed in spans
    ]
    otlp = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": made}]}]})
    printed = "\n".join(json.dumps(span, indent=1) for span in made)
    for text in (otlp, printed):
        path.write_bytes((text + rest).encode("utf-8", "surrogatepass"))
        loads_or_says(path, "otel", session_replay)


def test_importing_is_light() -> None:
    heavy = ("pandas", "matplotlib", "torch", "urllib.request", "tokenizers", "pyarrow")
    code = f"import sys, kvsim.traces; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
