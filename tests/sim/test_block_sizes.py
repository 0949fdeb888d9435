"""The block size in three terms: sums by hand, against loops and against simulations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.calibration.kv_groups import KVGroup
from kvsim.calibration.profile.cost import measured_cost
from kvsim.sim.block_sizes import BlockSize, BlockSizes, block_sizes
from kvsim.sim.job import simulate_server
from kvsim.sim.saturated import saturate
from kvsim.sim.server import Server
from kvsim.traces import Trace
from kvsim.traces.intake import Intake, take_in
from support.profiles import KEY, decode_fit, make_profile
from support.steady import alike, steady_server


def found_for(server: Server, trace: Trace) -> BlockSizes:
    _, backlog = saturate(server, trace, num_requests=300)
    found = block_sizes(server, trace, backlog=backlog)
    assert found is not None
    return found


def by_size(found: BlockSizes) -> dict[int, BlockSize]:
    return {one.block_size: one for one in found.sizes}


def in_blocks_of(server: Server, size: int) -> Server:
    """The same pool in other blocks."""
    slots = (server.num_gpu_blocks - 1) * server.deployment.block_size
    deployment = replace(server.deployment, block_size=size)
    budget = replace(server.budget, num_gpu_blocks=slots // size + 1)
    return replace(server, deployment=deployment, budget=budget)


def test_tails_by_hand() -> None:
    """Prompt 6, output 4 in blocks of 8: 6, 7, 8 and 9 tokens in 8, 8, 8 and 16 slots."""
    trace = alike(4, prompt=6, output=4)
    server = steady_server(trace, blocks=30, block_size=8, max_num_seqs=3, max_model_len=64)
    found = found_for(server, trace)
    eight = by_size(found)[8]
    assert eight.tail_share == pytest.approx(10 / 40)
    assert eight.never_filled_share == pytest.approx(7 / 40), "the 9th token's block, for a step"
    assert eight.tail_pool_share == pytest.approx(3 * (10 / 4) / (29 * 8), rel=1e-6)
    assert found.chosen == 8


@given(
    st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=5),
    st.sampled_from([1, 8, 16, 32]),
)
def test_tails_are_the_sum_over_all_steps(lengths: list[tuple[int, int]], size: int) -> None:
    prompts, outputs = (np.array(column) for column in zip(*lengths, strict=True))
    trace = Trace(name="drawn", prompt_tokens=prompts, output_tokens=outputs, arrival_s=None)
    server = steady_server(trace, blocks=100, max_model_len=256)
    one = by_size(found_for(server, trace))[size]
    held = empty = never = 0
    for prompt, output in lengths:
        last = prompt + output - 1
        for tokens in range(prompt, last + 1):
            blocks = -(-tokens // size)
            held += blocks * size
            empty += blocks * size - tokens
            if blocks == -(-last // size):
                never += blocks * size - last
    assert one.tail_share == pytest.approx(empty / held)
    assert one.never_filled_share == pytest.approx(never / held)


@pytest.mark.parametrize("size", [8, 32, 128])
def test_tails_are_those_of_a_simulation_under_backlog(size: int) -> None:
    trace = take_in(Intake(workload="sharegpt", num_requests=200)).trace
    server = steady_server(trace, blocks=9001, max_num_seqs=64, block_size=16)
    one = by_size(found_for(server, trace))[size]
    _, backlog = saturate(in_blocks_of(server, size), trace, num_requests=900)
    share = backlog.pool_share
    held = share.token_states + share.reserved + share.internal
    empty = held - share.token_states
    assert one.tail_share == pytest.approx(empty / held, rel=0.01)
    assert one.tail_pool_share == pytest.approx(empty, rel=0.02)
    assert one.never_filled_share == pytest.approx(share.internal / held, rel=0.03)


@pytest.mark.parametrize("size", [8, 16, 64, 256])
def test_prefixes_are_those_that_a_simulation_finds(size: int) -> None:
    """One request after another, in a pool that holds them all."""
    trace = take_in(
        Intake(
            workload="sharegpt",
            num_requests=80,
            prefix_groups=4,
            prefix_tokens=700,
            turns=3,
            rate_per_s=0.01,
        )
    ).trace
    server = steady_server(trace, blocks=20_001, enable_prefix_caching=True)
    found = found_for(server, trace)
    _, summary = simulate_server(in_blocks_of(server, size), trace=trace)
    assert summary.prefix_hit_tokens > 1000
    assert by_size(found)[size].prefix_hit_ratio == pytest.approx(summary.prefix_hit_ratio)


def test_ids_of_long_blocks_do_not_tell_short_ones_apart() -> None:
    """Two prompts of 1,500 tokens with two ids of 512 in common."""
    trace = Trace(
        name="ids",
        prompt_tokens=np.array([1500, 1500]),
        output_tokens=np.array([4, 4]),
        arrival_s=np.array([0.0, 10.0]),
        hash_ids=np.array([1, 2, 3, 1, 2, 4], dtype=np.uint64),
        hash_offsets=np.array([0, 3, 6]),
        hash_block_size=512,
    )
    found = found_for(steady_server(trace, blocks=300), trace)
    assert found.prefix_resolution_tokens == 512
    assert {one.prefix_hit_ratio for one in found.sizes} == {1024 / 3000}


def test_links_are_known_to_the_token() -> None:
    """100 tokens in common: 100, 96, 96, 96, 64 and none in full blocks."""
    trace = Trace(
        name="links",
        prompt_tokens=np.array([200, 300]),
        output_tokens=np.array([4, 4]),
        arrival_s=np.array([0.0, 10.0]),
        prefix_row=np.array([-1, 0]),
        prefix_tokens=np.array([0, 100]),
    )
    server = steady_server(trace, blocks=300, enable_prefix_caching=True)
    found = found_for(server, trace)
    assert found.prefix_resolution_tokens == 1
    hits = {one.block_size: one.prefix_hit_ratio for one in found.sizes}
    tokens = {1: 100, 8: 96, 16: 96, 32: 96, 64: 64, 128: 0, 256: 0}
    assert hits == {size: number / 500 for size, number in tokens.items()}
    radix = replace(server, deployment=replace(server.deployment, prefix_cache="radix"))
    assert {one.prefix_hit_ratio for one in found_for(radix, trace).sizes} == {100 / 500}


def test_a_prompt_s_last_token_is_never_found() -> None:
    trace = Trace(
        name="twice",
        prompt_tokens=np.array([64, 64]),
        output_tokens=np.array([4, 4]),
        arrival_s=np.array([0.0, 10.0]),
        prefix_row=np.array([-1, 0]),
        prefix_tokens=np.array([0, 64]),
    )
    hits = by_size(found_for(steady_server(trace, blocks=300), trace))
    assert hits[1].prefix_hit_ratio == 63 / 128
    assert hits[16].prefix_hit_ratio == 48 / 128


def test_without_anything_in_common_there_is_no_term() -> None:
    trace = alike(5, prompt=100, output=10, every_s=1.0)
    found = found_for(steady_server(trace, blocks=300), trace)
    assert found.prefix_resolution_tokens is None
    assert {one.prefix_hit_ratio for one in found.sizes} == {None}
    assert found.kernel is None
    assert {one.decode_slowdown for one in found.sizes} == {None}


def test_sizes_fit_the_pool_and_max_model_len() -> None:
    trace = alike(5, prompt=20, output=10)

    def sizes(blocks: int, size: int, longest: int) -> list[int]:
        server = steady_server(trace, blocks=blocks, block_size=size, max_model_len=longest)
        return [one.block_size for one in found_for(server, trace).sizes]

    assert sizes(100, 16, 64) == [1, 8, 16, 32, 64]
    assert sizes(100, 48, 256) == [1, 8, 16, 32, 48, 64, 128, 256]
    assert sizes(11, 16, 160) == [1, 8, 16, 32, 64, 128]
    assert sizes(6, 16, 64) == [1, 8, 16, 32, 64]


def test_the_kernel_s_times_stand_beside_their_sizes() -> None:
    trace = alike(5, prompt=100, output=10)
    fits = tuple(
        decode_fit(replace(KEY, block_size=size), read_bytes_per_s=rate)
        for size, rate in ((8, 2e12), (16, 4e12))
    )
    server = steady_server(trace, blocks=300, max_num_seqs=6)
    profile = make_profile(decode=fits)
    cost = measured_cost(profile, model=server.model, gpu=server.gpu)
    found = found_for(replace(server, cost=cost), trace)
    assert found.kernel is not None
    assert found.kernel.batch == 6
    assert found.kernel.context_tokens == 128, "105 is below what was seen"
    slow = {one.block_size: one.decode_slowdown for one in found.sizes}
    assert slow[8] == found.kernel.times[8] > 1
    assert slow[16] == 1.0
    assert slow[32] is None
    assert found.to_json()["kernel"] is not None


def test_requests_that_are_rejected_do_not_count() -> None:
    trace = alike(5, prompt=6, output=4)
    longer = replace(trace, prompt_tokens=np.array([6, 6, 6, 6, 900]))
    server = steady_server(trace, blocks=30, max_model_len=64)
    shares = [
        [one.tail_share for one in found_for(server, which).sizes] for which in (trace, longer)
    ]
    assert shares[0] == shares[1]


def test_outputs_end_at_max_model_len() -> None:
    """The engine stops at 64 tokens: 24 of prompt, 40 of output."""
    asked, cut = (alike(5, prompt=24, output=output) for output in (300, 40))
    server = steady_server(cut, blocks=60, max_model_len=64)
    shares = [[one.tail_share for one in found_for(server, which).sizes] for which in (asked, cut)]
    assert shares[0] == shares[1]


def test_layers_that_keep_different_tokens_have_no_one_size() -> None:
    trace = alike(5, prompt=6, output=4)
    server = steady_server(trace, blocks=30, max_model_len=64)
    _, backlog = saturate(server, trace, num_requests=30)
    groups = (KVGroup(kind="full", num_layers=1, block_size=16, page_bytes=1),)
    grouped = replace(server, deployment=replace(server.deployment, kv_groups=groups))
    assert block_sizes(grouped, trace, backlog=backlog) is None
