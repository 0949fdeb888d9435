"""Memory below the GPU for the prefix cache: the laws, and some loads by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.calibration.step_cost import Batch
from kvsim.reports.scrapes import requests_at
from kvsim.reports.timeline import timeline_text
from kvsim.sim.allocators import TierSpec
from kvsim.sim.allocators.tiers import TIERS, Load, Tier, piece_at
from kvsim.sim.content import Segment
from kvsim.sim.deployment import Deployment
from kvsim.sim.links import Links
from kvsim.sim.load import load_server
from kvsim.sim.replica import StepRecord
from kvsim.sim.result import Result
from kvsim.sim.serve_command import serve_command
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import summarise
from kvsim.traces import Trace
from support.chains import trace_of
from support.laws import assert_causal, assert_equal
from support.workloads import COSTS, Columns, deployments, traces

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
LAW = settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
SWEEP = settings(LAW, max_examples=700, derandomize=False)
PAGED = ("paged", "max", "buddy")
BLOCK_BYTES = 1000
ENDLESS = 1 << 40
COST = COSTS["affine"]


def tiers_of(
    *blocks: int, bytes_per_s: float = 1e6, latency_s: float = 0.0
) -> tuple[TierSpec, ...]:
    """Tiers of so many blocks, each link slower than the one above."""
    return tuple(
        TierSpec(
            name=name,
            size_bytes=count * BLOCK_BYTES,
            block_bytes=BLOCK_BYTES,
            bytes_per_s=bytes_per_s / 10**place,
            latency_s=latency_s * place,
        )
        for place, (name, count) in enumerate(zip(TIERS, blocks, strict=False))
    )


@st.composite
def tiered(draw: st.DrawFn) -> tuple[Deployment, int]:
    """Flags of a server with a prefix cache and one or two tiers, from none to endless."""
    deployment, blocks = draw(deployments(allocator=PAGED, scheduler="vllm"))
    sizes = st.sampled_from([0, 1, 2, 7, 30, ENDLESS])
    tiers = tiers_of(
        *draw(st.lists(sizes, min_size=1, max_size=2)),
        bytes_per_s=draw(st.sampled_from([1e4, 1e5, 1e6, 1e9])),
        latency_s=draw(st.sampled_from([0.0, 0.003])),
    )
    if deployment.kv_groups:
        blocks = blocks // len(deployment.kv_groups) + 2
    flags = replace(deployment, kv_groups=(), enable_prefix_caching=True, tiers=tiers)
    return flags, blocks


@LAW
@given(data=st.data())
def test_macro_steps_equal_single_steps(data: st.DataObject) -> None:
    _check_law(data)


@pytest.mark.slow
@SWEEP
@given(data=st.data())
def test_macro_steps_equal_single_steps_at_length(data: st.DataObject) -> None:
    _check_law(data)


def _check_law(data: st.DataObject) -> None:
    trace = data.draw(traces())
    deployment, blocks = data.draw(tiered())
    cost = COSTS[data.draw(st.sampled_from(sorted(COSTS)))]
    concurrency = data.draw(st.sampled_from([None, None, 1, 4]))
    macro, exact = (
        simulate(
            trace,
            deployment=deployment,
            cost=cost,
            num_gpu_blocks=blocks,
            concurrency=concurrency,
            exact_steps=exact_steps,
            check=True,
        )
        for exact_steps in (False, True)
    )
    assert_equal(macro, exact)
    assert_causal(macro)
    assert macro.tiers == exact.tiers


@LAW
@given(data=st.data())
def test_a_tier_without_room_changes_nothing(data: st.DataObject) -> None:
    """Step for step as without it, and segment for segment in macro-steps."""
    trace = data.draw(traces())
    deployment, blocks = data.draw(tiered())
    without = replace(deployment, tiers=())
    empty = replace(deployment, tiers=tiers_of(*[0] * data.draw(st.integers(1, 2))))
    logs: list[list[object]] = []
    for flags in (without, empty):
        log: list[object] = []
        simulate(
            trace,
            deployment=flags,
            cost=COSTS["affine"],
            num_gpu_blocks=blocks,
            log_step=partial(_note, log),
        )
        logs.append(log)
    assert logs[0] == logs[1]
    plain, tier = (
        simulate(trace, deployment=flags, cost=COSTS["affine"], num_gpu_blocks=blocks, check=True)
        for flags in (without, empty)
    )
    for name, column in plain.segments.items():
        np.testing.assert_array_equal(tier.segments[name], column, err_msg=name)
    for name, column in plain.requests.items():
        np.testing.assert_array_equal(tier.requests[name], column, err_msg=name)


def _note(log: list[object], record: StepRecord) -> None:
    step = record.step
    assert step.order is not None
    assert step.events is not None
    log.append(
        (
            *record[:4],
            record.moment,
            record.num_evicted_blocks,
            record.usage_after,
            [(request.index, *rest) for request, *rest in step.order],
            [event._replace(request=event.request.index) for event in step.events],
            [request.index for request in record.left],
        )
    )


@LAW
@given(data=st.data())
def test_an_endless_tier_finds_what_an_endless_gpu_finds(data: st.DataObject) -> None:
    """Requests one at a time, each of which fits the pool: nobody is preempted or refused."""
    trace = replace(data.draw(traces()), cancel_s=None)
    deployment, _ = data.draw(tiered())
    tiers = tiers_of(*data.draw(st.sampled_from([(ENDLESS,), (2, ENDLESS), (ENDLESS, 7)])))
    size = deployment.block_size
    fits = -(-deployment.max_model_len // size) + 1 + data.draw(st.integers(0, 30))
    below, endless = (
        simulate(
            trace,
            deployment=replace(deployment, tiers=below),
            cost=COSTS["affine"],
            num_gpu_blocks=blocks,
            concurrency=1,
            check=True,
        )
        for below, blocks in ((tiers, fits), ((), fits + 10_000))
    )
    np.testing.assert_array_equal(below.status, endless.status)
    found = below.requests["cached_tokens"]
    np.testing.assert_array_equal(found, endless.requests["cached_tokens"])
    assert not below.tiers[-1].lost_bytes


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_endless_tiers_equal_an_endless_gpu_where_nothing_overlaps(async_scheduling: bool) -> None:
    """The same at the trace's own times, as each request ends before the next one comes."""
    chains = [1, 2, 3, 1, 2, 1, 4, 3, 2, 1, 1, 4]
    trace = _prompts(chains, [20.0 * i for i in range(len(chains))], outputs=40)
    below = _served(trace, tiers=tiers_of(1, ENDLESS), async_scheduling=async_scheduling)
    endless = _served(trace, blocks=1000, tiers=(), async_scheduling=async_scheduling)
    found = below.requests["cached_tokens"]
    np.testing.assert_array_equal(found, endless.requests["cached_tokens"])
    assert below.requests["secondary_hit_tokens"].sum() > 0


@LAW
@given(data=st.data())
def test_what_moves_is_conserved(data: st.DataObject) -> None:
    trace = data.draw(traces())
    deployment, blocks = data.draw(tiered())
    result = simulate(
        trace, deployment=deployment, cost=COSTS["affine"], num_gpu_blocks=blocks, check=True
    )
    for tier in result.tiers:
        gone = tier.out_bytes + tier.down_bytes + tier.lost_bytes + tier.superseded_bytes
        assert tier.in_bytes - gone == tier.resident_bytes <= tier.peak_bytes <= tier.size_bytes
    for above, below in pairwise(result.tiers):
        assert above.down_bytes == below.in_bytes
        assert not above.lost_bytes
    assert not result.tiers[-1].down_bytes
    if not result.requests["num_preemptions"].any():  # else a request is admitted several times
        for tier in result.tiers:
            tokens = result.requests[f"{tier.name}_hit_tokens"].sum()
            assert tokens * BLOCK_BYTES <= tier.out_bytes * deployment.block_size
    summary = summarise(result)
    assert summary.prefix_hit_tokens >= summary.host_hit_tokens + summary.secondary_hit_tokens
    assert (summary.loading_s > 0) == bool(len(result.loads["index"]))


def _prompts(chains: list[int], arrival_s: list[float], *, outputs: int = 1) -> Trace:
    """Prompts of 165 tokens; those of one number begin with the same 160, ten blocks of 16."""
    num = len(chains)
    trace = trace_of([[chain] for chain in chains], [165] * num, [outputs] * num, size=160)
    return replace(trace, arrival_s=np.array(arrival_s))


def _chunk(tokens: int, past: int = 160) -> Batch:
    return Batch(0, 0, ((tokens, past),))


def _served(trace: Trace, *, blocks: int = 16, **flags: object) -> Result:
    """On a pool of 15 blocks, with a tenth of a second per block that comes up."""
    deployment = Deployment(
        **{
            "max_model_len": 240,
            "enable_prefix_caching": True,
            "tiers": tiers_of(100, bytes_per_s=1e4),
            **flags,
        }
    )
    return simulate(trace, deployment=deployment, cost=COST, num_gpu_blocks=blocks, check=True)


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_a_hit_below_is_loaded_before_the_rest_is_computed(async_scheduling: bool) -> None:
    """The second prompt pushes six of the first one's ten blocks out; they come back in 0.6 s."""
    result = _served(_prompts([1, 2, 1], [0.0, 10.0, 20.0]), async_scheduling=async_scheduling)
    requests = result.requests
    assert requests["cached_tokens"].tolist() == [0, 0, 160]
    assert requests["host_hit_tokens"].tolist() == [0, 0, 96]
    assert requests["loaded_s"].tolist() == [0.0, 0.0, 0.6]
    assert requests["first_token_s"][2] == pytest.approx(20.6 + COST.step_ns(_chunk(5)) / 1e9)
    phases = result.phases
    mine = phases["index"] == 2
    assert phases["phase"][mine].tolist() == ["loading", "prefill"]
    assert phases["end_s"][mine][0] == pytest.approx(20.6)
    assert result.tiers[0].in_bytes == 1000 * (6 + 6)
    assert result.tiers[0].out_bytes == 1000 * 6
    loading = result.segments["num_steps"] == 0
    assert result.segments["num_running"][loading].max() == 1, "it holds its seat"


def test_who_finds_blocks_on_their_way_waits_for_the_same_load() -> None:
    result = _served(_prompts([1, 2, 1, 1], [0.0, 10.0, 20.0, 20.3]), blocks=20)
    assert result.requests["cached_tokens"].tolist() == [0, 0, 160, 160]
    counts = (result.requests["host_hit_tokens"] // 16).tolist()
    assert counts[2] == 2, "the pool of 19 had to give up two of ten"
    assert counts[3] == 0, "they were on their way already"
    late = _served(
        _prompts([1, 2, 1, 1], [0.0, 10.0, 20.0, 20.1]), tiers=tiers_of(100, bytes_per_s=1e3)
    )
    ends = late.loads["end_s"].tolist()
    assert ends == [26.0, 26.0], "6 blocks a second each, loaded once"
    assert late.tiers[0].out_bytes == 6 * BLOCK_BYTES
    assert late.requests["loaded_s"][2:].tolist() == pytest.approx([6.0, 5.9])


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_others_compute_while_one_loads(async_scheduling: bool) -> None:
    """The fourth prompt is short and new: it runs from end to end within the load."""
    trace = _prompts([1, 2, 1, 3], [0.0, 10.0, 20.0, 20.05])
    prompts, outputs = np.array([165, 165, 165, 20]), np.array([1, 1, 1, 30])
    trace = replace(trace, prompt_tokens=prompts, output_tokens=outputs)
    flags = {"blocks": 18, "async_scheduling": async_scheduling}
    result = _served(trace, tiers=tiers_of(100, bytes_per_s=1e3), **flags)
    load_s, finish_s = result.loads["end_s"][0], result.requests["finish_s"]
    assert 20.05 < finish_s[3] < load_s < finish_s[2]
    alone = _served(replace(trace, arrival_s=np.array([0.0, 10.0, 20.0, 90.0])), **flags)
    took = finish_s[3] - 20.05
    assert took == pytest.approx(alone.requests["finish_s"][3] - 90.0, rel=0.05)


def test_links_serve_one_load_after_the_other() -> None:
    specs = tiers_of(100, 100, bytes_per_s=1e4, latency_s=0.5)
    links = Links(specs)
    first, second, third = Load((2, 0), []), Load((3, 1), []), Load((0, 0), [])
    assert links.send(first, 1e9) == 1.2e9
    assert links.send(second, 1.1e9) == 1.1e9 + 0.5e9 + 1.0e9, "the slower one, by itself"
    third.after = [first, second]
    assert links.send(third, 1.15e9) == second.end_ns
    assert links.send(Load((1, 0), []), 1.3e9) == pytest.approx(1.6e9), "0.2, then 0.3 s, then 0.1"


def test_what_the_host_has_no_room_for_sinks_to_the_second_tier() -> None:
    """Ten of the first prompt's blocks leave the GPU tail first: the tail sinks deepest."""
    trace = _prompts([1, 2, 3, 1], [0.0, 10.0, 20.0, 30.0])
    one, two = (
        _served(trace, blocks=12, tiers=tiers_of(*blocks, bytes_per_s=1e5))
        for blocks in ((8,), (8, 100))
    )
    assert one.requests["host_hit_tokens"][3] == 0, "of 20 blocks 8 are left, none of them the 1st"
    host, secondary = two.tiers
    assert two.requests["cached_tokens"][3] == 160
    assert two.requests["secondary_hit_tokens"][3] == 160
    assert (host.down_bytes, secondary.in_bytes) == (secondary.in_bytes, host.down_bytes)
    assert secondary.out_bytes == 10 * BLOCK_BYTES
    assert two.requests["loaded_s"][3] == pytest.approx(10 * 1e-1)


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_a_client_that_gives_up_leaves_when_its_load_is_done(async_scheduling: bool) -> None:
    """Its blocks are being written until then; afterwards others find them."""
    trace = _prompts([1, 2, 1, 1], [0.0, 10.0, 20.0, 40.0])
    nan = float("nan")
    trace = replace(trace, cancel_s=np.array([nan, nan, 0.3, nan]))
    result = _served(trace, async_scheduling=async_scheduling)
    assert result.status.tolist() == ["finished", "finished", "cancelled", "finished"]
    assert result.requests["finish_s"][2] == pytest.approx(20.6)
    assert np.isnan(result.requests["first_token_s"][2])
    assert result.requests["cached_tokens"][3] == 160
    assert result.requests["host_hit_tokens"][3] == 0


def test_what_was_computed_again_leaves_its_tier() -> None:
    """A prompt of whole blocks computes its last one again, though the tier has it."""
    trace = trace_of([[1], [2], [1]], [160, 160, 160], [1] * 3, size=160)
    result = _served(trace, blocks=12, tiers=tiers_of(100, bytes_per_s=1e9))
    assert result.requests["cached_tokens"].tolist() == [0, 0, 144]
    (host,) = result.tiers
    assert host.out_bytes == 8 * BLOCK_BYTES, "the first of ten is still on the GPU"
    assert host.superseded_bytes == BLOCK_BYTES


def test_a_piece_is_cut_and_gives_way_from_its_tail() -> None:
    segment = Segment(0, 100, shared=True)
    tier = Tier("host", 30)
    tier.push(segment, 10, 20)
    tier.push(segment, 0, 10)
    assert [(one.first, one.stop) for one in tier.pieces()] == [(0, 20)], "one piece"
    found = piece_at(segment, 5)
    assert found is not None
    tier.lift(found, 4, 7)
    assert [(one.first, one.stop) for one in tier.pieces()] == [(7, 20), (0, 4)]
    assert piece_at(segment, 5) is None
    tier.push(segment, 40, 60)
    assert [(one.first, one.stop) for one in tier.pieces()] == [(7, 13), (0, 4), (40, 60)]
    tier.check()
    assert (tier.num_in, tier.num_up, tier.num_lost) == (40, 3, 7)
    tier.push(segment, 60, 99)
    assert [(one.first, one.stop) for one in tier.pieces()] == [(60, 90)], "more than it holds"
    tier.check()
    tier.clear()
    assert (tier.num_resident, segment.below) == (0, [])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"kv_offloading_size": -1.0}, "kv_offloading_size(=-1) must be >= 0 GiB."),
        (
            {"kv_offloading_size": 8.0, "kv_offloading_bandwidth": 0.0},
            "kv_offloading_bandwidth(=0) must be > 0 GB/s.",
        ),
        (
            {"kv_offloading_secondary_size": 8.0, "kv_offloading_secondary_bandwidth": 2.0},
            "kv_offloading_secondary_size(=8) needs host memory above it: give kv_offloading_size.",
        ),
        (
            {"kv_offloading_size": 8.0, "kv_offloading_secondary_size": 8.0},
            "kv_offloading_secondary_size(=8) needs its rate: give "
            "kv_offloading_secondary_bandwidth.",
        ),
        (
            {"kv_offloading_size": 512.0, "host_memory": 256.0},
            "kv_offloading_size(=512) must be <= host_memory(=256), GiB.",
        ),
        (
            {"kv_offloading_size": 8.0, "enable_prefix_caching": False},
            "kv_offloading_size(=8) needs the prefix cache of hashed blocks, which is off; other "
            "schedulers, swaps and pinned prefixes go without it.",
        ),
        (
            {"kv_offloading_size": 8.0, "prefix_cache": "radix"},
            "kv_offloading_size(=8) needs the prefix cache of hashed blocks, which is radix; other "
            "schedulers, swaps and pinned prefixes go without it.",
        ),
        (
            {"kv_offloading_size": float("inf")},
            "kv_offloading_size(=inf) must be >= 0 GiB.",
        ),
    ],
)
def test_wrong_input_is_one_sentence(flags: dict[str, object], sentence: str) -> None:
    trace = _prompts([1], [0.0])
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        load_server(trace, hardware={"gpu": "a100", "model": "llama-3.1-8b"}, flags=flags)


def test_a_model_with_windows_has_no_tiers() -> None:
    with pytest.raises(ValueError, match=r"^kv_offloading_size\(=8\) needs layers that all keep"):
        load_server(
            _prompts([1], [0.0]),
            hardware={"gpu": "a100", "model": "gemma-3-27b"},
            flags={"kv_offloading_size": 8.0},
        )


def test_a_server_has_the_tiers_that_were_asked_for() -> None:
    """Llama-3.1-8B has 2 MiB a block, on two GPUs 1 MiB each; each has a link of its own."""
    flags = {
        "kv_offloading_size": 64.0,
        "kv_offloading_secondary_size": 1000.0,
        "kv_offloading_secondary_bandwidth": 5.0,
        "kv_offloading_secondary_latency": 80.0,
        "tensor_parallel_size": 2,
    }
    trace = _prompts([1], [0.0])
    hardware = {"gpu": "a100", "model": "llama-3.1-8b"}
    server = load_server(trace, hardware=hardware, flags=flags)
    host, secondary = server.deployment.tiers
    assert (host.block_bytes, host.num_blocks) == (1 << 21, 64 << 9)
    assert (
        host.bytes_per_s == 2 * server.moves.loading.bytes_per_s < 2 * server.gpu.pcie_bytes_per_s
    )
    assert host.latency_s == server.moves.loading.call_ns / 1e9 > 0
    assert (secondary.bytes_per_s, secondary.latency_s) == (5e9, 8e-5)
    assert any(note.startswith("Below the GPU: host 64 GiB") for note in server.notes)
    assert "--kv-offloading-size 64.0" in serve_command(server)
    contiguous = server.with_flags(allocator="contiguous")
    assert not contiguous.deployment.tiers, "it has no cache"
    given = load_server(trace, hardware=hardware, flags={**flags, "kv_offloading_bandwidth": 20.0})
    assert given.deployment.tiers[0].bytes_per_s == 40e9


def test_a_request_that_loads_keeps_its_seat_in_the_timeline() -> None:
    result = _served(_prompts([1, 2, 1], [0.0, 10.0, 20.0], outputs=5))
    running, waiting = requests_at(result, np.array([20.3]))
    assert (running[0], waiting[0]) == (1, 0)
    events = json.loads(timeline_text(result))["traceEvents"]
    assert "loading" in {event["name"] for event in events}


def _law(trace: Trace, deployment: Deployment, blocks: int) -> Result:
    macro, exact = (
        simulate(
            trace,
            deployment=deployment,
            cost=COST,
            num_gpu_blocks=blocks,
            exact_steps=exact_steps,
            check=True,
        )
        for exact_steps in (False, True)
    )
    assert_equal(macro, exact)
    return macro


@pytest.mark.parametrize("blocks", range(28, 38))
def test_a_beginning_that_sinks_makes_its_request_fit(blocks: int) -> None:
    """On the GPU it would be computed on at once; below, it is loaded first, which takes less."""
    chains = [[1], [2, 20, 21, 22], [3], [2, 20, 21, 22, 23, 24, 25, 26]]
    trace = trace_of(chains, [40, 165, 75, 325], [500, 1, 1, 1], size=40)
    trace = replace(trace, arrival_s=np.array([0.0, 0.2, 0.4, 0.9]))
    deployment = Deployment(
        max_model_len=600,
        enable_prefix_caching=True,
        scheduler_reserve_full_isl=False,
        max_num_batched_tokens=300,
        tiers=tiers_of(100, bytes_per_s=1e4),
    )
    _law(trace, deployment, blocks)


def test_a_loaded_request_is_computed_in_its_turn() -> None:
    """It was admitted before the one that prefills meanwhile: the budget is its own first."""
    trace = trace_of([[1], [2], [1], [3]], [165, 1300, 400, 900], [1, 1, 5, 5], size=160)
    trace = replace(trace, arrival_s=np.array([0.0, 10.0, 20.0, 20.5]))
    deployment = Deployment(
        max_model_len=1400,
        enable_prefix_caching=True,
        max_num_batched_tokens=32,
        tiers=tiers_of(100, bytes_per_s=1e4),
    )
    result = _law(trace, deployment, 87)
    assert result.loads["end_s"][0] > 20.5
    assert result.requests["first_token_s"][2] < result.requests["first_token_s"][3]


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_what_sinks_does_not_depend_on_the_steps_taken_at_once(async_scheduling: bool) -> None:
    """Answers that repeat others fill blocks of which older copies are just being evicted."""
    trace = Columns(
        arrival_s=None,
        prompt_tokens=np.array([28, 2, 103, 82, 119, 56, 96, 103, 33, 114, 38, 54]),
        output_tokens=np.array([104, 117, 97, 5, 66, 95, 51, 55, 114, 92, 62, 96]),
        prefix_row=np.array([-1, 0, -1, 1, 0, 4, 3, 3, 4, 4, 0, 0]),
        prefix_tokens=np.array([0, 0, 0, 8, 116, 3, 18, 83, 22, 53, 8, 49]),
        priority=np.array([2, 0, 0, 1, 2, 0, 2, 0, 0, 1, 0, 0]),
    )
    deployment = Deployment(
        max_model_len=128,
        max_num_seqs=3,
        max_num_batched_tokens=17,
        block_size=3,
        enable_prefix_caching=True,
        async_scheduling=async_scheduling,
        scheduling_policy="priority",
        tiers=tiers_of(ENDLESS, bytes_per_s=1e6),
    )
    macro, exact = (
        simulate(
            trace,
            deployment=deployment,
            cost=COST,
            num_gpu_blocks=88,
            concurrency=4,
            exact_steps=exact_steps,
            check=True,
        )
        for exact_steps in (False, True)
    )
    assert_equal(macro, exact)
    assert macro.tiers == exact.tiers
