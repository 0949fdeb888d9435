"""Written traces read back as the same content, and are whole or not there."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.traces import (
    PRESETS,
    Arrivals,
    Lengths,
    PrefixGroups,
    Sessions,
    Trace,
    Workload,
    fixed,
    load_trace,
    synthesize,
    write_mooncake,
)


def _tree_ids(draw: st.DrawFn, counts: list[int]) -> list[int]:
    """Chains down a tree: equal paths have equal ids, others do not."""
    names: dict[tuple[int, ...], int] = {}
    ids = []
    for count in counts:
        path: tuple[int, ...] = ()
        for _ in range(count):
            path = (*path, draw(st.integers(0, 1)))
            fresh = draw(st.integers(0, 2**64 - 1))
            while path not in names and fresh in names.values():
                fresh = (fresh + 1) % 2**64
            ids.append(names.setdefault(path, fresh))
    return ids


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Any valid trace: timed or not, sessions with branches, chains, samples, priorities."""
    n = draw(st.integers(1, 12))
    column = st.lists(st.integers(1, 3000), min_size=n, max_size=n)
    prompt, output = (np.array(draw(column), dtype=np.int64) for _ in range(2))
    parent = np.array([draw(st.integers(-1, row - 1)) for row in range(n)], dtype=np.int64)
    delay_ns = np.array(draw(st.lists(st.integers(0, 10**12), min_size=n, max_size=n)))
    time_ns = np.sort(draw(st.lists(st.integers(0, 10**15), min_size=n, max_size=n)))
    timed = draw(st.booleans())
    own_time = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))) & timed
    follows = (parent >= 0) & ~own_time
    block_size = draw(st.sampled_from([1, 16, 512]))
    most = np.minimum(-(-prompt // block_size), 4)
    counts = np.array([draw(st.integers(0, int(m))) for m in most], dtype=np.int64)
    ids = _tree_ids(draw, counts.tolist())
    width = np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), dtype=np.int64)
    num_samples = np.where(width > 0, np.minimum(width, 2), prompt % 5 + 1)
    return Trace(
        name="t",
        prompt_tokens=prompt,
        output_tokens=output,
        arrival_s=np.where(follows, np.nan, time_ns / 1e9) if timed else None,
        parent=parent,
        delay_s=np.where(follows, delay_ns / 1e9, np.nan),
        hash_ids=np.array(ids, dtype=np.uint64),
        hash_offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        hash_block_size=block_size,
        num_samples=num_samples,
        beam_width=width,
        priority=prompt % 3,
        tenant=output % 4,
        cancel_s=np.where(output % 2 == 0, (delay_ns + 1) / 1e9, np.nan),
    )


@settings(max_examples=150, deadline=None)
@given(traces(), st.sampled_from(["t.jsonl", "t.jsonl.gz"]))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, trace: Trace, name: str) -> None:
    path = tmp_path_factory.mktemp("w") / name
    again = load_trace(write_mooncake(trace, path), trace_format="mooncake")
    for column in ("arrival_s", "delay_s", "parent"):
        found, expected = getattr(again, column), getattr(trace, column)
        if found is not None:
            np.testing.assert_array_equal(found, expected)
    assert again.skipped == ()
    assert again.digest == trace.digest


def test_round_trip_of_a_synthetic_trace(tmp_path: Path) -> None:
    workload = Workload(
        name="w",
        prompt=fixed(100),
        output=fixed(9),
        arrivals=Arrivals(process="gamma", rate_per_s=7.0, burstiness=0.5),
        prefix_groups=PrefixGroups(num_groups=4, prefix_tokens=64),
        sessions=Sessions(turns=Lengths(kind="uniform", low_tokens=1, high_tokens=4)),
    )
    trace = synthesize(workload=workload, num_requests=200, seed=0)
    again = load_trace(write_mooncake(trace, tmp_path / "w.jsonl"))
    assert again.digest == trace.digest
    assert again.hash_block_size == 16


def test_round_trip_of_the_mooncake_trace(shared_traces: Path, tmp_path: Path) -> None:
    trace = load_trace(shared_traces / "mooncake/conversation_trace.jsonl.gz").head(2000)
    path = write_mooncake(trace, tmp_path / "m.jsonl")
    assert load_trace(path).digest == trace.digest
    first = json.loads(path.read_text().partition("\n")[0])
    assert list(first) == ["timestamp", "input_length", "output_length", "hash_ids"]
    assert isinstance(first["timestamp"], int)


def test_same_trace_same_bytes(tmp_path: Path) -> None:
    trace = synthesize(workload=PRESETS["azure-chat"], num_requests=50, seed=0)
    one = write_mooncake(trace, tmp_path / "1.jsonl.gz").read_bytes()
    assert write_mooncake(trace, tmp_path / "2.jsonl.gz").read_bytes() == one
    plain = write_mooncake(trace, tmp_path / "1.jsonl").read_bytes()
    assert gzip.decompress(one) == plain


def test_unwritable_folder(tmp_path: Path) -> None:
    trace = synthesize(workload=PRESETS["alpaca"], num_requests=2, seed=0)
    with pytest.raises(ValueError, match=r"absent/t\.jsonl' cannot be written: No such file"):
        write_mooncake(trace, tmp_path / "absent" / "t.jsonl")


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    trace = synthesize(workload=PRESETS["alpaca"], num_requests=2, seed=0)
    with pytest.raises(ValueError, match="No space left"):
        write_mooncake(trace, tmp_path / "t.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_prefixes_to_the_token_are_refused(tmp_path: Path) -> None:
    two = np.array([9, 9], dtype=np.int64)
    links = {"prefix_row": np.array([-1, 0]), "prefix_tokens": np.array([0, 4])}
    trace = Trace(name="t", prompt_tokens=two, output_tokens=two, arrival_s=None, **links)
    with pytest.raises(ValueError, match=r"^trace 't' has prefix_row .* Mooncake cannot say\.$"):
        write_mooncake(trace, tmp_path / "t.jsonl")
    assert list(tmp_path.iterdir()) == []
    neutral = replace(trace, prefix_tokens=np.array([0, 0]))
    assert load_trace(write_mooncake(neutral, tmp_path / "t.jsonl")).digest == neutral.digest


@pytest.mark.parametrize("replay", ["closed", "open"])
@pytest.mark.parametrize("name", ["kv-cache-tester/trace_0010.json.gz", "dynamo/pi_*.gz"])
def test_round_trip_of_sessions(
    shared_traces: Path, tmp_path: Path, name: str, replay: str
) -> None:
    (path,) = shared_traces.glob(name)
    trace = load_trace(path, session_replay=replay)
    again = load_trace(write_mooncake(trace, tmp_path / "s.jsonl"))
    assert again.digest == trace.digest
    assert again.notes == ()
