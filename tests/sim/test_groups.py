"""Requests of several sequences, worked out by hand: blocks held, saved and copied in every step.

Steps of 10 ms; blocks of four tokens unless told otherwise. ``held`` are slots granted, ``saved``
those that would be granted, too, if nothing were shared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.sim import sequences
from kvsim.sim.deployment import Deployment
from kvsim.sim.request import Request
from kvsim.sim.result import CANCELLED, FINISHED, REJECTED, Result
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import summarise
from support.contents import ShadowedSwap, shadowed
from support.workloads import Columns, FakeMoves


def serve(
    prompts: list[int],
    outputs: list[int],
    *,
    n: list[int] | None = None,
    beams: list[int] | None = None,
    arrival_s: list[float] | None = None,
    cancel_s: list[float] | None = None,
    blocks: int = 100,
    host_blocks: int = 100,
    moves: FakeMoves | None = None,
    exact_steps: bool = True,
    **flags: Any,
) -> Result:
    def whole(values: list[int] | None) -> Any:
        return None if values is None else np.array(values)

    trace = Columns(
        arrival_s=np.array(arrival_s or [0.0] * len(prompts)),
        prompt_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
        num_samples=whole(n),
        beam_width=whole(beams),
        cancel_s=None if cancel_s is None else np.array(cancel_s),
    )
    return simulate(
        trace,
        deployment=Deployment(**({"max_model_len": 128, "block_size": 4} | flags)),
        cost=AffineCost(base_s=0.01),
        num_gpu_blocks=blocks,
        exact_steps=exact_steps,
        check=True,
        moves=moves or FakeMoves(),
        num_host_blocks=host_blocks,
    )


def slots(result: Result) -> tuple[list[int], list[int], list[int]]:
    """Slots held, with tokens, and saved, step by step."""
    segments = result.segments
    held = segments["token_states"] + segments["reserved"] + segments["internal"]
    columns = (held, segments["token_states"], segments["saved"])
    held, tokens, saved = (np.round(column, 6).astype(int).tolist() for column in columns)
    return held, tokens, saved


def test_samples_copy_the_last_block_when_they_write() -> None:
    """Three samples of 5 + 4 tokens: block 1 stays shared, block 2 is copied by two of them."""
    result = serve([5], [4], n=[3])
    held, tokens, saved = slots(result)
    #        prefill   copies: 1 + 3 blocks   the tails fill up: 3 x 4 + 4
    assert held == [8, 16, 16, 16]
    assert tokens == [5, 10, 13, 16]
    assert saved == [0, 8, 8, 8]  # two more holders of one full block
    assert result.moved.num_copied_blocks == 2
    assert result.moved.copied_bytes == 2 * 1000
    # 5 us for the call, 3 us a block, in the step of the first write
    np.testing.assert_allclose(
        result.segments["duration_s"], [0.01, 0.010011, 0.01, 0.01], rtol=1e-12
    )
    assert result.moved.moving_ns == 11_000
    assert result.segments["num_decodes"].tolist() == [0, 3, 3, 3]
    assert result.segments["num_running"].tolist() == [1, 1, 1, 1]
    requests = result.requests
    assert requests["num_sequences"].tolist() == [3]
    assert requests["output_tokens"].tolist() == [4]
    assert requests["generated_tokens"].tolist() == [12]
    assert requests["first_token_s"].tolist() == [0.01]
    # 8 of 24 slots saved in all steps but the first, in which 8 are held
    summary, rest_s = summarise(result), 0.010011 + 0.01 + 0.01
    assert summary.sharing_saved == pytest.approx(8 * rest_s / (8 * 0.01 + 24 * rest_s))
    assert summary.num_copied_blocks == 2
    assert summary.copied_bytes == 2000


def test_a_full_last_block_is_never_copied() -> None:
    """8 tokens are two full blocks: every sample takes a block of its own for the ninth."""
    result = serve([8], [3], n=[3])
    assert slots(result)[0] == [8, 8 + 12, 20]
    assert slots(result)[2] == [0, 16, 16]
    assert result.moved.num_copied_blocks == 0
    assert result.moved.moving_ns == 0


def test_the_prompt_is_computed_once() -> None:
    """30 prompt tokens at 8 a step: four steps, however many samples there are."""
    one, four = (
        serve([30], [2], n=[n], max_num_batched_tokens=8, exact_steps=False) for n in (1, 4)
    )
    assert one.requests["first_token_s"] == four.requests["first_token_s"] == 0.04
    assert one.num_steps == four.num_steps == 5


def test_samples_of_different_lengths_leave_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 prompt tokens, answers of 1, 3 and 6: each returns what nobody else holds."""
    uneven(monkeypatch, [1, 3, 6])
    result = serve([5], [6], n=[3])
    held, tokens, saved = slots(result)
    # fork, one leaves | one copy for two | two | block 1 and a tail | a third block
    assert held == [8, 12, 12, 8, 12, 12]
    assert tokens == [5, 8, 10, 8, 9, 10]
    assert saved == [0, 4, 4, 0, 0, 0]
    assert result.moved.num_copied_blocks == 1
    assert result.requests["generated_tokens"].tolist() == [1 + 3 + 6]
    assert result.requests["finish_s"] == pytest.approx(0.060008)


def uneven(monkeypatch: pytest.MonkeyPatch, lengths: list[int]) -> None:
    """Samples whose answers have these lengths."""
    original = sequences.copies

    def copies(request: Request, count: int) -> list[Request]:
        several = original(request, count)
        for one, length in zip(several, lengths, strict=False):
            one.total_tokens = one.prompt_tokens + length
            one.kv_tokens = one.total_tokens - 1
        return several

    monkeypatch.setattr(sequences, "copies", copies)


def test_one_token_is_written_by_nobody() -> None:
    """Four samples of one token: sampled from one prefill, in the two blocks of the prompt."""
    result = serve([5], [1], n=[4], blocks=3)
    assert result.status.tolist() == [FINISHED]
    assert slots(result) == ([8], [5], [0])
    assert result.moved.num_copied_blocks == 0
    assert result.requests["generated_tokens"].tolist() == [4]


@pytest.mark.parametrize(("blocks", "status"), [(1 + 7, FINISHED), (7, REJECTED)])
def test_what_a_group_needs_of_an_empty_pool(blocks: int, status: str) -> None:
    """5 + 5 tokens fill 9 slots: one block together and two each for three samples."""
    result = serve([5], [5], n=[3], blocks=blocks)
    assert result.status.tolist() == [status]


class Script:
    """Which beams go on, step after step; after the last line all do."""

    lines: tuple[list[int], ...] = ()

    def __init__(self, *, width: int, **_: object) -> None:
        self._width, self._left = width, iter(self.lines)

    def parents(self) -> list[int]:
        return next(self._left, list(range(self._width)))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> type[Script]:
    monkeypatch.setattr(sequences, "BeamSurvival", Script)
    monkeypatch.setattr(Script, "lines", ([0, 0], [0, 0], [1, 0]))
    return Script


@pytest.mark.usefixtures("script")
def test_beams_fork_and_are_dropped() -> None:
    """4 + 5 tokens in blocks of two: beam 1 goes on from beam 0 twice, then they change places.

    step  writes    blocks held
    1     0 .. 3    A B
    2     4         A B C, A B D               then beam 1 is dropped, D returns: A B C twice
    3     5         A B C, A B E               C is copied to E; then E returns
    4     6         A B C F, A B C G           C was full; then the beams change places
    5     7         A B C G, A B C F           in place
    """
    result = serve([4], [5], beams=[2], block_size=2)
    assert slots(result) == ([4, 8, 8, 10, 10], [4, 6, 8, 8, 10], [0, 4, 4, 6, 6])
    assert result.moved.num_copied_blocks == 1
    assert result.num_steps == 5


@pytest.mark.usefixtures("script")
def test_contiguous_beams_copy_what_they_have() -> None:
    """The same search in pieces of 8 slots: a beam that goes on from another copies all of it.

    Copied: 4 tokens at the fork; 5, 6 and twice 7 when beams are dropped or change places.
    """
    flags = {"allocator": "contiguous", "reservation": "oracle", "placement": "first_fit"}
    result = serve([4], [5], beams=[2], block_size=2, **flags)
    assert slots(result) == ([16] * 5, [4, 10, 12, 14, 16], [0] * 5)
    moved = result.moved
    assert moved.num_copied_blocks == 0
    assert moved.num_copied_slots == 4 + 5 + 6 + 14
    assert moved.copied_bytes == 29 * 1000 // 2  # a block of two tokens has 1000 bytes
    copy_ns = np.array([0, 11_000, 12_500, 14_000, 26_000])  # 5 us + 3 us for 1000 bytes
    assert moved.moving_ns == copy_ns.sum()
    np.testing.assert_allclose(
        result.segments["duration_s"], (10_000_000 + copy_ns) / 1e9, rtol=1e-12
    )


def test_contiguous_samples_copy_the_prompt() -> None:
    """Three samples of 5 + 4 tokens have 8 slots each; 5 tokens are copied twice."""
    flags = {"allocator": "contiguous", "reservation": "oracle", "placement": "first_fit"}
    result = serve([5], [4], n=[3], **flags)
    assert slots(result) == ([24] * 4, [5, 18, 21, 24], [0] * 4)
    assert result.moved.num_copied_slots == 10
    assert result.segments["duration_s"][1] == pytest.approx(0.01 + 5e-6 + 2500 * 3e-9)


def test_a_group_needs_a_seat_for_each() -> None:
    """Four seats, three samples of three steps each; who is behind them waits for its turn."""
    result = serve([4, 4, 4], [3, 3, 3], n=[3, 3, 1], max_num_seqs=4)
    assert result.requests["scheduled_s"] == pytest.approx([0.0, 0.03, 0.03])
    result = serve([4, 4, 4], [3, 3, 3], n=[3, 1, 3], max_num_seqs=4)
    assert result.requests["scheduled_s"] == pytest.approx([0.0, 0.0, 0.03])


@pytest.mark.parametrize("mode", ["recompute", "swap"])
def test_all_samples_are_preempted_together(mode: str) -> None:
    """Two requests of two samples, 4 + 5 tokens, that need 3 blocks each; there are five.

    Step 1 computes both prompts (2 blocks). In step 2 each sample wants a block; the fourth finds
    none, so that both samples of the second request go. What they had is one block of the prompt.
    The first is done after step 5; then the second is admitted with 3 blocks.
    """
    result = serve([4, 4], [5, 5], n=[2, 2], blocks=1 + 5, preemption_mode=mode)
    assert slots(result)[0] == [8, 12, 12, 12, 12, 12, 12, 12, 12]
    requests, moved = result.requests, result.moved
    assert requests["num_preemptions"].tolist() == [0, 1]
    assert requests["wasted_tokens"].tolist() == [0, 4 if mode == "recompute" else 0]
    swapped = int(mode == "swap")
    assert (moved.num_swaps, moved.num_swapped_out_blocks) == (swapped, swapped)
    assert moved.num_swapped_in_blocks == swapped
    assert result.num_steps == 9
    # out: 20 + 50 us, in: 20 + 2 x 50 us
    assert moved.moving_ns == swapped * (70_000 + 120_000)
    assert requests["finish_s"][1] == pytest.approx(0.09 + moved.moving_ns / 1e9)


CANCELLED_AT = {
    "waiting": (0.005, 0),  # behind one who needs the seats
    "prefilling": (0.045, 0),
    "decoding": (0.085, 4),  # with the token of the step under way
    "gone": (1.0, 9),
}


@pytest.mark.parametrize("exact_steps", [False, True])
@pytest.mark.parametrize("phase", CANCELLED_AT)
def test_a_group_is_cancelled(phase: str, exact_steps: bool) -> None:
    """Steps 1 to 4 are the first request's; 12 prompt tokens at 6 a step are steps 5 and 6."""
    patience_s, received = CANCELLED_AT[phase]
    with shadowed() as pools:
        result = serve(
            [4, 12],
            [4, 9],
            n=[3, 3],
            max_num_seqs=3,
            max_num_batched_tokens=6,
            cancel_s=[np.nan, patience_s],
            exact_steps=exact_steps,
            moves=FakeMoves(per_copied_block_ns=0),
        )
    assert result.status.tolist() == [FINISHED, FINISHED if phase == "gone" else CANCELLED]
    assert result.requests["output_tokens"].tolist() == [4, received]
    assert result.requests["generated_tokens"].tolist() == [12, 3 * received]
    assert len(pools[0].free) == 99, "all blocks have returned"


@pytest.mark.parametrize("mode", ["recompute", "swap"])
@pytest.mark.parametrize("exact_steps", [False, True])
def test_a_preempted_group_is_cancelled(mode: str, exact_steps: bool) -> None:
    """The two requests of above; the second gives up in step 4, while it is out."""
    with shadowed() as pools:
        result = serve(
            [4, 4],
            [5, 5],
            n=[2, 2],
            blocks=1 + 5,
            preemption_mode=mode,
            cancel_s=[np.nan, 0.035],
            exact_steps=exact_steps,
        )
    assert result.status.tolist() == [FINISHED, CANCELLED]
    assert result.requests["generated_tokens"].tolist() == [10, 2]
    assert result.moved.num_swapped_in_blocks == 0
    assert len(pools[0].free) == 5
    if mode == "swap":
        swap = pools[0].swap
        assert isinstance(swap, ShadowedSwap)
        assert (swap.num_out_blocks, swap.num_dropped, swap.num_used) == (1, 1, 0)


def test_a_pinned_prefix_is_held_once_and_not_computed() -> None:
    """The PagedAttention paper, section 6.4: 8 of 10 prompt tokens are the same for all."""
    alone, pinned = (
        serve([10] * 3, [3] * 3, max_num_batched_tokens=6, pinned_prefix_tokens=tokens)
        for tokens in (0, 8)
    )
    # alone, tokens of the three: 6 | 4 2 | 1 5 | 1 3 2 | - 1 5 | - 1 3; with the prefix 2 2 2
    assert alone.requests["first_token_s"] == pytest.approx([0.02, 0.04, 0.06])
    assert pinned.requests["first_token_s"] == pytest.approx([0.01] * 3)
    assert pinned.requests["cached_tokens"].tolist() == [8, 8, 8]
    held, tokens, saved = slots(pinned)
    assert held == [8 + 3 * 4] * 3  # the last tokens are at 10 and 11
    assert tokens == [8 + 3 * 2, 8 + 3 * 3, 8 + 3 * 4]
    assert saved == [2 * 8] * 3
    assert pinned.moved.num_copied_blocks == 0


def test_a_pinned_prefix_that_ends_within_a_block_is_copied() -> None:
    """6 pinned tokens are a block and a half: whoever begins so copies the half."""
    result = serve([10, 3, 6], [3, 3, 3], pinned_prefix_tokens=6)
    assert result.requests["cached_tokens"].tolist() == [6, 0, 0]  # the others are not longer
    assert result.moved.num_copied_blocks == 1
    # 12 slots of the first, its pinned block among them; 3 + 2 tokens, 6 + 2 tokens
    assert slots(result)[0] == [12 + 4 + 8, 12 + 4 + 8, 12 + 8 + 8]
    assert slots(result)[2] == [0] * 3
    # the block and a half are never free; a full one that nobody holds is cached, as the half is
    assert result.segments["cached"].tolist() == [4] * 3


def test_a_swapped_request_keeps_its_part_of_a_pinned_block() -> None:
    """What it copied of the prefix goes out and comes back with the rest of its block."""
    result = serve([7, 7], [6, 6], blocks=1 + 2 + 3, pinned_prefix_tokens=6, preemption_mode="swap")
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.moved.num_swapped_out_blocks == 1
    assert result.moved.num_copied_blocks == 2  # one at each first admission


def test_samples_fan_out_without_a_prefix_cache() -> None:
    """Each is a request of its own: three times 5 tokens in six blocks."""
    result = serve([5], [4], n=[3], parallel_sampling="fan_out")
    assert slots(result) == ([24] * 4, [15, 18, 21, 24], [0] * 4)
    assert result.moved.num_copied_blocks == 0
    assert result.requests["generated_tokens"].tolist() == [12]
    assert result.segments["num_running"].tolist() == [3] * 4


def test_samples_fan_out_over_a_prefix_cache() -> None:
    """9 prompt tokens at 9 a step. The first sample registers two full blocks; the others find
    them in the step after, compute one token each, and copy nothing."""
    flags = {"parallel_sampling": "fan_out", "enable_prefix_caching": True}
    result = serve([9], [3], n=[3], max_num_batched_tokens=9, **flags)
    held, tokens, saved = slots(result)
    # step 1: 3 blocks | step 2: two more tails; one decodes, two compute a token
    assert held == [12, 12 + 8, 12 + 8, 8 + 8]
    assert tokens == [9, 8 + 2 + 1 + 1, 8 + 3 + 2 + 2, 8 + 3 + 3]
    assert saved == [0, 16, 16, 8]
    assert result.moved.num_copied_blocks == 0
    assert result.requests["first_token_s"] == pytest.approx([0.01])
    assert result.requests["finish_s"] == pytest.approx([0.04])


def test_samples_that_fan_out_wait_for_themselves() -> None:
    """Three seats: both samples of the second request wait 30 ms, those of the first do not."""
    result = serve([4, 4], [3, 3], n=[3, 2], max_num_seqs=3, parallel_sampling="fan_out")
    assert result.requests["waited_s"] == pytest.approx([0.0, 0.06])


def test_a_preempted_sample_does_not_change_when_the_others_were_queued() -> None:
    """Blocks for two samples of 4 + 5 tokens and a half: the third is preempted in step 2.

    It has waited from 10 to 50 ms, and its pause is the request's only one.
    """
    result = serve([4], [5], n=[3], blocks=1 + 5, parallel_sampling="fan_out")
    assert result.requests["num_preemptions"].tolist() == [1]
    assert result.requests["waited_s"] == pytest.approx([0.04])
    assert {name: column.tolist() for name, column in result.pauses.items()} == {
        "index": [0],
        "preempted_s": pytest.approx([0.01]),
        "admitted_s": pytest.approx([0.05]),
        "resumed_s": pytest.approx([0.06]),
        "swapped": [False],
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_num_seqs": 3}, r"^n\(=4\) must be <= max_num_seqs\(=3\)\.$"),
        ({"max_num_batched_tokens": 3}, r"^n\(=4\) must be <= max_num_batched_tokens\(=3\)\.$"),
        ({"enable_prefix_caching": True}, r"^n\(=4\) with .* fork needs enable_prefix_caching off"),
        ({"async_scheduling": True}, r"^n\(=4\) with .* fork needs async_scheduling off\.$"),
    ],
)
def test_what_groups_cannot_have(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        serve([5], [4], n=[4], **flags)


def test_beams_do_not_fan_out() -> None:
    with pytest.raises(ValueError, match=r"^beam_width\(=4\) needs parallel_sampling fork"):
        serve([5], [4], beams=[4], parallel_sampling="fan_out")


def test_a_preempted_group_computes_again_what_it_had() -> None:
    """4 + 9 tokens, and two samples of 8 + 5; five blocks; 5 tokens in a step.

    The prompts take three steps. In step 4 the second sample finds no block: both go. They lost two
    blocks, 8 tokens, with the two last known ones 10 to compute when the first has ended (step 9):
    5 in step 10, 5 in step 11, in 4 blocks. Until then what they share has no second holder's KV.
    """
    result = serve([4, 8], [9, 5], n=[1, 2], blocks=6, max_num_batched_tokens=5)
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.requests["wasted_tokens"].tolist() == [0, 8]
    held, tokens, saved = (column[-5:] for column in slots(result))
    assert held == [16] * 5
    assert tokens == [5, 10, 12, 14, 16]
    assert saved == [0, 0, 8, 8, 8]
    assert result.num_steps == 14
    assert result.requests["generated_tokens"].tolist() == [9, 10]


def test_beams_go_in_step_where_the_budget_is_short() -> None:
    """Two times three sequences of 2 + 4 tokens, four tokens in a step.

    Step 1 computes both prompts. Then the first group takes three tokens of every step; the one
    that is left is of use to a sample of the second, but not to one beam of three.
    """
    samples, beams = (
        serve([2, 2], [4, 4], max_num_batched_tokens=4, moves=FREE, **{kind: [3, 3]})
        for kind in ("n", "beams")
    )
    # decodes: 3 + 1 three times, then the two samples that got nothing, or all three beams
    assert samples.segments["num_decodes"].tolist() == [0, 4, 4, 4, 0, 2, 2]
    assert beams.segments["num_decodes"].tolist() == [0, 3, 3, 3, 0, 3, 3]
    for result in (samples, beams):
        assert result.requests["finish_s"] == pytest.approx([0.04, 0.07], abs=1e-4)
        assert result.requests["generated_tokens"].tolist() == [12, 12]


FREE = FakeMoves(per_copied_block_ns=0, per_swapped_block_ns=0)


def test_a_group_on_virtual_pages_is_preempted_while_it_prefills() -> None:
    """4 + 9 tokens, and two samples of 8 + 1; five pages of four tokens, 5 tokens in a step.

    Step 1 maps three pages. In step 2 the first request takes one more and both samples want one:
    they go, with all of their pages, and come back after step 9, to be computed in two steps.
    """
    result = serve(
        [4, 8],
        [9, 1],
        n=[1, 2],
        blocks=5,
        allocator="virtual",
        kv_row_bytes=(1 << 16) // 4,
        max_num_batched_tokens=5,
        moves=FREE,
    )
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert slots(result)[0][-3:] == [12, 16, 16]
    assert result.num_steps == 11
