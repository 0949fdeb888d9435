"""Relinking after rows are dropped, against token sequences spelled out."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.traces import Trace
from kvsim.traces.prefix_links import relink_prefixes


@st.composite
def linked(draw: st.DrawFn) -> Trace:
    """Any forest of prefix links."""
    n = draw(st.integers(1, 14))
    prompt = [draw(st.integers(1, 12)) for _ in range(n)]
    output = [draw(st.integers(1, 4)) for _ in range(n)]
    rows, tokens = [], []
    for row in range(n):
        rows.append(draw(st.integers(-1, row - 1)))
        most = 0 if rows[-1] < 0 else min(prompt[row], prompt[rows[-1]] + output[rows[-1]])
        tokens.append(draw(st.integers(0, most)))
    return Trace(
        name="t",
        prompt_tokens=np.array(prompt),
        output_tokens=np.array(output),
        arrival_s=None,
        prefix_row=np.array(rows),
        prefix_tokens=np.array(tokens),
    )


def sequences(trace: Trace) -> list[list[int]]:
    """Each row's prompt and output as tokens: shared ones, then tokens of its own."""
    assert trace.prefix_row is not None
    assert trace.prefix_tokens is not None
    found: list[list[int]] = []
    number = 0
    for row in range(len(trace)):
        shared = int(trace.prefix_tokens[row])
        begin = found[int(trace.prefix_row[row])][:shared] if shared else []
        fresh = int(trace.prompt_tokens[row] + trace.output_tokens[row]) - shared
        found.append([*begin, *range(number, number + fresh)])
        number += fresh
    return found


def common(one: list[int], other: list[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


@settings(max_examples=400, deadline=None)
@given(linked(), st.data())
def test_kept_rows_share_what_they_shared(trace: Trace, data: st.DataObject) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, len(trace) - 1), min_size=1)))
    tokens = sequences(trace)
    assert trace.prefix_row is not None
    assert trace.prefix_tokens is not None
    kept = np.array(rows, dtype=np.int64)
    links, shared = relink_prefixes(trace.prefix_row, trace.prefix_tokens, kept)
    for place, row in enumerate(rows):
        prompt = tokens[row][: trace.prompt_tokens[row]]
        most = max((common(prompt, tokens[other]) for other in rows[:place]), default=0)
        assert shared[place] == most
        if links[place] >= 0:
            assert links[place] < place
            assert common(prompt, tokens[rows[links[place]]]) == most
        else:
            assert most == 0
    assert len(trace.take(kept)) == len(kept)


def test_keeping_every_row_changes_nothing() -> None:
    rows, tokens = np.array([-1, 0, 1, 0]), np.array([0, 5, 3, 0])
    links, shared = relink_prefixes(rows, tokens, np.arange(4))
    assert links.tolist() == rows.tolist()
    assert shared.tolist() == tokens.tolist()


def test_a_long_dropped_chain_is_passed() -> None:
    """Turns 1 to 4,999 are dropped: turn 5,000 began like turn 0."""
    n = 5001
    links, shared = relink_prefixes(
        np.arange(-1, n - 1), np.arange(n, dtype=np.int64), np.array([0, n - 1])
    )
    assert links.tolist() == [-1, 0]
    assert shared.tolist() == [0, 1]


def test_the_row_that_shares_most_is_found() -> None:
    """Rows 1 to 4 began like row 0, with 3, 5, 5 and 4 tokens; row 0 is dropped."""
    links, shared = relink_prefixes(
        np.array([-1, 0, 0, 0, 0]), np.array([0, 3, 5, 5, 4]), np.arange(1, 5)
    )
    assert shared.tolist() == [0, 3, 5, 4]
    assert links.tolist() == [-1, 0, 1, 1]
