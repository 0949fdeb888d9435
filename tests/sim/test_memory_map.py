"""The memory map agrees with the ledger at every look, and looking changes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.kv_groups import KVGroup
from kvsim.sim.allocators import (
    Allocator,
    CachingAllocator,
    GroupedAllocator,
    RadixAllocator,
    TokensOf,
    areas,
)
from kvsim.sim.allocators.layout import KINDS, Layout
from kvsim.sim.deployment import Deployment
from kvsim.sim.map_marking import Marker, areas_in_view
from kvsim.sim.map_recorder import MapRecorder
from kvsim.sim.memory_map import Marked, MemoryMap
from kvsim.sim.replica import Replica
from kvsim.sim.request import Request
from kvsim.sim.result import CATEGORIES, Result
from kvsim.sim.simulation import simulate
from support.workloads import (
    ALLOCATORS,
    COSTS,
    SCHEDULERS,
    Columns,
    deployments,
    traces,
    workloads,
)

CONTIGUOUS = st.sampled_from([one for one in ALLOCATORS if one[0] == "contiguous"])
KINDS_OF = {
    "paged": st.just(ALLOCATORS[0]),
    "contiguous": CONTIGUOUS,
    "virtual": st.just(("virtual", "max", "buddy")),
}
MATRIX = [(kind, scheduler) for kind in KINDS_OF for scheduler in SCHEDULERS]
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
LAW = settings(max_examples=10, deadline=None, suppress_health_check=SLOW)
SWEEP = settings(LAW, max_examples=1000, derandomize=False)

STEP_S = 0.01
STEPS = AffineCost(base_s=STEP_S, per_scheduled_token_s=0.0, per_context_token_s=0.0)


class Everything(MapRecorder):
    """Looks at the whole pool at every opportunity, and compares it with the ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def start(self, allocator: Allocator, *, num_requests: int, span_ns: float) -> None:
        super().start(allocator, num_requests=num_requests, span_ns=span_ns)
        self.allocator = allocator

    def look(
        self, since_ns: float, now_ns: float, num_done: int, tokens_of: TokensOf, *, blocked: bool
    ) -> None:
        layout = self.allocator.layout(tokens_of, blocked=blocked)
        if isinstance(self.allocator, RadixAllocator):
            assert layout is None
            return
        assert layout is not None
        usage = self.allocator.usage(blocked=blocked)
        tokens = _counted_tokens(tokens_of)
        slots = dict(zip(KINDS, layout.slots.sum(axis=1).tolist(), strict=True))
        assert slots == {
            "token_states": tokens,
            "reserved": usage.held - usage.internal - tokens,
            "internal": usage.internal,
            "external": usage.external,
            "cached": usage.cached,
        }
        _check_places(layout, self.allocator)
        _check_view(layout, self.allocator, tokens_of, blocked)
        self.seen.update(name for name in usage._fields if getattr(usage, name))
        assert isinstance(tokens_of, partial)
        self.seen["held back"] += bool(tokens_of.args[0])


def _counted_tokens(tokens_of: TokensOf) -> int:
    """Slots with KV as the replica sums them up for its segments, without asking the requests."""
    assert isinstance(tokens_of, partial)
    held_back, with_step = tokens_of.args
    replica = tokens_of.func.__self__  # type: ignore[attr-defined]
    assert isinstance(replica, Replica)
    tokens = replica._moment(left_out=len(held_back)).tokens
    coming = 0 if with_step else replica.batch.num_decodes
    return tokens - coming * replica.allocator.slots_per_token


def _check_places(layout: Layout, allocator: Allocator) -> None:
    """No two pieces overlap, none leaves the pool, and each is where its holder has it."""
    stops = layout.starts + layout.slots.sum(axis=0)
    assert (layout.slots >= 0).all()
    assert (layout.starts[1:] >= stops[:-1]).all(), "pieces overlap or are not in order"
    assert not len(stops) or (layout.starts[0] >= 0 and stops[-1] <= allocator.pool_slots)
    held = layout.owners >= 0
    assert (layout.slots[:3, ~held] == 0).all()
    theirs = {piece for request in layout.holders for piece in allocator.pieces(request)}
    pieces = set(
        zip(layout.starts[held].tolist(), (stops - layout.starts)[held].tolist(), strict=True)
    )
    assert pieces == theirs
    for start, owner in zip(layout.starts[held], layout.owners[held], strict=True):
        own = {address for address, _ in allocator.pieces(layout.holders[owner])}
        assert int(start) in own


def _check_view(layout: Layout, allocator: Allocator, tokens_of: TokensOf, blocked: bool) -> None:
    """The first part of the pool alone is the first part of all of it."""
    view = allocator.pool_slots // 3 + 1
    edges = np.array([0, view // 2, view])
    part = allocator.layout(tokens_of, blocked=blocked, view_slots=view)
    assert part is not None
    rows = layout.in_rows(edges)
    np.testing.assert_array_equal(part.in_rows(edges), rows)
    np.testing.assert_array_equal(rows.sum(axis=0), np.diff(edges))
    whole = layout.in_rows(np.array([0, allocator.pool_slots]))[:, 0]
    np.testing.assert_array_equal(whole[:-1], layout.slots.sum(axis=1))


@pytest.mark.parametrize(("kind", "scheduler"), MATRIX)
@LAW
@given(data=st.data())
def test_the_map_is_the_ledger(kind: str, scheduler: str, data: st.DataObject) -> None:
    _check_law(kind, scheduler, data)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "scheduler"), MATRIX)
@SWEEP
@given(data=st.data())
def test_the_map_is_the_ledger_at_length(kind: str, scheduler: str, data: st.DataObject) -> None:
    _check_law(kind, scheduler, data)


def _check_law(kind: str, scheduler: str, data: st.DataObject) -> None:
    trace = data.draw(traces())
    allocator = data.draw(KINDS_OF[kind])
    deployment, blocks = data.draw(deployments(allocator=allocator, scheduler=scheduler))
    if deployment.enable_prefix_caching and not deployment.kv_groups:
        prefix_cache = data.draw(st.sampled_from(["hash", "hash", "hash", "radix"]))
        deployment = replace(deployment, prefix_cache=prefix_cache)
    simulate(
        trace,
        deployment=deployment,
        cost=COSTS[data.draw(st.sampled_from(["affine", "bending"]))],
        num_gpu_blocks=blocks,
        concurrency=data.draw(st.sampled_from([None, None, 1, 4])),
        exact_steps=data.draw(st.integers(0, 3)) == 0,
        memory_map=Everything(),
    )


@pytest.mark.parametrize(("kind", "scheduler"), MATRIX)
@LAW
@given(data=st.data())
def test_the_map_is_the_ledger_of_groups(kind: str, scheduler: str, data: st.DataObject) -> None:
    """Samples and beams that share blocks, a pinned prefix, swaps."""
    work = data.draw(workloads(allocator=data.draw(KINDS_OF[kind]), scheduler=scheduler))
    work.run(exact_steps=False, memory_map=Everything())


@pytest.mark.parametrize("budget", range(3, 14))
def test_the_map_of_a_group_that_computes_again_what_it_had(budget: int) -> None:
    """Blocks that two samples share fill while the first of them computes for both."""
    looks = Everything()
    result = simulate(
        Columns(
            arrival_s=np.zeros(2),
            prompt_tokens=np.array([4, 9]),
            output_tokens=np.array([9, 7]),
            num_samples=np.array([1, 2]),
        ),
        deployment=Deployment(max_model_len=64, block_size=4, max_num_batched_tokens=budget),
        cost=STEPS,
        num_gpu_blocks=1 + 6,
        check=True,
        memory_map=looks,
    )
    assert result.requests["wasted_tokens"][1] > 0
    assert looks.seen["shared"]


FULL = KVGroup(kind="full", num_layers=1, block_size=4, page_bytes=1)
WINDOW = replace(FULL, kind="sliding_window", window_tokens=8)
CHUNKS = replace(FULL, kind="chunked_local", window_tokens=12)
FINE = replace(FULL, block_size=2)
SHORT_CHUNKS: dict[str, Any] = {
    "max_num_batched_tokens": 17,
    "long_prefill_token_threshold": 3,
    "prefill_schedule_interval": 3,
    "scheduling_policy": "priority",
}
STRESS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "sharing": ({}, ("shared", "cached", "internal")),
    "sharing, asynchronous": ({"async_scheduling": True}, ("shared", "cached", "internal")),
    "windows": ({"kv_groups": (FULL, WINDOW, WINDOW)}, ("shared", "cached", "dead")),
    "chunks": ({"kv_groups": (CHUNKS, FULL), "async_scheduling": True}, ("shared", "dead")),
    "two block sizes": ({"kv_groups": (FULL, FINE)}, ("shared", "internal")),
    "prefills at intervals": (SHORT_CHUNKS, ("shared", "held back")),
    "at intervals, asynchronous": (
        {**SHORT_CHUNKS, "async_scheduling": True},
        ("shared", "held back"),
    ),
}


@pytest.mark.parametrize("name", STRESS)
def test_the_map_is_the_ledger_under(name: str) -> None:
    """What random workloads seldom bring about, and that it was brought about."""
    flags, wanted = STRESS[name]
    deployment = Deployment(
        **{"max_num_batched_tokens": 40, **flags},
        max_model_len=256,
        block_size=4,
        enable_prefix_caching=True,
    )
    looks = Everything()
    simulate(
        families(60, seed=5),
        deployment=deployment,
        cost=STEPS,
        num_gpu_blocks=90 * max(1, len(deployment.kv_groups)),
        check=True,
        memory_map=looks,
    )
    for condition in wanted:
        assert looks.seen[condition] >= 3, f"{condition} hardly happened: {looks.seen}"


def families(num_requests: int, *, seed: int) -> Columns:
    """Requests of which many begin as an earlier one; every third prompt is a single token."""
    draw = np.random.default_rng(seed)
    prompts, outputs = draw.integers(1, 60, num_requests), draw.integers(1, 40, num_requests)
    prompts[::3] = 1
    rows = np.maximum(np.arange(num_requests) - draw.integers(1, 6, num_requests), -1)
    most = np.where(rows >= 0, np.minimum(prompts, prompts[rows] + outputs[rows]), 0)
    return Columns(
        arrival_s=np.cumsum(draw.integers(0, 4, num_requests)) * STEP_S / 2,
        prompt_tokens=prompts,
        output_tokens=outputs,
        priority=np.arange(num_requests) % 3,
        prefix_row=rows,
        prefix_tokens=draw.integers(most // 2, most + 1),
    )


def columns(prompts: list[int], outputs: list[int], arrival_s: list[float]) -> Columns:
    return Columns(
        arrival_s=np.array(arrival_s),
        prompt_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
    )


def recorded(
    trace: Columns,
    recorder: MapRecorder,
    *,
    num_gpu_blocks: int,
    exact_steps: bool = False,
    **flags: Any,
) -> tuple[MemoryMap | None, Result]:
    flags = {"max_model_len": 16, "block_size": 4, **flags}
    result = simulate(
        trace,
        deployment=Deployment(**flags),
        cost=STEPS,
        num_gpu_blocks=num_gpu_blocks,
        exact_steps=exact_steps,
        memory_map=recorder,
    )
    return recorder.memory_map(), result


def drawn(seen: MemoryMap) -> list[str]:
    """Cells as letters, a string for each column, addresses from left to right."""
    letters = np.array(list("TRIECf"))
    return ["".join(column) for column in letters[seen.cells].T]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_paged_request_by_hand(asynchronous: bool) -> None:
    """A prompt of 5 and 4 outputs, of which the last is never computed, in blocks of 4."""
    seen, result = recorded(
        columns([5], [4], [0.0]),
        MapRecorder(num_rows=12),
        num_gpu_blocks=4,
        exact_steps=True,
        async_scheduling=asynchronous,
    )
    assert seen is not None
    first = 1 if asynchronous else 0  # the step after the running one is counted already
    assert (
        drawn(seen)[: 4 - first]
        == [
            "TTTTTRRRffff",
            "TTTTTTRRffff",
            "TTTTTTTRffff",
            "TTTTTTTTffff",
        ][first:]
    )
    assert seen.pool_slots == 12
    assert seen.view_share == 1.0
    assert seen.edges_s[0] == 0.0
    assert seen.edges_s[-1] == result.requests["finish_s"][0] == pytest.approx(4 * STEP_S)
    assert seen.edges_slots.tolist() == list(range(13))
    assert seen.marked is not None
    assert seen.marked.cells[:8].all()
    assert not seen.marked.cells[8:].any()
    assert (seen.marked.tokens, seen.marked.slots, seen.marked.num_areas) == (8, 8, 1)


def test_a_contiguous_request_by_hand() -> None:
    """5 + 4 slots are reserved, 16 granted, 8 used; a pool of 20 leaves a piece of 4."""
    seen, _ = recorded(
        columns([5], [4], [0.0]),
        MapRecorder(num_rows=20),
        num_gpu_blocks=5,
        exact_steps=True,
        allocator="contiguous",
        reservation="pow2",
        placement="buddy",
        scheduler="orca",
    )
    assert seen is not None
    assert drawn(seen)[0] == "TTTTTRRRI" + 7 * "E" + "ffff"
    assert seen.slots[:, 0].tolist() == [5, 3, 1, 7, 0, 4]
    assert seen.shares() == pytest.approx(
        {"token_states": 6.5 / 20, "reserved": 1.5 / 20, "internal": 1 / 20}
        | {"external": 7 / 20, "cached": 0.0, "free": 4 / 20},
    )
    assert sum(seen.shares().values()) == pytest.approx(1.0)
    assert seen.marked is not None
    assert seen.marked.cells[:16].all()
    assert not seen.marked.cells[16:].any()


def test_a_cell_has_what_fills_most_of_it() -> None:
    seen, _ = recorded(columns([5], [4], [0.0]), MapRecorder(num_rows=2), num_gpu_blocks=4)
    assert seen is not None
    assert drawn(seen)[0] == "Tf"  # 5 + 1 reserved; 2 reserved + 4 free
    assert seen.slots[:, 0].tolist() == [5, 3, 0, 0, 0, 4]


BACKLOG = columns([5] * 60, [4, 9, 2] * 20, [0.0] * 60)


@pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (0.25, 0.75), (0.5, 1.0)])
def test_looks_are_even_between_two_shares_of_the_requests(begin: float, end: float) -> None:
    recorder = MapRecorder(num_looks=10, num_rows=4, begin=begin, end=end)
    seen, result = recorded(BACKLOG, recorder, num_gpu_blocks=7)
    assert seen is not None
    finish_s = np.sort(result.requests["finish_s"])
    at = {share: finish_s[round(share * 60) - 1] if share else 0.0 for share in (begin, end)}
    assert at[begin] <= seen.edges_s[0] <= at[begin] + 2 * STEP_S
    assert at[end] <= seen.edges_s[-1] <= at[end] + 2 * STEP_S
    gaps = np.diff(seen.edges_s)
    assert 5 <= len(gaps) <= 20
    assert gaps[:-1].min() >= 0.4 * gaps[:-1].max()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_looks_are_bounded_and_more_than_batches(scheduler: str) -> None:
    """Static batching finishes many requests at once; looks do not wait for that."""
    trace = columns([5] * 40, [9] * 40, [0.0] * 40)
    recorder = MapRecorder(num_looks=12, num_rows=4)
    seen, _ = recorded(trace, recorder, num_gpu_blocks=41, scheduler=scheduler)
    assert seen is not None
    assert 6 <= seen.cells.shape[1] <= 24


def test_a_pause_is_free() -> None:
    """The second request comes a second after the first has gone; looks are even over it."""
    trace = columns([5, 5], [4, 4], [0.0, 1.0])
    seen, _ = recorded(trace, MapRecorder(num_looks=20, num_rows=12), num_gpu_blocks=4)
    assert seen is not None
    free = [name == 12 * "f" for name in drawn(seen)]
    begins = seen.edges_s[:-1]
    assert not free[0]
    assert any(free)
    for begin, end, is_free in zip(begins, seen.edges_s[1:], free, strict=True):
        assert is_free == (begin >= 4 * STEP_S - 1e-9 and end <= 1.0 + 1e-9), (begin, end)


def test_nothing_to_see() -> None:
    rejected, _ = recorded(columns([99], [1], [0.0]), MapRecorder(), num_gpu_blocks=4)
    assert rejected is None
    radix, _ = recorded(
        columns([5], [4], [0.0]),
        MapRecorder(),
        num_gpu_blocks=9,
        enable_prefix_caching=True,
        prefix_cache="radix",
    )
    assert radix is None


@pytest.mark.parametrize(
    "flags",
    [
        {"scheduler": "vllm", "enable_prefix_caching": True, "async_scheduling": True},
        {"scheduler": "static"},
        {"allocator": "contiguous", "reservation": "pow2"},
    ],
    ids=lambda flags: "-".join(map(str, flags.values())),
)
def test_looking_changes_nothing(flags: dict[str, Any]) -> None:
    runs = [
        simulate(
            families(60, seed=5),
            deployment=Deployment(max_model_len=128, block_size=4, **flags),
            cost=COSTS["bending"],
            num_gpu_blocks=90,
            memory_map=recorder,
        )
        for recorder in (None, MapRecorder(num_looks=7))
    ]
    for group in ("requests", "segments"):
        before, after = (getattr(run, group) for run in runs)
        for name, column in before.items():
            np.testing.assert_array_equal(after[name], column, err_msg=name)
    assert runs[0].num_steps == runs[1].num_steps


def test_the_same_run_has_the_same_map() -> None:
    maps = [recorded(BACKLOG, MapRecorder(num_looks=9), num_gpu_blocks=7)[0] for _ in range(2)]
    one, two = maps
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.cells, two.cells)
    np.testing.assert_array_equal(one.edges_s, two.edges_s)
    assert one.marked is not None
    assert two.marked is not None
    np.testing.assert_array_equal(one.marked.cells, two.marked.cells)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"view_share": 0.0}, r"view_share\(=0.0\) must be in \(0, 1\]\."),
        ({"view_share": 1.5}, r"view_share\(=1.5\)"),
        ({"begin": 1.0}, r"begin\(=1.0\) must be in \[0, 1\)\."),
        ({"begin": -0.1}, r"begin\(=-0.1\)"),
        ({"begin": 0.5, "end": 0.5}, r"end\(=0.5\) must be in \(0.5, 1\]\."),
        ({"end": 1.1}, r"end\(=1.1\)"),
        ({"num_looks": 0}, r"num_looks\(=0\) must be > 0\."),
        ({"num_rows": 0}, r"num_rows\(=0\) must be > 0\."),
    ],
)
def test_a_recorder_of_nothing_is_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MapRecorder(**flags)


def test_arrays_of_a_map_fit_together() -> None:
    seen, _ = recorded(columns([5], [4], [0.0]), MapRecorder(num_rows=3), num_gpu_blocks=4)
    assert seen is not None
    assert seen.marked is not None
    with pytest.raises(ValueError, match=r"cells.shape"):
        replace(seen, cells=seen.cells[1:])
    with pytest.raises(ValueError, match=r"slots.shape"):
        replace(seen, slots=seen.slots[:, 1:])
    with pytest.raises(ValueError, match=r"marked.cells.shape"):
        replace(seen, marked=replace(seen.marked, cells=seen.marked.cells[1:]))
    with pytest.raises(ValueError, match=r"edges_s"):
        replace(seen, edges_s=seen.edges_s[::-1])
    assert tuple(seen.shares()) == CATEGORIES


def test_pieces_side_by_side_are_one_area() -> None:
    assert areas([(8, 4), (0, 4), (4, 4), (16, 4)]) == [(0, 12), (16, 4)]
    assert areas([]) == []


class _Fixed(Allocator):
    """Holds what it was told to."""

    pool_slots = 40

    def __init__(self, pieces: dict[int, list[tuple[int, int]]]) -> None:
        super().__init__()
        self.all = pieces

    def pieces(self, request: Request) -> list[tuple[int, int]]:
        return self.all[request.index]


_Fixed.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def _look(*held: tuple[Request, int, int]) -> Layout:
    """Pieces of requests, in order of address."""
    holders = list(dict.fromkeys(request for request, _, _ in held))
    slots = np.zeros((len(KINDS), len(held)), dtype=np.int64)
    slots[0] = [size for _, _, size in held]
    return Layout(
        starts=np.array([start for _, start, _ in held], dtype=np.int64),
        slots=slots,
        owners=np.array([holders.index(request) for request, _, _ in held], dtype=np.int64),
        holders=holders,
    )


def _requests(count: int) -> list[Request]:
    requests = [Request(index=10 + n, prompt_tokens=5, output_tokens=4) for n in range(count)]
    for sequence, request in enumerate(requests, 1):
        request.sequence = sequence
    return requests


def _marked(*looks: Layout, view_slots: int = 40) -> Marked | None:
    pieces: dict[int, list[tuple[int, int]]] = {}
    marker = Marker(_Fixed(pieces), np.arange(0, view_slots + 1, 4))
    for look in looks:
        for owner, request in enumerate(look.holders):
            mine = np.flatnonzero(look.owners == owner)
            pieces[request.index] = [(int(look.starts[n]), int(look.slots[0, n])) for n in mine]
        marker.see(areas_in_view(look, view_slots), lambda some: [7 for _ in some])
    return marker.marked()


def test_the_marked_one_lies_in_most_areas() -> None:
    one, two, three = _requests(3)
    first = _look((one, 0, 8))
    look = _look((one, 0, 8), (two, 8, 4), (three, 12, 4), (two, 16, 4), (two, 20, 4))
    marked = _marked(first, look, look, first)
    assert marked is not None
    assert (marked.index, marked.tokens, marked.slots, marked.num_areas) == (11, 7, 12, 2)
    rows = [[n for n in range(10) if column[n]] for column in marked.cells.T]
    assert rows == [[], [2, 4, 5], [2, 4, 5], []]


def test_the_marked_one_comes_and_goes_within_the_map() -> None:
    whole, inside, late = _requests(3)
    before = _look((whole, 16, 4))
    amid = _look((inside, 4, 4), (whole, 16, 4))
    after = _look((whole, 16, 4), (late, 20, 4))
    marked = _marked(before, amid, amid, before, after)
    assert marked is not None
    assert marked.index == inside.index
    only = _marked(before, before, after)
    assert only is not None
    assert only.index == whole.index


def test_among_equals_the_middle_one_is_marked_and_short_visits_are_not() -> None:
    low, middle, high, brief = _requests(4)
    empty = _look()
    three = _look((low, 0, 4), (middle, 16, 4), (high, 36, 4))
    visit = _look((brief, 12, 4), (brief, 20, 4), (brief, 28, 4))
    looks = [empty, *[three] * 3, visit, *[empty] * 20]
    marked = _marked(*looks)
    assert marked is not None
    assert marked.index == brief.index  # all are brief: then areas decide
    marked = _marked(empty, *[three] * 3, visit, *[three] * 2, empty)
    assert marked is not None
    assert marked.index == brief.index
    marked = _marked(empty, *[three] * 5, visit, *[three] * 5, empty)
    assert marked is not None
    assert marked.index == middle.index
    assert _marked(empty, empty) is None


def test_what_lies_beyond_the_view_is_cut() -> None:
    (one,) = _requests(1)
    seen = areas_in_view(_look((one, 4, 4), (one, 8, 8), (one, 20, 4)), 12)
    assert (seen.starts.tolist(), seen.stops.tolist()) == ([4], [12])


@pytest.mark.parametrize("allocator", [CachingAllocator, GroupedAllocator])
def test_who_holds_nothing_has_no_pieces(allocator: type[Allocator]) -> None:
    groups: dict[str, Any] = (
        {"block_size": 4}
        if allocator is CachingAllocator
        else {"groups": (FULL,), "max_model_len": 16, "max_in_flight_tokens": 16}
    )
    pool = allocator(num_gpu_blocks=9, **groups)
    assert pool.pieces(Request(index=0, prompt_tokens=5, output_tokens=4)) == []
