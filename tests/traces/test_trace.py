"""`Trace`: what is refused, what the digest sees, and cutting, moving and scaling in time."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvsim.traces import SkippedRow, Trace


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> Any:
    return np.array(values, dtype=np.float64)


NAN = float("nan")
COLUMNS: dict[str, Any] = {
    "name": "t",
    "prompt_tokens": ints(10, 20, 30, 40),
    "output_tokens": ints(1, 2, 3, 4),
    "arrival_s": floats(0.0, 1.5, NAN, 4.0),
    "hash_ids": np.array([7, 7, 8, 7, 8, 2**64 - 1], dtype=np.uint64),
    "hash_offsets": ints(0, 1, 3, 6, 6),
    "hash_block_size": 10,
    "parent": ints(-1, -1, 1, 0),
    "delay_s": floats(NAN, NAN, 0.5, NAN),
    "priority": ints(0, 3, 0, 0),
    "tenant": ints(0, 1, 1, 0),
    "cancel_s": floats(NAN, 2.5, NAN, NAN),
    "prefix_row": ints(-1, 0, 1, 1),
    "prefix_tokens": ints(0, 6, 15, 7),
}


def trace(**changes: Any) -> Trace:
    return Trace(**{**COLUMNS, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_tokens": ints(10, 0, 30, 40)}, "prompt_tokens[1](=0) must be >= 1."),
        ({"output_tokens": ints(1, 2, 3, -4)}, "output_tokens[3](=-4) must be >= 1."),
        ({"tenant": ints(0, 1, -1, 0)}, "tenant[2](=-1) must be >= 0."),
        ({"output_tokens": ints(1, 2, 3)}, "output_tokens.shape(=(3,)) must be (4,)."),
        (
            {"prompt_tokens": floats(1, 2, 3, 4)},
            "prompt_tokens.dtype(=float64) must be int64.",
        ),
        ({"arrival_s": floats(0, 2, NAN, 1)}, "arrival_s must be sorted: 1.0 comes after 2.0."),
        (
            {"arrival_s": floats(0, NAN, NAN, 1)},
            "arrival_s[1](=nan) must be a time, or the row needs delay_s.",
        ),
        ({"arrival_s": floats(0, 1, 2, 3)}, "arrival_s[2](=2.0) must be NaN beside delay_s."),
        (
            {"arrival_s": floats(0, 1, NAN, math.inf)},
            "arrival_s[3](=inf) must be finite and >= 0.",
        ),
        ({"parent": ints(-1, -1, 2, 0)}, "parent[2](=2) must be in [-1, 2)."),
        ({"parent": ints(-2, -1, 1, 0)}, "parent[0](=-2) must be in [-1, 0)."),
        ({"parent": None}, "delay_s needs parent."),
        ({"delay_s": floats(NAN, NAN, -1, NAN)}, "delay_s[2](=-1.0) must be >= 0."),
        ({"delay_s": floats(0, NAN, 1, NAN)}, "delay_s[0](=0.0) needs a parent."),
        ({"num_samples": ints(1, 1, 0, 1)}, "num_samples[2](=0) must be >= 1."),
        (
            {"num_samples": ints(1, 1, 5, 1), "beam_width": ints(0, 0, 4, 0)},
            "beam_width[2](=4) must be >= num_samples.",
        ),
        ({"cancel_s": floats(NAN, 0, NAN, NAN)}, "cancel_s[1](=0.0) must be > 0 and finite."),
        ({"cancel_s": floats(NAN, -1, NAN, NAN)}, "cancel_s[1](=-1.0) must be > 0 and finite."),
        ({"cancel_s": floats(NAN, 1, NAN, math.inf)}, "cancel_s[3](=inf) must be > 0 and finite."),
        ({"prefix_row": None}, "prefix_row and prefix_tokens must be given together."),
        ({"prefix_tokens": None}, "prefix_row and prefix_tokens must be given together."),
        ({"prefix_row": ints(-1, 1, 1, 1)}, "prefix_row[1](=1) must be in [-1, 1)."),
        ({"prefix_row": ints(-1, -2, 1, 1)}, "prefix_row[1](=-2) must be in [-1, 1)."),
        ({"prefix_row": ints(-1, -1, 1, 1)}, "prefix_tokens[1](=6) must be in [0, 0]."),
        ({"prefix_tokens": ints(0, 12, 0, 0)}, "prefix_tokens[1](=12) must be in [0, 11]."),
        ({"prefix_tokens": ints(0, -1, 0, 0)}, "prefix_tokens[1](=-1) must be in [0, 11]."),
        (
            {"prompt_tokens": ints(90, 20, 30, 40), "prefix_tokens": ints(0, 21, 0, 0)},
            "prefix_tokens[1](=21) must be in [0, 20].",
        ),
        ({"hash_block_size": None}, "hash_ids, hash_offsets and hash_block_size must be given"),
        ({"hash_block_size": 0}, "hash_block_size(=0) must be > 0."),
        ({"hash_block_size": 16}, "hash_ids of row 2 (=3 ids) must be at most 2."),
        ({"hash_offsets": ints(0, 1, 3, 6, 5)}, "hash_offsets must rise from 0"),
        ({"hash_offsets": ints(0, 6)}, "hash_offsets.shape(=(2,)) must be (5,)."),
    ],
)
def test_broken_columns_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^") as caught:
        trace(**changes)
    assert str(caught.value).startswith(message)


def test_a_trace_without_requests_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no requests"):
        Trace(name="t", prompt_tokens=ints(), output_tokens=ints(), arrival_s=None)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_tokens": ints(10, 21, 30, 40)},
        {"output_tokens": ints(1, 2, 3, 5)},
        {"arrival_s": floats(0.0, 1.5, NAN, 4.5)},
        {"hash_ids": np.array([7, 7, 8, 7, 8, 2**64 - 2], dtype=np.uint64)},
        {"hash_offsets": ints(0, 1, 2, 5, 6)},
        {"hash_block_size": 11},
        {"parent": ints(-1, -1, 0, 0)},
        {"delay_s": floats(NAN, NAN, 0.25, NAN)},
        {"num_samples": ints(1, 2, 1, 1)},
        {"beam_width": ints(0, 2, 0, 0)},
        {"priority": ints(0, 3, 0, 1)},
        {"tenant": ints(0, 1, 2, 0)},
        {"cancel_s": floats(NAN, 2.5, NAN, 9.0)},
        {"prefix_row": ints(-1, 0, 0, 1), "prefix_tokens": ints(0, 6, 11, 7)},
        {"prefix_tokens": ints(0, 6, 15, 8)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_digest_sees_every_column(change: dict[str, Any]) -> None:
    assert trace(**change).digest != trace().digest


def test_digest_sees_content_only() -> None:
    skipped = (SkippedRow(file="f", row=3, reason="r"),)
    other = trace(name="other", skipped=skipped, notes=("n",), num_samples=ints(1, 1, 1, 1))
    assert other.digest == trace().digest
    assert len(trace().digest) == 64
    assert trace().with_name("x").digest == trace().digest


def test_neutral_columns_leave_the_digest_alone() -> None:
    plain = trace(cancel_s=None, prefix_row=None, prefix_tokens=None)
    nothing = ints(0, 0, 0, 0)
    never = floats(NAN, NAN, NAN, NAN)
    for row in (ints(-1, -1, -1, -1), ints(-1, 0, 1, 1)):
        said = trace(cancel_s=never, prefix_row=row, prefix_tokens=nothing)
        assert said.digest == plain.digest


def test_dropped_rows_leave_their_prefixes_to_one_another() -> None:
    """Rows 2 and 3 began like row 1, with 15 and 7 tokens; row 1 like row 0, with 6."""
    window = trace().window(1.5, 5.0)
    assert window.prefix_row is not None
    assert window.prefix_tokens is not None
    assert window.prefix_row.tolist() == [-1, 0, 0]
    assert window.prefix_tokens.tolist() == [0, 15, 7]
    late = trace(arrival_s=floats(0, 1.5, 2, 4), delay_s=None).window(2.0, 5.0)
    assert late.prefix_row is not None
    assert late.prefix_tokens is not None
    assert late.prefix_row.tolist() == [-1, 0]
    assert late.prefix_tokens.tolist() == [0, 7]


def test_cancellations_stay_with_their_rows() -> None:
    np.testing.assert_array_equal(trace().window(1.5, 5.0).cancel_s, [2.5, NAN, NAN])
    np.testing.assert_array_equal(trace().speedup(2.0).cancel_s, trace().cancel_s)


def test_sessions_begin_when_told() -> None:
    """Two sessions, {0, 2} and {1, 3}: each moves as a whole; equal times go by session."""
    columns = {
        "arrival_s": floats(0, 0, 5, 6),
        "parent": ints(-1, -1, 0, 1),
        "delay_s": None,
        "prefix_row": ints(-1, -1, 0, 1),
        "prefix_tokens": ints(0, 0, 3, 4),
    }
    moved = trace(**columns).with_session_starts([7.0, 6.0])
    assert moved.num_sessions == 2
    np.testing.assert_array_equal(moved.arrival_s, [6.0, 7.0, 12.0, 12.0])
    assert moved.prompt_tokens.tolist() == [20, 10, 30, 40]
    for name, expected in (
        ("parent", [-1, -1, 1, 0]),
        ("prefix_row", [-1, -1, 1, 0]),
        ("prefix_tokens", [0, 0, 3, 4]),
    ):
        assert getattr(moved, name).tolist() == expected
    assert moved.hash_chain(0).tolist() == [7, 8]
    assert moved.hash_chain(1).tolist() == [7]
    with pytest.raises(ValueError, match=r"start_s.shape\(=\(1,\)\) must be \(2,\)"):
        trace(**columns).with_session_starts([1.0])
    with pytest.raises(ValueError, match="shares prefixes between sessions"):
        trace(**{**columns, "prefix_row": ints(-1, 0, 0, 1)}).with_session_starts([9.0, 0.0])
    with pytest.raises(ValueError, match="has no arrival times: sessions"):
        trace(**{**columns, "arrival_s": None}).with_session_starts([9.0, 0.0])


def test_sessions_that_follow_begin_when_told() -> None:
    plain = trace(parent=ints(-1, -1, 1, -1), prefix_row=None, prefix_tokens=None)
    moved = plain.with_session_starts([9.0, 1.0, 4.0])
    np.testing.assert_array_equal(moved.arrival_s, [1.0, NAN, 4.0, 9.0])
    np.testing.assert_array_equal(moved.delay_s, [NAN, 0.5, NAN, NAN])


def test_head() -> None:
    head = trace().head(3)
    assert len(head) == head.num_requests == 3
    assert head.hash_chain(2).tolist() == [7, 8, 2**64 - 1]
    assert head.parent is not None
    assert head.parent.tolist() == [-1, -1, 1]
    assert trace().head(99).digest == trace().digest
    with pytest.raises(ValueError, match=r"max_requests\(=0\) must be > 0"):
        trace().head(0)


def test_window_takes_turns_with_their_parents_and_frees_the_others() -> None:
    window = trace().window(1.0, 5.0)
    np.testing.assert_array_equal(window.arrival_s, [0.5, NAN, 3.0])
    assert window.parent is not None
    assert window.parent.tolist() == [-1, 0, -1]
    assert window.hash_chain(0).tolist() == [7, 8]
    assert window.hash_chain(2).tolist() == []
    np.testing.assert_array_equal(window.delay_s, [NAN, 0.5, NAN])


def test_window_ends_before_its_end() -> None:
    assert trace().window(0.0, 1.5).prompt_tokens.tolist() == [10]
    assert trace().window(1.5, 1.6).prompt_tokens.tolist() == [20, 30]
    assert len(trace().window()) == 4
    with pytest.raises(ValueError, match=r"window start_s\(=5\), end_s\(=6\).*no requests"):
        trace().window(5, 6)
    with pytest.raises(ValueError, match=r"end_s\(=1\) must be > start_s\(=1\)"):
        trace().window(1, 1)


def test_speedup_divides_arrivals_only() -> None:
    fast = trace().speedup(2.0)
    np.testing.assert_array_equal(fast.arrival_s, [0.0, 0.75, NAN, 2.0])
    np.testing.assert_array_equal(fast.delay_s, trace().delay_s)
    for ratio in (0.0, -1.0, NAN, math.inf):
        with pytest.raises(ValueError, match=r"arrival_speedup_ratio\(=.*\) must be > 0"):
            trace().speedup(ratio)


def test_arrivals_go_to_roots() -> None:
    assert trace().num_roots == 3
    for times in ([1.0, 2.0, 3.0], [1.0, 2.0, 9.0, 3.0]):
        np.testing.assert_array_equal(trace().with_arrivals(times).arrival_s, [1.0, 2.0, NAN, 3.0])
    with pytest.raises(ValueError, match=r"arrival_s.shape\(=\(2,\)\) must be \(3,\)"):
        trace().with_arrivals([1.0, 2.0])
    np.testing.assert_array_equal(trace().backlog().arrival_s, [0.0, 0.0, NAN, 0.0])


def test_lengths_only_traces_take_arrivals() -> None:
    lengths = trace(arrival_s=None)
    with pytest.raises(ValueError, match="has no arrival times: window"):
        lengths.window(0, 1)
    with pytest.raises(ValueError, match="has no arrival times: speedup"):
        lengths.speedup(2)
    assert lengths.with_arrivals([0.0, 1.5, 4.0]).digest == trace().digest


def test_the_callers_array_stays_writable() -> None:
    mine = ints(1, 2, 3, 4)
    held = trace(prompt_tokens=mine * 10)
    assert replace(held, output_tokens=mine).output_tokens.flags.writeable is False
    mine[0] = 9
