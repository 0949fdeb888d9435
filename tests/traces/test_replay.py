"""Sessions closed loop and open loop; turns that are missing, skipped or in a circle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.traces import Trace, load_trace
from kvsim.traces.intake import Intake, take_in

Write = Callable[[str, str | bytes], Path]
NAN = float("nan")


def lines(*rows: dict[str, Any]) -> str:
    plain = {"input_length": 10, "output_length": 5}
    return "".join(json.dumps({**plain, **row}) + "\n" for row in rows)


def parents(trace: Trace) -> list[int]:
    return [] if trace.parent is None else trace.parent.tolist()


BOTH = lines(
    {"session_id": "a", "timestamp": 1000},
    {"session_id": "b", "timestamp": 1200},
    {"session_id": "a", "timestamp": 3000, "delay": 250},
)


def test_times_and_delays(write: Write) -> None:
    """Mooncake rows that have both are replayed at their times unless asked otherwise."""
    path = write("m.jsonl", BOTH)
    for replay in ("auto", "open"):
        trace = load_trace(path, session_replay=replay)
        np.testing.assert_array_equal(trace.arrival_s, [1.0, 1.2, 3.0])
        assert parents(trace) == [-1, -1, 0]
        assert trace.delay_s is None
    closed = load_trace(path, session_replay="closed")
    np.testing.assert_array_equal(closed.arrival_s, [1.0, 1.2, NAN])
    np.testing.assert_array_equal(closed.delay_s, [NAN, NAN, 0.25])
    assert take_in(Intake(trace=(str(path),), session_replay="closed")).trace.digest == (
        closed.digest
    )


def test_replays_that_cannot_be(write: Write) -> None:
    delays = write(
        "d.jsonl", lines({"session_id": "a", "timestamp": 0}, {"session_id": "a", "delay": 5})
    )
    message = r"^session_replay\(=open\) needs a recorded time in every row, and d\.jsonl row 2 has"
    with pytest.raises(ValueError, match=message):
        load_trace(delays, session_replay="open")
    lengths = write("l.csv", "num_prefill_tokens,num_decode_tokens\n1,1\n")
    with pytest.raises(ValueError, match=r"recorded time in every row, and l\.csv row 2 has none"):
        load_trace(lengths, session_replay="open")
    message = r"^session_replay\(=closed\) needs delays between turns, and t\.jsonl has none\.$"
    for text in (lines({"timestamp": 0}), BOTH.replace("delay", "note")):
        with pytest.raises(ValueError, match=message):
            load_trace(write("t.jsonl", text), session_replay="closed")
    with pytest.raises(ValueError, match=r"session_replay\(=off\) must be one of auto, closed, op"):
        load_trace(delays, session_replay="off")
    with pytest.raises(ValueError, match=r"session_replay\(=open\) needs a trace"):
        Intake(session_replay="open")


def test_a_skipped_turn_is_passed_over(write: Write) -> None:
    text = lines(
        {"session_id": "a", "timestamp": 1000},
        {"session_id": "a", "delay": 10, "output_length": 0},
        {"session_id": "a", "delay": 20},
    )
    trace = load_trace(write("m.jsonl", text))
    assert parents(trace) == [-1, 0]
    np.testing.assert_array_equal(trace.delay_s, [NAN, 0.02])


def test_a_skipped_first_turn_leaves_its_time(write: Write) -> None:
    text = lines(
        {"session_id": "a", "timestamp": 1000, "output_length": 0},
        {"session_id": "a", "delay": 500, "input_length": "x"},
        {"session_id": "b", "timestamp": 1100},
        {"session_id": "a", "delay": 20},
        {"session_id": "a", "delay": 30},
    )
    path = write("m.jsonl", text)
    trace = load_trace(path)
    np.testing.assert_array_equal(trace.arrival_s, [1.1, 1.52, NAN])
    assert parents(trace) == [-1, -1, 1]
    assert [skip.row for skip in trace.skipped] == [1, 2]
    assert trace.notes == (
        "m.jsonl: the turn before was skipped: the row starts at that turn's time plus its own "
        "delay (rows: 1; 4).",
    )
    with pytest.raises(ValueError, match=r"^m\.jsonl row 1: output_length\(=0\)"):
        load_trace(path, strict=True)


def bailian(*links: tuple[int, int], **bad: Any) -> str:
    """Rows (chat, parent) a second apart; `bad` changes the second."""
    rows = [
        {"chat_id": chat, "parent_chat_id": parent, "timestamp": second}
        for second, (chat, parent) in enumerate(links)
    ]
    rows[1].update(bad)
    return lines(*rows)


def test_children_of_a_skipped_chat_go_to_its_parent(write: Write) -> None:
    trace = load_trace(write("b.jsonl", bailian((1, -1), (2, 1), (3, 2), output_length=0)))
    assert parents(trace) == [-1, 0]
    assert trace.notes == ()
    alone = load_trace(write("b.jsonl", bailian((1, -1), (2, -1), (3, 2), output_length=0)))
    assert parents(alone) == []
    assert alone.notes == ()


@pytest.mark.parametrize(
    ("links", "row", "reason"),
    [
        (((1, -1), (2, 77)), 2, "parent_chat_id(=77) names no row of the file"),
        (((1, 2), (2, -1)), 1, "parent_chat_id(=2) names a row that comes later"),
        (
            ((1, 3), (2, 1), (3, 2)),
            1,
            "parent_chat_id(=3) leads back to the row itself: a cycle of parents",
        ),
        (
            ((1, -1), (2, 2)),
            2,
            "parent_chat_id(=2) leads back to the row itself: a cycle of parents",
        ),
    ],
)
def test_links_that_lead_nowhere(
    write: Write, links: tuple[tuple[int, int], ...], row: int, reason: str
) -> None:
    path = write("b.jsonl", bailian(*links))
    trace = load_trace(path)
    assert len(trace) == len(links)
    assert parents(trace) in ([], [-1, *range(len(links) - 1)])
    kind = "b.jsonl: parent_chat_id that names no earlier row counts as none"
    assert trace.notes == (f"{kind} (rows: 1; {row}).",)
    with pytest.raises(ValueError, match=r"^b\.jsonl row") as caught:
        load_trace(path, strict=True)
    assert str(caught.value) == f"b.jsonl row {row}: {reason}."


def test_a_turn_of_a_missing_line(write: Write) -> None:
    text = lines(
        {"session_id": "a", "timestamp": 0},
        {"session_id": "a", "delay": 5, "turn_of": 9},
    )
    trace = load_trace(write("m.jsonl", text))
    assert parents(trace) == [-1, 0]  # the session's latest
    assert "turn_of that names no earlier row" in trace.notes[0]


@pytest.mark.parametrize("bad", ["-1", "0", '"x"', "1e400", "true", "[]"])
def test_cancellations(write: Write, bad: str) -> None:
    good = '{"timestamp": %d, "input_length": 1, "output_length": 1, "cancel_s": %s}\n'
    trace = load_trace(write("m.jsonl", good % (1, "2.5") + good % (2, bad) + good % (3, "null")))
    np.testing.assert_array_equal(trace.cancel_s, [2.5, NAN])
    assert [skip.row for skip in trace.skipped] == [2]
    assert trace.skipped[0].reason.startswith("cancel_s(=")


def test_cancellations_of_a_table(write: Write) -> None:
    head = "arrived_at,num_prefill_tokens,num_decode_tokens,cancel_s\n"
    trace = load_trace(write("t.csv", head + "0,1,1,\n1,1,1,2.5\n2,1,1,0\n3,1,1,x\n4,1,1,-1\n"))
    np.testing.assert_array_equal(trace.cancel_s, [NAN, 2.5])
    assert [str(skip) for skip in trace.skipped] == [
        "t.csv row 4: cancel_s(=0) must be > 0",
        "t.csv row 5: cancel_s(=x) is not a number",
        "t.csv row 6: cancel_s(=-1) must be > 0",
    ]
    assert load_trace(write("t.csv", head + "0,1,1,\n")).cancel_s is None
