"""The oracle reproduces every line of every golden run, and does what its docstring says."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.reference import (
    Line,
    ReferenceConfig,
    ReferenceRequest,
    ReferenceRun,
    ReferenceState,
    config_of,
    requests_of,
    run,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SMALL = sorted((GOLDEN / "steps").glob("*.jsonl.gz"))
LARGE = (
    *("07_h100_defaults", "07_poisson", "07_poisson_async", "07_poisson_pc"),
    *("07_prefix_big", "07_prefix_big_async"),
)
"""Too large to be committed."""
NUM_CASES = 71


def read(path: Path) -> list[Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def replay(header: Line, **changes: object) -> ReferenceRun:
    """The oracle's run of a recorded configuration."""
    path = GOLDEN / "traces" / f"{header['trace']}.gz"
    data = gzip.decompress(path.read_bytes())
    assert hashlib.sha256(data).hexdigest() == header["trace_sha256"]
    return run(requests_of(read(path)), config_of(header | changes))


def as_recorded(line: Line, recorded: Line) -> Line:
    """Large cases record how many blocks were taken, not which."""
    if any(event[0] == "a" and len(event) == 5 for event in recorded.get("ev", [])):
        return line | {"ev": [event[:5] for event in line["ev"]]}
    return line


def per_request(result: ReferenceRun) -> list[list[object]]:
    """The summary's rows."""
    rows: list[list[object]] = []
    for r in result.requests.values():
        times = [None if t is None else t - r.arrival_ns for t in (r.first_token_ns, r.finish_ns)]
        rows.append([r.id, r.arrival_ns, r.first_scheduled_ns, *times])
        rows[-1] += [r.preemptions, r.hit_tokens, r.resume_hit_tokens]
    return rows


def check(path: Path) -> None:
    first, *recorded, last = read(path)
    result, summary = replay(first["header"]), last["summary"]
    for theirs, ours in zip(recorded, result.lines, strict=False):
        assert as_recorded(ours, theirs) == theirs
    assert len(result.lines) == len(recorded) == summary["steps"]
    assert per_request(result) == summary["per_request"]
    assert result.status == summary["status"]
    assert result.empty_steps == summary["empty_steps"]
    assert result.ids("rejected") == summary["rejected"]
    assert result.ids("waiting", "running") == summary["unfinished"]


def test_all_cases_are_here() -> None:
    assert len(SMALL) + len(LARGE) == NUM_CASES


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_every_line_matches(path: Path) -> None:
    check(path)


@pytest.mark.parametrize(
    "name",
    [LARGE[0], *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE[1:])],
)
def test_every_line_of_a_large_case_matches(name: str, shared_file: Callable[[str], Path]) -> None:
    check(shared_file(f"golden/steps/{name}.jsonl.gz"))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("02_tight", {"num_blocks": 149}),
        ("03_prefix_evict", {"prefix_caching": False}),
        ("09_hybrid_pc", {"kv_spec": "hybrid:1,3,112"}),
        ("09_swa", {"kv_spec": "local:1024"}),
    ],
)
def test_a_changed_header_is_noticed(name: str, changes: dict[str, object]) -> None:
    first, *recorded, _ = read(GOLDEN / "steps" / f"{name}.jsonl.gz")
    assert replay(first["header"], **changes).lines != recorded


# -- what no golden run shows: cancellation, reset, chunked-local groups -------------------------

STEP_NS = 10
CONFIG = ReferenceConfig(
    num_blocks=20, block_size=4, max_num_batched_tokens=64, step_time_ns=(STEP_NS, 0, 0)
)


def request(name: str, arrival_ns: int = 0, **values: Any) -> ReferenceRequest:
    """A request with a prompt of tokens 0 to 7 and four output tokens of its own."""
    own = 1000 * (1 + ord(name))
    defaults: dict[str, Any] = {"prompt": ((0, 8),), "output_tokens": 4, "output_first_id": own}
    return ReferenceRequest(id=name, arrival_ns=arrival_ns, **(defaults | values))


def played(
    requests: Sequence[ReferenceRequest], config: ReferenceConfig
) -> tuple[ReferenceRun, list[ReferenceState]]:
    states: list[ReferenceState] = []
    return run(requests, config, on_step=states.append), states


@pytest.mark.parametrize("async_scheduling", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("cancel_ns", [0, 1, 10, 15, 20, 29, 30])
def test_cancelled_while_running(cancel_ns: int, async_scheduling: bool) -> None:
    """Gone at the first schedule point at or after the cancellation; its token is dropped."""
    config = replace(CONFIG, async_scheduling=async_scheduling)
    result, states = played([request("a", cancel_ns=cancel_ns), request("b", 5)], config)
    a, b = result.requests["a"], result.requests["b"]
    assert (a.status, b.status) == ("cancelled", "finished")
    assert a.finish_ns is None
    # asynchronous: the token of the batch in flight at the schedule point is dropped as well
    processed = -(-cancel_ns // STEP_NS)
    assert a.output_tokens == processed
    assert result.status == "ok"
    assert len(states[-1].free_queue) == CONFIG.num_blocks - 1
    assert b.hit_tokens == (4 if cancel_ns else 0), "its blocks stay findable"


def test_cancelled_while_waiting_unblocks_the_queue() -> None:
    """The request at the head never fits: nothing moves until it is cancelled."""
    huge = request("h", prompt=((0, 100),), cancel_ns=77)
    result = run([huge, request("a")], CONFIG)
    assert result.requests["h"].status == "cancelled"
    assert result.requests["a"].first_scheduled_ns == 77
    assert result.status == "ok"


def test_without_a_cancellation_it_stalls() -> None:
    result = run([request("h", prompt=((0, 100),)), request("a")], CONFIG)
    assert result.status == "stalled"
    assert result.ids("waiting") == ["h", "a"]


@pytest.mark.parametrize(
    ("prefix_caching", "status", "preemptions"), [(False, "cut", 25), (True, "stalled", 1)]
)
def test_a_livelock_is_cut(prefix_caching: bool, status: str, preemptions: int) -> None:
    """Rule 5c: admitted in chunks without the gate, it preempts itself for ever.

    With prefix caching it hits its own blocks, asks for the rest at once, and is never admitted.
    """
    config = replace(CONFIG, reserve_full_isl=False, prefix_caching=prefix_caching)
    result = run([request("h", prompt=((0, 100),))], config, most_steps=50)
    assert result.status == status
    assert result.requests["h"].preemptions == preemptions


@pytest.mark.parametrize(
    ("reset_ns", "hit_tokens"), [((), 4), ((45,), 0), ((20,), 4), ((20, 45), 0), ((101,), 4)]
)
def test_reset_drops_hashes_if_no_block_is_held(reset_ns: tuple[int, ...], hit_tokens: int) -> None:
    """The first request runs from 0 to 40 ns, the second comes at 100 ns."""
    config = replace(CONFIG, reset_ns=reset_ns)
    result = run([request("a"), request("b", 100)], config)
    assert result.requests["b"].hit_tokens == hit_tokens


def test_chunks_before_the_current_one_are_dropped() -> None:
    """Chunks of two blocks: at most the current one is held once its tokens are processed."""
    config = replace(CONFIG, kv_spec="local:8", prefix_caching=False)
    _, states = played([request("a", prompt=((0, 14),), output_tokens=12)], config)
    held = {
        state.computed["a"]: [block != 0 for block in state.tables["a"][0]]
        for state in states
        if state.moment == "schedule"
    }
    assert held[14] == [True, True, True, True]  # the prompt: 8 tokens are dead afterwards
    assert held[15] == [False, False, True, True]
    assert held[17] == [False, False, False, False, True]  # 16 were processed
    assert held[24] == [False, False, False, False, True, True]
    assert held[25] == [False, False, False, False, False, False, True]


@pytest.mark.parametrize(
    ("prompt", "hit_tokens"),
    [
        (((0, 14),), 12),  # chunk 0 is null, block 2 is cached
        (((0, 20),), 16),  # both chunks lie before the last token's
        (((0, 12), (90, 4)), 12),
        (((0, 8), (90, 6)), 8),
    ],
)
def test_hybrid_local_hits(prompt: tuple[tuple[int, int], ...], hit_tokens: int) -> None:
    """Beside a full group: the blocks of the current chunk up to the first gap."""
    config = replace(CONFIG, num_blocks=60, kv_spec="hybrid_local:1,1,8")
    first = request("a", prompt=((0, 16),), output_tokens=1)
    result, states = played([first, request("b", 100, prompt=prompt)], config)
    assert result.requests["b"].hit_tokens == hit_tokens
    state = next(state for state in states if state.line["t"] == 100)
    full, local = state.tables["b"]
    assert 0 not in full
    dead, reached = hit_tokens // 8 * 2, hit_tokens // 4
    assert set(local[:dead]) == {0}
    assert 0 not in local[dead:]
    assert all(state.hashes[block][0] == 1 for block in local[dead:reached])


def test_local_alone_hits_what_it_does_not_need() -> None:
    """vLLM's lookup: everything before the last token's chunk counts as computed."""
    config = replace(CONFIG, kv_spec="local:8")
    result = run([request("a", prompt=((0, 14),))], config)
    assert result.requests["a"].hit_tokens == 8


def test_chunks_of_broken_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kv_spec\(='local:6'\) needs chunks of whole blocks"):
        replace(CONFIG, kv_spec="local:6")


def test_an_unknown_spec_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kv_spec\(='swa:1,2'\) is none of those known"):
        replace(CONFIG, kv_spec="swa:1,2")


@pytest.mark.parametrize("name", ["06_priority_budget_async", "09_hybrid_pc_async"])
def test_blocks_are_conserved(name: str) -> None:
    """A block is free or held, as often as tables name it; hashes and their map agree."""
    header = read(GOLDEN / "steps" / f"{name}.jsonl.gz")[0]["header"]
    num_states = 0

    def check_state(state: ReferenceState) -> None:
        nonlocal num_states
        num_states += 1
        named = [b for tables in state.tables.values() for table in tables for b in table if b]
        counts = [0] * header["num_blocks"]
        for block in named:
            counts[block] += 1
        assert list(state.ref_counts) == counts
        assert sorted([*state.free_queue, *set(named)]) == list(range(1, header["num_blocks"]))
        pairs = [(block, key) for key, blocks in state.cached.items() for block in blocks]
        assert dict(pairs) == state.hashes
        assert len(pairs) == len(state.hashes)

    rows = read(GOLDEN / "traces" / f"{header['trace']}.gz")
    run(requests_of(rows), config_of(header), on_step=check_state)
    assert num_states > 1000
