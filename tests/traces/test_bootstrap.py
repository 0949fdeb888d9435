"""Traces that might have come instead: whose requests, in which order, what they share."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from kvsim.sim.content import shared_prefixes
from kvsim.traces import Trace
from kvsim.traces.bootstrap import resampled, session_starts_s, thinned, with_burstiness
from kvsim.traces.intake import Intake, take_in


def numbered(number: int, *, gaps: object = None) -> Trace:
    """Requests that can be told apart by their prompts."""
    times = np.cumsum(np.arange(number) ** 2 % 23 + 1.0) if gaps is None else np.asarray(gaps)
    return Trace(
        name="numbered",
        prompt_tokens=np.arange(number) + 1,
        output_tokens=np.full(number, 5),
        arrival_s=times,
    )


def drawn(trace: Trace, *, lengths: int = 0, arrivals: int = 0, **more: int) -> Trace:
    streams = (np.random.default_rng(seed) for seed in (lengths, arrivals))
    return resampled(
        trace, lengths=next(streams), arrivals=next(streams), num_requests=more.get("n")
    )


def test_stretches_of_neighbours_in_order_of_time() -> None:
    """100 requests in 10 stretches of 10, each drawn whole, none before an earlier one."""
    rows = drawn(numbered(100)).prompt_tokens - 1
    stretches = rows.reshape(10, 10)
    assert (stretches[:, 0] % 10 == 0).all()
    assert (np.diff(stretches, axis=1) == 1).all()
    assert (np.diff(stretches[:, 0]) >= 0).all()
    assert len(set(stretches[:, 0].tolist())) < 10, "with replacement"


def test_every_request_is_as_likely() -> None:
    counts = Counter[int]()
    for seed in range(400):
        counts.update(drawn(numbered(25), lengths=seed).prompt_tokens.tolist())
    assert set(counts) == set(range(1, 26))
    assert max(counts.values()) < 1.25 * min(counts.values())


def test_gaps_are_drawn_from_the_trace_s_own() -> None:
    trace = numbered(50)
    again = drawn(trace)
    assert again.arrival_s is not None
    assert again.arrival_s[0] == 0
    assert set(np.diff(again.arrival_s).tolist()) <= set(range(1, 24))
    assert len(again) == 50


def test_lengths_and_arrivals_have_streams_of_their_own() -> None:
    base, other = drawn(numbered(50)), drawn(numbered(50), arrivals=1)
    assert (base.prompt_tokens == other.prompt_tokens).all()
    assert (base.arrival_s != other.arrival_s).any()
    other = drawn(numbered(50), lengths=1)
    assert (base.prompt_tokens != other.prompt_tokens).any()
    assert (base.arrival_s == other.arrival_s).all()


def test_what_is_all_alike_comes_again_as_it_was() -> None:
    trace = replace(numbered(40, gaps=np.arange(40.0)), prompt_tokens=np.full(40, 9))
    assert drawn(trace, lengths=3, arrivals=4).digest == trace.digest


def chained() -> Trace:
    """Each request shares its first block with everyone and its second with nobody."""
    number = 30
    ids = np.stack([np.zeros(number), np.arange(number) + 1], axis=1).astype(np.uint64)
    return replace(
        numbered(number),
        prompt_tokens=np.full(number, 32),
        hash_ids=ids.ravel(),
        hash_offsets=np.arange(number + 1) * 2,
        hash_block_size=16,
    )


def test_copies_share_what_others_share_and_not_their_own_prompt() -> None:
    again = drawn(chained())
    chains = [again.hash_chain(row).tolist() for row in range(len(again))]
    own = Counter(chain[1] for chain in chains)
    assert max(own.values()) == 1, "no copy finds its own prompt"
    beginnings = Counter(chain[0] for chain in chains)
    assert 1 < len(beginnings) < 8, "a world for each time of being drawn"
    assert max(beginnings.values()) > 10, "within a world all begin alike"


def test_prefix_links_stay_within_a_world() -> None:
    """Everybody links to the first row; drawn ones to the first of their world that is there."""
    trace = replace(
        numbered(30),
        prompt_tokens=np.full(30, 20),
        prefix_row=np.array([-1] + [0] * 29),
        prefix_tokens=np.array([0] + [10] * 29),
    )
    again = drawn(trace, lengths=5)
    rows, tokens = shared_prefixes(again)
    roots = int((rows < 0).sum())
    assert 1 < roots < 8
    assert set(tokens[rows >= 0].tolist()) == {10}


def sessions() -> Trace:
    """Ten sessions of three turns; the second starts at a time, the third after the second."""
    root = np.arange(10) * 3
    parent = np.full(30, -1)
    arrival_s, delay_s = np.full(30, np.nan), np.full(30, np.nan)
    for first in root:
        parent[first + 1], parent[first + 2] = first, first + 1
        arrival_s[first], arrival_s[first + 1], delay_s[first + 2] = first, first + 0.5, 2.0
    return Trace(
        name="sessions",
        prompt_tokens=np.arange(30) + 1,
        output_tokens=np.full(30, 4),
        arrival_s=arrival_s,
        parent=parent,
        delay_s=delay_s,
    )


def test_sessions_are_drawn_whole() -> None:
    trace = sessions()
    for seed in range(10):
        again = drawn(trace, lengths=seed, arrivals=seed)
        assert again.parent is not None
        assert again.arrival_s is not None
        assert len(again) == 30
        assert again.num_sessions == 10
        for row in np.flatnonzero(again.parent >= 0):
            parent = again.parent[row]
            assert again.prompt_tokens[row] == again.prompt_tokens[parent] + 1
            if not np.isnan(again.arrival_s[row]):
                assert again.arrival_s[row] - again.arrival_s[parent] == pytest.approx(0.5)
        assert (np.isnan(again.arrival_s) == again.follows_parent).all()


def test_multi_turn_workloads_with_shared_beginnings() -> None:
    intake = Intake(
        workload="sharegpt",
        num_requests=200,
        rate_per_s=5.0,
        prefix_groups=3,
        prefix_tokens=128,
        turns=3,
    )
    trace = take_in(intake).trace
    again = drawn(trace, lengths=2, arrivals=3)
    before, after = (
        shared_prefixes(one)[1].sum() / one.prompt_tokens.sum() for one in (trace, again)
    )
    assert 0.7 * before < after < 1.2 * before


def test_fewer_are_drawn_where_fewer_are_wanted() -> None:
    assert len(drawn(numbered(400), n=90)) == 90
    assert len(drawn(numbered(40), n=90)) == 40


def test_thinned_stretches_are_spread_and_keep_their_gaps() -> None:
    trace = numbered(400)
    few = thinned(trace, 100)
    assert len(few) == 100
    assert few.arrival_s is not None
    starts = (few.prompt_tokens - 1)[::20]
    assert starts.tolist() == [0, 80, 160, 240, 320]
    assert trace.arrival_s is not None
    own = np.diff(trace.arrival_s)
    inside = (few.prompt_tokens[1:] - 2).astype(int)
    assert np.diff(few.arrival_s) == pytest.approx(own[inside])
    assert thinned(trace, 400) is trace


def test_burstiness_bends_gaps_and_keeps_the_span() -> None:
    trace = numbered(100)
    assert trace.arrival_s is not None
    for exponent, above in ((1.5, True), (0.5, False)):
        bent = with_burstiness(trace, exponent)
        assert bent.arrival_s is not None
        assert bent.arrival_s[-1] == pytest.approx(trace.arrival_s[-1] - trace.arrival_s[0])
        gaps, own = np.diff(bent.arrival_s), np.diff(trace.arrival_s)
        assert (gaps.std() / gaps.mean() > own.std() / own.mean()) == above
        assert gaps == pytest.approx(own**exponent * (gaps.sum() / (own**exponent).sum()))
    assert with_burstiness(trace, 1.0) is trace
    even = numbered(20, gaps=np.arange(20.0))
    assert with_burstiness(even, 2.0).digest == even.digest
    burst = even.backlog()
    assert with_burstiness(burst, 2.0) is burst


def test_wrong_input_is_said_in_a_sentence() -> None:
    trace = replace(numbered(5), arrival_s=None)
    with pytest.raises(ValueError, match=r"has no arrival times: resampling needs them\."):
        session_starts_s(trace)
    with pytest.raises(ValueError, match=r"exponent\(=0\) must be > 0\."):
        with_burstiness(numbered(5), 0)
    one = drawn(numbered(1))
    assert len(one) == 1
