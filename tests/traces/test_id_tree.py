"""Prefix ids that contradict themselves, in one file and between files."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.traces import load_trace
from kvsim.traces.columns import offsets_of
from kvsim.traces.id_tree import contradictions, cut, numbered

Write = Callable[[str, str | bytes], Path]


def walked(chains: list[list[int]]) -> list[list[int]]:
    """Chains cut by the definition: an id keeps the place and the id before it of its first use."""
    known: dict[int, tuple[int, int]] = {}
    kept = []
    for ids in chains:
        good: list[int] = []
        for one, place in zip(ids, enumerate([-1, *ids]), strict=False):
            if known.setdefault(one, place) != place:
                break
            good.append(one)
        kept.append(good)
    return kept


@given(
    st.lists(st.lists(st.integers(0, 6), max_size=5), min_size=1, max_size=12),
    st.sampled_from([0, 2**63, 2**64 - 7]),
)
def test_cut_by_the_definition(chains: list[list[int]], base: int) -> None:
    flat = np.array([base + x for ids in chains for x in ids], dtype=np.uint64)
    offsets = offsets_of([len(ids) for ids in chains])
    ids, bounds = cut(flat, offsets, contradictions(flat, offsets))
    kept = [ids[a:b].tolist() for a, b in pairwise(bounds)]
    assert kept == [[base + x for x in own] for own in walked(chains)]


@pytest.mark.parametrize("ids", [[], [5], [2**64 - 1, 3, 2**64 - 1], [0, 1, 2, 0]])
def test_numbered(ids: list[int]) -> None:
    numbers, count = numbered(np.array(ids, dtype=np.uint64))
    assert count == len(set(ids))
    assert sorted(set(numbers.tolist())) == list(range(count))
    assert len(set(zip(ids, numbers.tolist(), strict=True))) == count


def mooncake(*chains: list[int]) -> str:
    rows = [
        {"timestamp": i, "input_length": 512 * len(ids), "output_length": 1, "hash_ids": ids}
        for i, ids in enumerate(chains)
    ]
    return "\n".join(map(json.dumps, rows))


def test_another_parent_or_position(write: Write) -> None:
    path = write("m.jsonl", mooncake([1, 2, 3], [1, 9, 3, 4], [2, 5], [1, 2, 3, 4], [9]))
    trace = load_trace(path)
    chains = [trace.hash_chain(row).tolist() for row in range(5)]
    assert chains == [[1, 2, 3], [1, 9], [], [1, 2, 3, 4], []]
    assert trace.skipped == ()
    assert trace.notes == (
        "m.jsonl: hash_ids that contradict rows above were dropped with those behind them "
        "(rows: 3; 2, 3, 5).",
    )
    message = (
        r"^m\.jsonl row 2: hash_ids\[2\]\(=3\) must have the position and the id before it that it "
        r"has in row 1\.$"
    )
    with pytest.raises(ValueError, match=message):
        load_trace(path, strict=True)


def test_contradictions_between_files(write: Write) -> None:
    one, two = write("1.jsonl", mooncake([1, 2])), write("2.jsonl", mooncake([3, 2]))
    trace = load_trace([one, two])
    assert [trace.hash_chain(row).tolist() for row in range(2)] == [[1, 2], [3]]
    with pytest.raises(ValueError, match=r"^2\.jsonl row 1: hash_ids\[1\].* in 1\.jsonl row 1\.$"):
        load_trace([one, two], strict=True)


@pytest.mark.parametrize(
    ("ids", "prompt", "reason"),
    [
        ([1, 2, 3], 1024, "hash_ids (=3 ids) must be 2 for a prompt of 1024 tokens"),
        ([1], 1025, "hash_ids (=1 ids) must be 3 for a prompt of 1025 tokens"),
        ([1, "x"], 1024, "hash_ids[1](=x) must be a whole number in [0, 2^64)"),
        ("abc", 1024, "hash_ids(=abc) must be a list"),
    ],
)
def test_repaired_ids_are_errors_when_strict(
    write: Write, ids: object, prompt: int, reason: str
) -> None:
    row = {"timestamp": 9, "input_length": prompt, "output_length": 1, "hash_ids": ids}
    path = write("m.jsonl", mooncake([7]) + "\n" + json.dumps(row))
    trace = load_trace(path)
    assert len(trace) == 2
    assert trace.notes[0].endswith("(rows: 1; 2).")
    with pytest.raises(ValueError, match=r"^m") as caught:
        load_trace(path, strict=True)
    assert str(caught.value) == f"m.jsonl row 2: {reason}."


def test_a_file_of_full_blocks_only_is_not_short(write: Write, shared_traces: Path) -> None:
    """`measured/` is Mooncake's format with floor ids; one row with a partial id makes it ceil."""
    row = '{"timestamp": 0, "input_length": 700, "output_length": 1, "hash_ids": [%s]}\n'
    assert load_trace(write("f.jsonl", row % "1" * 2), strict=True).notes == ()
    mixed = load_trace(write("c.jsonl", row % "1" + row % "1, 2"))
    assert "(rows: 1; 1)" in mixed.notes[0]
    measured = shared_traces.parent / "measured/rtx-pro-6000-llama-3.1-8b/trace.jsonl.gz"
    trace = load_trace(measured, trace_block_size=16, strict=True)
    assert trace.hash_offsets is not None
    assert trace.notes == ()
    np.testing.assert_array_equal(np.diff(trace.hash_offsets), trace.prompt_tokens // 16)
