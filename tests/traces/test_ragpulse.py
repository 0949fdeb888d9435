"""RAGPulse: chunks of any length, from side files, shared in list order."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.traces import load_trace, trace_stats
from kvsim.traces.formats.ragpulse import COMPONENTS

Write = Callable[[str, str | bytes], Path]


def row(second: Any, prompt: Any, session: str = "a", **chunks: list[Any]) -> str:
    ids = {**{name: [] for name in COMPONENTS}, **chunks}
    return json.dumps(
        {
            "timestamp": second,
            "input_length": prompt,
            "output_length": 3,
            "hash_ids": ids,
            "session_id": session,
        }
    )


@pytest.fixture
def sides(write: Write) -> None:
    """Chunks 1, 2, 3 of 10, 20 and 30 tokens in every component."""
    for file, key in COMPONENTS.values():
        lines = [json.dumps({key: i, "token_length": 10 * i}) for i in (1, 2, 3)]
        write(file, "\n".join(lines) + "\n\n")


@pytest.mark.usefixtures("sides")
def test_chunks_are_shared_in_list_order(write: Write) -> None:
    rows = [
        row("5", 70, sys_prompt=[1, 2], user_input=[3]),  # 10 + 20 + 30, 10 template tokens
        row("9", 40, sys_prompt=[1], passages_ids=[2]),  # passage 2 is not system prompt 2
        row("2", 50, session="b", sys_prompt=[1, 2]),  # earlier
        row("9", 31, sys_prompt=[1], passages_ids=[2]),  # same second as row 2
    ]
    trace = load_trace(write("0_trace.jsonl", "\n".join(rows) + "\n\n"))
    assert trace.prompt_tokens.tolist() == [50, 70, 40, 31]
    assert trace.arrival_s is not None
    assert trace.arrival_s.tolist() == [2.0, 5.0, 9.0, 9.0]
    assert trace.prefix_row is not None
    assert trace.prefix_tokens is not None
    assert trace.prefix_row.tolist() == [-1, 0, 1, 2]
    assert trace.prefix_tokens.tolist() == [0, 30, 10, 30]
    assert trace.parent is not None
    assert trace.parent.tolist() == [-1, -1, 1, 2]
    assert trace.delay_s is None
    assert trace.num_out_of_order == 1


@pytest.mark.usefixtures("sides")
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("x", 9), "timestamp(=x) is not a number"),
        (row("-1", 9), "timestamp(=-1) must be >= 0"),
        (row("1", 0), "input_length(=0) must be > 0"),
        (row("1", 9, sys_prompt=7), "hash_ids.sys_prompt(=7) must be a list"),  # type: ignore[arg-type]
        (row("1", 9).replace('"session_id": "a"', '"session_id": [1]'), "session_id(=[1]) must"),
    ],
)
def test_bad_rows(write: Write, bad: str, reason: str) -> None:
    trace = load_trace(write("0_trace.jsonl", row("1", 9) + "\n\n" + bad))
    assert [skip.row for skip in trace.skipped] == [3]
    assert trace.skipped[0].reason.startswith(reason)


@pytest.mark.usefixtures("sides")
@pytest.mark.parametrize(
    ("chunks", "prompt", "reason"),
    [
        ([1, 9], 70, "hash_ids.sys_prompt(=9) has no length"),
        ([1, "2"], 70, "hash_ids.sys_prompt(=2) has no length"),
        ([1, 2], 29, "input_length(=29) must be >= the sum of its chunks"),
    ],
)
def test_chunks_that_do_not_fit(write: Write, chunks: list[Any], prompt: int, reason: str) -> None:
    rows = [row("1", 70, sys_prompt=[1, 2]), row("2", prompt, sys_prompt=chunks)]
    path = write("0_trace.jsonl", "\n".join(rows))
    trace = load_trace(path)
    assert trace.prefix_tokens is not None
    assert trace.prefix_tokens.tolist() == [0, 10]
    assert trace.notes[0].endswith("(rows: 1; 2).")
    with pytest.raises(ValueError, match=r"^0_trace\.jsonl row 2") as caught:
        load_trace(path, strict=True)
    assert str(caught.value) == f"0_trace.jsonl row 2: {reason}."


@pytest.mark.usefixtures("sides")
def test_side_files_must_be_there_and_good(write: Write, tmp_path: Path) -> None:
    path = write("0_trace.jsonl", row("1", 70, sys_prompt=[1]))
    (tmp_path / "3_history.jsonl").rename(tmp_path / "3_history.jsonl.gz.off")
    message = r"^0_trace\.jsonl needs 3_history\.jsonl beside it: it has the lengths of history\.$"
    with pytest.raises(ValueError, match=message):
        load_trace(path)
    write("3_history.jsonl.gz", gzip.compress(b'{"history_id": 1, "token_length": 0}'))
    message = r"^3_history\.jsonl\.gz row 1: token_length\(=0\) must be > 0\.$"
    with pytest.raises(ValueError, match=message):
        load_trace(path)


def test_the_published_trace(shared_traces: Path) -> None:
    trace = load_trace(shared_traces / "ragpulse/0_trace.jsonl.gz")
    stats = trace_stats(trace)
    assert (stats["requests"], trace.num_sessions) == (7106, 3990)
    assert stats["input"]["p50"], stats["input"]["max"] == (3140, 7712)
    assert round(stats["input"]["mean"]) == 2944
    assert round(stats["output"]["mean"]) == 283
    assert round(stats["arrivals"]["span_s"]) == 604_603
    assert stats["arrivals"]["cv_interarrival"] == pytest.approx(3.06, abs=0.005)
    assert stats["arrivals"]["peak_1s"] == 3
    assert trace.num_out_of_order == 1
    assert round(100 * stats["prefix_links"]["token_ratio"], 1) == 31.4
    assert trace.skipped == ()
    # the template's tokens are nobody's: no prompt is shared whole
    assert trace.prefix_tokens is not None
    assert (trace.prompt_tokens - trace.prefix_tokens).min() >= 6
    head = trace.window(0, 100_000)
    assert head.prefix_tokens is not None
    assert 0 < head.prefix_tokens.sum() < trace.prefix_tokens.sum()
    np.testing.assert_array_equal(head.prefix_tokens, trace.prefix_tokens[: len(head)])
