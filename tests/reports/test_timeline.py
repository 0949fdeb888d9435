"""The timeline: what the format asks for, and nothing of the run lost."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.calibration.affine import AffineCost
from kvsim.reports import timeline
from kvsim.reports.lanes import lowest_free_lanes
from kvsim.reports.timeline import POOL, RUNNING, WAITING, timeline_bytes, timeline_text
from kvsim.sim.deployment import Deployment
from kvsim.sim.result import CATEGORIES, Result
from kvsim.sim.simulation import simulate
from support.workloads import ALLOCATORS, COSTS, SCHEDULERS, Columns, deployments, traces

SECOND = AffineCost(base_s=1.0, per_scheduled_token_s=0.0, per_context_token_s=0.0)
TIGHT = Deployment(
    max_model_len=64,
    max_num_seqs=2,
    max_num_batched_tokens=64,
    block_size=1,
    enable_prefix_caching=False,
    async_scheduling=False,
)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

Event = dict[str, Any]


def preempting() -> Result:
    """Two requests outgrow a pool of 12: the second is preempted; a third is too long."""
    trace = Columns(
        arrival_s=np.array([0.0, 0.0, 0.25]),
        prompt_tokens=np.array([4, 4, 99]),
        output_tokens=np.array([6, 4, 1]),
    )
    return simulate(trace, deployment=TIGHT, cost=SECOND, num_gpu_blocks=13)


def events_of(result: Result, **about: object) -> list[Event]:
    """All events."""
    read: dict[str, list[Event]] = json.loads(timeline_text(result, about=about))
    return read["traceEvents"]


def slices(events: list[Event], process: int) -> dict[int, list[Event]]:
    """Complete events of a process by track, as they stand in the file."""
    found: dict[int, list[Event]] = {}
    for event in events:
        if event["ph"] == "X" and event["pid"] == process:
            found.setdefault(event["tid"], []).append(event)
    return found


def test_by_hand() -> None:
    """Both prefill in the first second; at 3 s there is no slot for the second one's token.

    The first has its six tokens at 6 s. The second begins anew then: its fourth and last token
    comes with the prefill's end, at 7 s.
    """
    events = events_of(preempting())
    told = [
        (e["pid"], e["name"], e["ts"] / 1e6, (e["ts"] + e["dur"]) / 1e6)
        for e in events
        if e["ph"] == "X"
    ]
    assert told == [
        (RUNNING, "request 0", 0, 6),
        (RUNNING, "prefill", 0, 1),
        (RUNNING, "decode", 1, 6),
        (RUNNING, "request 1", 0, 3),
        (RUNNING, "prefill", 0, 1),
        (RUNNING, "decode", 1, 3),
        (WAITING, "preempted", 3, 6),
        (RUNNING, "request 1", 6, 7),
        (RUNNING, "prefill", 6, 7),
    ]
    arguments = next(e["args"] for e in events if e["ph"] == "X" and e["name"] == "request 1")
    assert arguments == {
        "request": 1,
        "prompt_tokens": 4,
        "output_tokens": 4,
        "cached_tokens": 0,
        "num_preemptions": 1,
        "status": "finished",
    }


def test_the_refused_are_marks() -> None:
    (mark,) = [event for event in events_of(preempting()) if event["ph"] == "i"]
    assert (mark["ts"], mark["pid"], mark["name"]) == (250_000.0, WAITING, "rejected")
    assert mark["args"]["request"] == 2
    assert mark["args"]["reason"].startswith("the prompt leaves no room in max_model_len")


def test_counters_are_what_the_pool_holds() -> None:
    result = preempting()
    counters = [event for event in events_of(result) if event["ph"] == "C"]
    assert {event["pid"] for event in counters} == {POOL}
    slots = [event for event in counters if event["name"] == "slots"]
    assert [e["ts"] for e in slots] == pytest.approx(result.segments["start_s"] * 1e6)
    assert slots[0]["args"] == {**dict.fromkeys(CATEGORIES, 0), "token_states": 8, "free": 4}
    assert all(sum(event["args"].values()) == 12 for event in slots)
    requests = [event["args"] for event in counters if event["name"] == "requests"]
    assert requests[0] == {"running": 2, "waiting": 0}
    assert {"running": 1, "waiting": 1} in requests
    assert requests[-1] == {"running": 0, "waiting": 0}


def test_tracks_have_names_and_an_order() -> None:
    names = {
        (event["pid"], event.get("tid")): event["args"]["name"]
        for event in events_of(preempting())
        if event["ph"] == "M" and event["name"].endswith("_name")
    }
    assert sorted(names.values()) == sorted(
        ["running", "waiting", "KV pool", "seat 1", "seat 2", "waiting 1"]
    )
    tracks = [track for _, track in names if track is not None]
    assert len(set(tracks)) == len(tracks), "no two processes share a track id"


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_tracks_hold_every_phase_once(data: st.DataObject) -> None:
    trace = data.draw(traces())
    allocator = data.draw(st.sampled_from(ALLOCATORS))
    scheduler = data.draw(st.sampled_from(SCHEDULERS))
    deployment, blocks = data.draw(deployments(allocator=allocator, scheduler=scheduler))
    cost = COSTS[data.draw(st.sampled_from(sorted(COSTS)))]
    result = simulate(trace, deployment=deployment, cost=cost, num_gpu_blocks=blocks)
    events = events_of(result)
    assert _phases_drawn(events) == _phases_of(result)
    for process in (RUNNING, WAITING):
        tracks = slices(events, process)
        for track in tracks.values():
            _assert_nested(track)
        assert len(tracks) == _most_side_by_side(result, running=process == RUNNING)
    _assert_arrows_bind(events, result)


def _us(seconds: float) -> int:
    return round(seconds * 1e9)


def _phases_drawn(events: list[Event]) -> list[tuple[int, str, int, int]]:
    drawn = []
    owner: dict[tuple[int, int], int] = {}
    for event in (event for event in events if event["ph"] == "X"):
        begin = round(event["ts"] * 1e3)
        if event["name"].startswith("request "):
            owner[event["pid"], event["tid"]] = event["args"]["request"]
            continue
        index = event.get("args", {}).get("request", owner.get((event["pid"], event["tid"])))
        drawn.append((index, event["name"], begin, begin + round(event["dur"] * 1e3)))
    return sorted(drawn)


def _phases_of(result: Result) -> list[tuple[int, str, int, int]]:
    phases = result.phases
    rows = zip(*(phases[name].tolist() for name in phases), strict=True)
    return sorted((index, name, _us(start), _us(end)) for index, name, start, end in rows)


def _assert_nested(track: list[Event]) -> None:
    """Slices of a track lie side by side or inside one another, in order of time."""
    open_until: list[int] = []
    spans = [(round(e["ts"] * 1e3), round(e["dur"] * 1e3)) for e in track]
    for begin, length in sorted(spans, key=lambda span: span[0]):
        while open_until and open_until[-1] <= begin:
            open_until.pop()
        assert not open_until or begin + length <= open_until[-1]
        open_until.append(begin + length)


def _most_side_by_side(result: Result, *, running: bool) -> int:
    """Most that ever run, or wait, at once; one that waits no time counts as one."""
    phases = result.phases
    some = np.isin(phases["phase"], ["prefill", "decode"]) == running
    begin, end = (np.rint(phases[name][some] * 1e9) for name in ("start_s", "end_s"))
    end = np.maximum(end, begin + 0.5)
    return int(max((((begin <= t) & (t < end)).sum() for t in begin), default=0))


def _assert_arrows_bind(events: list[Event], result: Result) -> None:
    """Arrows begin and end where a slice of their track begins, in the order of time."""
    begins = {(e["pid"], e["tid"], e["ts"]) for e in events if e["ph"] == "X"}
    arrows = [event for event in events if event["ph"] in ("s", "f")]
    for event in arrows:
        assert (event["pid"], event["tid"], event["ts"]) in begins
    by_id: dict[int, list[str]] = {}
    for event in arrows:
        by_id.setdefault(event["id"], []).append(event["ph"])
    assert all(ends == ["s", "f"] for ends in by_id.values())
    spells = sum(e["ph"] == "X" and "args" in e for e in events)
    assert len(by_id) == spells - len(set(result.phases["index"].tolist()))


def test_only_so_many_waits_and_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Columns(arrival_s=np.zeros(9), prompt_tokens=np.full(9, 4), output_tokens=np.full(9, 3))
    result = simulate(trace, deployment=TIGHT, cost=SECOND, num_gpu_blocks=13)
    assert len(slices(events_of(result), WAITING)) == 7
    monkeypatch.setattr(timeline, "MOST_WAITING", 3)
    monkeypatch.setattr(timeline, "MOST_COUNTS", len(result.segments["start_s"]) // 2)
    read = json.loads(timeline_text(result))
    assert len(slices(read["traceEvents"], WAITING)) == 3
    assert read["otherData"]["waits_left_out"] == 4
    every = read["otherData"]["counters_set_at_every"]
    assert every in (2, 3)
    slots = [e for e in read["traceEvents"] if e["ph"] == "C" and e["name"] == "slots"]
    assert len(slots) == -(-len(result.segments["start_s"]) // every)


def test_what_never_ends_lasts_as_long_as_the_run() -> None:
    stalling = replace(TIGHT, on_impossible="stall")
    trace = Columns(
        arrival_s=np.zeros(2), prompt_tokens=np.array([4, 40]), output_tokens=np.array([3, 3])
    )
    result = simulate(trace, deployment=stalling, cost=SECOND, num_gpu_blocks=13)
    assert result.status.tolist() == ["finished", "unfinished"]
    (wait,) = [e for track in slices(events_of(result), WAITING).values() for e in track]
    assert (wait["name"], wait["ts"], wait["dur"]) == ("queued", 0, 3e6)


def test_names_are_text_and_bytes_repeat() -> None:
    result = preempting()
    evil = '</script>"\\\n\u2028'
    about = {"trace": evil}
    packed = timeline_bytes(result, name="run.json.gz", about=about)
    assert packed == timeline_bytes(result, name="other.json.gz", about=about)
    plain = timeline_bytes(result, name="run.json", about=about)
    assert gzip.decompress(packed) == plain
    assert json.loads(plain)["otherData"]["trace"] == evil
    assert plain.isascii()


@pytest.mark.parametrize("name", ["run.txt", "run.gz", "run", "run.json.zip"])
def test_names_that_no_viewer_knows(name: str) -> None:
    with pytest.raises(ValueError, match=r"^timeline\(='.*'\) must end in \.json or \.json\.gz\.$"):
        timeline_bytes(preempting(), name=name)


def test_lanes_are_the_lowest_free() -> None:
    assert lowest_free_lanes([0, 1, 2, 5, 5], [5, 2, 9, 6, 6]) == [0, 1, 1, 0, 2]
    assert lowest_free_lanes([5, 0], [6, 5]) == [0, 0], "the earlier one is placed first"
    assert lowest_free_lanes([], []) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9))))
def test_lanes_never_overlap_and_none_is_wasted(spans: list[tuple[int, int]]) -> None:
    starts, ends = [start for start, _ in spans], [start + length for start, length in spans]
    lanes = lowest_free_lanes(starts, ends)
    for lane in set(lanes):
        mine = sorted((starts[i], ends[i]) for i in range(len(spans)) if lanes[i] == lane)
        assert all(before[1] <= after[0] for before, after in pairwise(mine))
    lasting = [(start, max(end, start + 0.5)) for start, end in zip(starts, ends, strict=True)]
    most = max((sum(a <= t < b for a, b in lasting) for t in starts), default=0)
    assert len(set(lanes)) <= most
