"""One input changed, the rest as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvsim.sim.content import shared_prefixes
from kvsim.sim.variants import (
    blocks_of_bytes,
    with_blocks,
    with_clock,
    with_outputs,
    with_prompts,
)
from kvsim.traces import Trace
from support.steady import alike, steady_server


def test_a_clock_that_is_not_changed_stays_itself() -> None:
    server = steady_server(alike(3, prompt=10, output=4), blocks=50)
    assert with_clock(server, 1.0) is server
    assert with_clock(server, 2.0).cost.describe()["times"] == 2.0


def test_blocks_follow_the_bytes_down_to_two() -> None:
    server = steady_server(alike(3, prompt=10, output=4), blocks=50)
    size = server.budget.block_bytes
    assert blocks_of_bytes(server, 50 * size) == 50
    assert blocks_of_bytes(server, 40 * size) == 40
    assert blocks_of_bytes(server, 41 * size - 1) == 40
    assert blocks_of_bytes(server, 0) == 2
    assert with_blocks(server, 0).num_gpu_blocks == 2
    assert with_blocks(server, 50) is server
    assert with_blocks(server, 70).num_gpu_blocks == 70


def test_a_planned_pool_keeps_its_blocks() -> None:
    """Its bytes are seldom a whole number of blocks."""
    server = steady_server(alike(3, prompt=10, output=4), blocks=50)
    budget = replace(server.budget, kv_cache_bytes=50 * server.budget.block_bytes + 77)
    server = replace(server, budget=budget)
    assert blocks_of_bytes(server, budget.kv_cache_bytes) == 50


@pytest.mark.parametrize(
    ("factor", "outputs"), [(0.8, [1, 4, 8, 80]), (1.2, [2, 6, 12, 120]), (5.0, [5, 25, 50, 156])]
)
def test_outputs_are_rounded_up_and_end_at_max_model_len(factor: float, outputs: list[int]) -> None:
    trace = Trace(
        name="lengths",
        prompt_tokens=np.full(4, 100, dtype=np.int64),
        output_tokens=np.array([1, 5, 10, 100]),
        arrival_s=None,
    )
    changed = with_outputs(trace, factor, max_model_len=256)
    assert changed.output_tokens.tolist() == outputs
    assert changed.prompt_tokens.tolist() == trace.prompt_tokens.tolist()


def test_a_tenth_more_of_fifty_is_fifty_five() -> None:
    """1.1 * 50 is a hair above 55 in binary: it must not become 56."""
    trace = alike(1, prompt=10, output=50)
    assert with_outputs(trace, 1.1, max_model_len=256).output_tokens.tolist() == [55]
    assert with_outputs(trace, 1.0, max_model_len=256) is trace


def test_a_prompt_that_leaves_no_room_keeps_one_token() -> None:
    trace = alike(1, prompt=300, output=5)
    assert with_outputs(trace, 1.2, max_model_len=256).output_tokens.tolist() == [1]


def test_a_later_turn_repeats_what_is_left_of_the_answer() -> None:
    trace = Trace(
        name="turns",
        prompt_tokens=np.array([100, 130]),
        output_tokens=np.array([20, 10]),
        arrival_s=np.array([0.0, 9.0]),
        prefix_row=np.array([-1, 0]),
        prefix_tokens=np.array([0, 120]),
    )
    shorter = with_outputs(trace, 0.5, max_model_len=512)
    assert shorter.prefix_tokens is not None
    assert shorter.prefix_tokens.tolist() == [0, 110]
    longer = with_outputs(trace, 2.0, max_model_len=512)
    assert longer.prefix_tokens is not None
    assert longer.prefix_tokens.tolist() == [0, 120]


def test_a_factor_is_positive() -> None:
    with pytest.raises(ValueError, match=r"factor\(=0\) must be > 0\."):
        with_outputs(alike(1, prompt=10, output=5), 0, max_model_len=256)
    with pytest.raises(ValueError, match=r"factor\(=0\) must be > 0\."):
        with_prompts(alike(1, prompt=10, output=5), 0, max_model_len=256)


@pytest.mark.parametrize(
    ("factor", "prompts"), [(0.8, [1, 4, 8, 240]), (1.2, [2, 6, 12, 300]), (5.0, [5, 25, 50, 300])]
)
def test_prompts_leave_room_for_their_outputs(factor: float, prompts: list[int]) -> None:
    """The last one is longer than ``max_model_len`` allows, and never grows."""
    trace = Trace(
        name="lengths",
        prompt_tokens=np.array([1, 5, 10, 300]),
        output_tokens=np.full(4, 100, dtype=np.int64),
        arrival_s=None,
    )
    changed = with_prompts(trace, factor, max_model_len=256)
    assert changed.prompt_tokens.tolist() == prompts
    assert changed.output_tokens.tolist() == trace.output_tokens.tolist()
    assert with_prompts(trace, 1.0, max_model_len=256) is trace


@pytest.mark.parametrize("factor", [0.5, 1.25])
def test_what_prompts_share_is_as_many_times_as_long(factor: float) -> None:
    """Two blocks of 16 in common, by ids and by links."""
    ids = Trace(
        name="ids",
        prompt_tokens=np.array([40, 40]),
        output_tokens=np.array([4, 4]),
        arrival_s=np.array([0.0, 1.0]),
        hash_ids=np.array([1, 2, 3, 1, 2, 4], dtype=np.uint64),
        hash_offsets=np.array([0, 3, 6]),
        hash_block_size=16,
    )
    links = Trace(
        name="links",
        prompt_tokens=np.array([40, 40]),
        output_tokens=np.array([4, 4]),
        arrival_s=np.array([0.0, 1.0]),
        prefix_row=np.array([-1, 0]),
        prefix_tokens=np.array([0, 32]),
    )
    for trace in (ids, links):
        changed = with_prompts(trace, factor, max_model_len=256)
        assert shared_prefixes(changed)[1].tolist() == [0, 32 * factor]


def test_chains_are_cut_where_a_prompt_is() -> None:
    """What the room leaves of a longer prompt has no more blocks than it holds."""
    trace = Trace(
        name="ids",
        prompt_tokens=np.array([64]),
        output_tokens=np.array([60]),
        arrival_s=np.array([0.0]),
        hash_ids=np.array([1, 2, 3, 4], dtype=np.uint64),
        hash_offsets=np.array([0, 4]),
        hash_block_size=16,
    )
    changed = with_prompts(trace, 2.0, max_model_len=130)
    assert changed.prompt_tokens.tolist() == [70]
    assert changed.hash_block_size == 32
    assert changed.hash_chain(0).tolist() == [1, 2, 3]
