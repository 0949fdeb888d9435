"""transformers' continuous batching against the library itself, decision by decision."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from kvsim.sim.deployment import Deployment
from kvsim.sim.serve_command import continuous_batching
from support.random_transformers import SEEDS, compare_random
from support.real_transformers import Case, Real, Seen, assert_same_steps, simulated


def _prompts(*lengths: int, first: int = 1) -> list[list[int]]:
    """Prompts of these lengths that have nothing in common."""
    return [[(first + row + 7 * at) % 64 for at in range(n)] for row, n in enumerate(lengths)]


def _offloads(seen: list[Seen]) -> dict[bool, int]:
    """How often requests gave way, by whether to host memory."""
    kinds = [kind for one in seen for kind in one.offloaded.values()]
    return {kind: kinds.count(kind) for kind in (False, True)}


def test_chunks_beside_decodes_with_the_model_itself() -> None:
    case = Case(
        prompts=_prompts(5, 30, 17, 9, 3),
        outputs=[9, 4, 12, 1, 7],
        arrivals=[0, 0, 3, 3, 11],
        max_batch_tokens=12,
        with_model=True,
    )
    seen = assert_same_steps(case)
    assert any(len({tokens for _, tokens, _ in one.given}) > 1 for one in seen), "no mixed step"
    assert seen[0].given == [(0, 5, 0), (1, 7, 0)]
    assert seen[1].given == [(0, 1, 5), (1, 11, 7)]


def test_nobody_enters_below_the_safety_margin() -> None:
    case = Case(prompts=_prompts(40, 4), outputs=[20, 3], arrivals=[0, 1], num_blocks=20)
    seen = assert_same_steps(replace(case, safety_margin=0.51))
    assert seen[1].given == [(0, 1, 40)], "10 of 20 blocks are free"
    roomy = assert_same_steps(replace(case, safety_margin=0.5))
    assert roomy[1].given == [(0, 1, 40), (1, 4, 0)]


def test_the_first_candidate_enters_whatever_is_free() -> None:
    case = Case(prompts=_prompts(60, 8), outputs=[1, 2], num_blocks=16, max_batch_tokens=16)
    seen = assert_same_steps(replace(case, safety_margin=0.9))
    chunks = [(16, 0), (16, 16), (16, 32), (12, 48)]
    assert [one.given for one in seen[:4]] == [[(0, *chunk)] for chunk in chunks]


def test_one_that_does_not_fit_is_passed_over() -> None:
    case = Case(prompts=_prompts(30, 60, 6), outputs=[8, 2, 2], num_blocks=16, safety_margin=0.0)
    seen = assert_same_steps(case)
    assert [row for row, *_ in seen[0].given] == [0, 2]


def test_the_starved_are_computed_again_behind_all_others() -> None:
    case = Case(
        prompts=_prompts(12, 12, 12, 12, 4),
        outputs=[20, 20, 20, 20, 4],
        arrivals=[0, 0, 0, 0, 5],
        num_blocks=16,
        safety_margin=0.0,
    )
    seen = assert_same_steps(case)
    assert _offloads(seen)[False] > 0
    assert _offloads(seen)[True] == 0
    first = next(at for at, one in enumerate(seen) if one.offloaded)
    entered = [row for one in seen[first:] for row, _, before in one.given if not before]
    assert entered == [4, 3, 2], "who arrived later was in the queue before the starved"
    assert seen[first].running == 3
    assert len(seen[first + 14].given) == 2, "and nobody is let in until one has ended"


@pytest.mark.parametrize("offload_blocks", [6, 100])
def test_the_starved_go_to_host_memory_while_it_lasts(offload_blocks: int) -> None:
    case = Case(
        prompts=_prompts(12, 12, 12, 12, 4),
        outputs=[20, 20, 20, 20, 4],
        num_blocks=16,
        safety_margin=0.0,
        offload_blocks=offload_blocks,
    )
    kinds = _offloads(assert_same_steps(case))
    assert kinds[True] > 0
    assert (kinds[False] > 0) == (offload_blocks == 6)


def test_a_starved_chunk_gives_way() -> None:
    case = Case(
        prompts=_prompts(20, 56),
        outputs=[24, 3],
        num_blocks=16,
        max_batch_tokens=10,
        safety_margin=0.0,
        offload_blocks=30,
    )
    seen = assert_same_steps(case)
    assert any(one.offloaded == {1: True} for one in seen)


@pytest.mark.parametrize("prefill_first", [False, True])
def test_which_of_decodes_and_chunks_comes_first(prefill_first: bool) -> None:
    case = Case(
        prompts=_prompts(4, 40),
        outputs=[12, 3],
        max_batch_tokens=10,
        prefill_first=prefill_first,
    )
    seen = assert_same_steps(case)
    assert seen[1].given == ([(1, 10, 6)] if prefill_first else [(0, 1, 4), (1, 9, 6)])


@pytest.mark.parametrize("max_requests", [1, 2])
def test_so_many_requests_in_a_step(max_requests: int) -> None:
    case = Case(prompts=_prompts(5, 6, 7), outputs=[6, 6, 6], max_requests=max_requests)
    seen = assert_same_steps(case)
    assert max(len(one.given) for one in seen) == max_requests


def test_equal_beginnings_are_shared_and_copies_given_back() -> None:
    head = _prompts(16)[0]
    later = [head + tail for tail in _prompts(3, 6, first=40)]
    case = Case(
        prompts=[[*head, 1], [*head, 1], *later],
        outputs=[8, 8, 3, 3],
        arrivals=[0, 0, 4, 30],
        sharing=True,
        safety_margin=0.0,
        with_model=True,
    )
    seen = assert_same_steps(case)
    assert seen[0].free == 64 - 10, "each has its own blocks until they are full"
    assert seen[1].free == 64 - 6, "four of them were copies"
    starts = {row: before for one in reversed(seen) for row, _, before in one.given}
    assert starts == {0: 0, 1: 0, 2: 16, 3: 16}


def test_what_the_last_step_fills_is_not_found() -> None:
    """Eight tokens in one step that is also the last: nothing of them is cached."""
    prompt = _prompts(9)[0]
    case = Case(prompts=[prompt, prompt], outputs=[1, 1], arrivals=[0, 5], sharing=True)
    alone = assert_same_steps(case)
    assert [one.given for one in alone] == [[(0, 9, 0)], [(1, 9, 0)]]
    decoded = assert_same_steps(replace(case, outputs=[2, 1]))
    assert decoded[-1].given == [(1, 1, 8)]


def test_the_last_token_of_a_prompt_is_computed_though_its_block_is_there() -> None:
    prompt = _prompts(8)[0]
    case = Case(prompts=[prompt, prompt], outputs=[2, 1], arrivals=[0, 5], sharing=True)
    assert assert_same_steps(case)[-1].given == [(1, 4, 4)]


def test_what_is_cached_goes_all_at_once() -> None:
    prompts = _prompts(16, 16, 16, 40)
    case = Case(prompts=prompts, outputs=[2, 2, 2, 9], arrivals=[0, 3, 6, 9], sharing=True)
    seen = assert_same_steps(replace(case, num_blocks=16, safety_margin=0.0))
    by_step = {one.number: one for one in seen}
    assert (by_step[7].free, by_step[7].cached) == (3, 8)
    assert (by_step[9].free, by_step[9].cached) == (6, 0), "twelve went, ten were asked for"


def test_a_prefix_that_many_share_counts_as_read_by_each() -> None:
    """Three readers of 32 shared tokens read more than the pool of 80 holds."""
    head = _prompts(32)[0]
    prompts = [[*head, row] for row in range(6)]
    case = Case(
        prompts=prompts,
        outputs=[6] * 6,
        arrivals=[0, 3, 3, 3, 3, 3],
        num_blocks=20,
        sharing=True,
        safety_margin=0.0,
    )
    slow = assert_same_steps(case)
    fast = assert_same_steps(replace(case, max_blocks_per_request=100))
    assert max(len(one.given) for one in slow) == 2
    assert max(len(one.given) for one in fast) == 6
    assert any(one.fast_path for one in fast)


def test_a_table_of_so_many_blocks() -> None:
    case = Case(prompts=_prompts(6, 6), outputs=[12, 3], max_blocks_per_request=3)
    seen = assert_same_steps(case)
    paths = [one.fast_path for one in seen]
    assert paths == [False, *[True] * 6, *[False] * 5], "twelve tokens fit three blocks"


def test_the_serve_command_speaks_the_librarys_names() -> None:
    flags = Deployment(
        max_model_len=500,
        scheduler="transformers_prefill_first",
        watermark=0.2,
        preemption_mode="swap",
        swap_space=3.5,
        enable_prefix_caching=True,
    )
    text = continuous_batching(flags, 77)
    made = eval(text, {"ContinuousBatchingConfig": ContinuousBatchingConfig})
    assert (made.page_size, made.num_blocks, made.max_blocks_per_request) == (16, 77, 32)
    assert (made.scheduler_type, made.safety_margin) == ("prefill_first", 0.2)
    assert (made.cpu_offload_space, made.allow_block_sharing) == (3.5, True)
    assert "scheduler_type='fifo'" in continuous_batching(
        replace(flags, scheduler="transformers"), 1
    )


def test_random_requests() -> None:
    assert compare_random(SEEDS).num_steps > 500


@pytest.mark.slow
def test_random_requests_at_length() -> None:
    compare_random(range(100, 700))


def test_a_difference_is_seen() -> None:
    """The comparison itself: another margin, another budget, and the two part."""
    case = Case(prompts=_prompts(40, 4), outputs=[20, 3], arrivals=[0, 1], num_blocks=20)
    case = replace(case, safety_margin=0.6)
    real = Real(case)
    theirs = real.run()
    assert theirs == simulated(case, real.tokens)
    for other in ({"safety_margin": 0.1}, {"max_batch_tokens": 7}, {"num_blocks": 21}):
        assert theirs != simulated(replace(case, **other), real.tokens)
