"""Statistics against hand-worked numbers and a plain LRU written from the definition."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.traces import Trace, trace_stats


def timed(*arrival_s: float) -> Trace:
    ones = np.ones(len(arrival_s), dtype=np.int64)
    return Trace(name="t", prompt_tokens=ones, output_tokens=ones, arrival_s=np.array(arrival_s))


def chained(*chains: list[int], block_size: int = 4, short: int = 0) -> Trace:
    """Prompts that fill their blocks but for `short` tokens."""
    counts = np.array([len(ids) for ids in chains])
    return Trace(
        name="t",
        prompt_tokens=np.maximum(1, counts * block_size - short),
        output_tokens=np.ones(len(chains), dtype=np.int64),
        arrival_s=None,
        hash_ids=np.array(list(chain.from_iterable(chains)), dtype=np.uint64),
        hash_offsets=np.concatenate(([0], np.cumsum(counts))),
        hash_block_size=block_size,
    )


def test_lengths() -> None:
    trace = Trace(
        name="t",
        prompt_tokens=np.array([1, 2, 3, 5]),
        output_tokens=np.array([9, 9, 9, 1]),
        arrival_s=None,
    )
    stats = trace_stats(trace)
    assert stats["input"]["mean"] == 2.75
    assert stats["input"]["p50"] == 2.5
    assert stats["input"]["p90"] == pytest.approx(4.4)
    assert (stats["sum_in"], stats["sum_out"], stats["max_in_plus_out"]) == (11, 28, 12)
    assert "arrivals" not in stats
    assert "prefix" not in stats


def test_arrivals() -> None:
    stats = trace_stats(timed(0.0, 0.5, 0.5, 2.0, 4.0))["arrivals"]
    assert stats == {
        "span_s": 4.0,
        "rate_mean": 1.25,
        "peak_1s": 3,
        "peak_60s_avg": round(5 / 60, 3),
        "cv_interarrival": round(np.std([0.5, 0, 1.5, 2]) / 1.0, 3),
        "disp_1s": round(np.var([3, 0, 1, 0, 1]) / 1.0, 3),
        "out_of_order": 0,
        "equal_ts": 1,
        "distinct_ts": 4,
        "max_gap_s": 2.0,
    }


@pytest.mark.parametrize("times", [(3.0,), (0.0, 0.0)])
def test_arrivals_without_a_span_have_no_rate(times: tuple[float, ...]) -> None:
    stats = trace_stats(timed(*times))["arrivals"]
    assert stats["rate_mean"] is None
    assert stats["cv_interarrival"] is None
    assert stats["span_s"] == 0.0


def test_prefix_hits_by_hand() -> None:
    stats = trace_stats(chained([1, 2], [1, 2, 3], [1, 9], short=1), capacities=(1, 3))["prefix"]
    assert stats["block_refs"] == 7
    assert stats["unique_blocks"] == 4
    assert stats["input_tokens"] == 7 + 11 + 7
    assert stats["infinite"]["hit_blocks"] == 3
    assert stats["infinite"]["hit_tokens"] == 8 + 4
    assert stats["infinite"]["token_ratio"] == round(12 / 25, 6)
    assert stats["lru"]["1"]["hit_blocks"] == 2  # the shallowest block is the newest
    assert stats["lru"]["3"]["hit_blocks"] == 3


def naive_lru_hits(chains: list[list[int]], capacity: int) -> int:
    recent: list[int] = []  # least recent first
    hits = 0
    for ids in chains:
        for block in ids:
            if block not in recent:
                break
            hits += 1
        for block in ids[::-1]:
            recent = [b for b in recent if b != block] + [block]
        recent = recent[max(0, len(recent) - capacity) :]
    return hits


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=30),
    st.integers(1, 12),
)
def test_lru_is_the_plain_one(chains: list[list[int]], capacity: int) -> None:
    stats = trace_stats(chained(*chains), capacities=(capacity,))["prefix"]
    assert stats["lru"][str(capacity)]["hit_blocks"] == naive_lru_hits(chains, capacity)
    assert stats["infinite"]["hit_blocks"] == naive_lru_hits(chains, 10**9)


def test_prefix_links_are_counted_to_the_token() -> None:
    trace = Trace(
        name="t",
        prompt_tokens=np.array([10, 30]),
        output_tokens=np.array([5, 5]),
        arrival_s=None,
        prefix_row=np.array([-1, 0]),
        prefix_tokens=np.array([0, 12]),
    )
    stats = trace_stats(trace)["prefix_links"]
    assert (stats["input_tokens"], stats["hit_tokens"]) == (40, 12)
    assert stats["token_ratio"] == 0.3


def test_bad_capacity() -> None:
    with pytest.raises(ValueError, match=r"capacity\(=0\) must be > 0"):
        trace_stats(chained([1]), capacities=(0,))
