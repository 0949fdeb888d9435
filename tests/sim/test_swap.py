"""Preemption by swapping: what goes out comes back or is dropped, and takes the time that it costs.

Blocks of four tokens, steps of 10 ms. Two requests of 4 + 5 tokens in a pool of three blocks: both
prompts are computed in step 1; in step 2 the first takes the third block and the second, which
finds none, is preempted with one block of KV. The first ends with step 5; steps 6 to 9 are the
second's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.calibration.affine import AffineCost
from kvsim.sim.batch import RunningBatch
from kvsim.sim.deployment import Deployment
from kvsim.sim.engine import make_swap
from kvsim.sim.result import Result
from kvsim.sim.simulation import simulate
from kvsim.sim.swap import Swap
from support.contents import ShadowedSwap, shadowed
from support.workloads import ALLOCATORS, SCHEDULERS, Columns, FakeMoves, workloads

LAW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
PLAIN = {"enable_prefix_caching": False, "async_scheduling": False, "kv_groups": ()}


def two(
    *, host_blocks: int = 100, moves: FakeMoves | None = None, token_s: float = 0.0, **flags: Any
) -> Result:
    trace = Columns(
        arrival_s=np.zeros(2), prompt_tokens=np.array([4, 4]), output_tokens=np.array([5, 5])
    )
    return simulate(
        trace,
        deployment=Deployment(**({"max_model_len": 64, "block_size": 4} | flags)),
        cost=AffineCost(base_s=0.01, per_scheduled_token_s=token_s),
        num_gpu_blocks=1 + 3,
        exact_steps=True,
        check=True,
        moves=moves or FakeMoves(),
        num_host_blocks=host_blocks,
    )


def test_a_swapped_request_computes_nothing_again() -> None:
    result = two(preemption_mode="swap")
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.requests["wasted_tokens"].tolist() == [0, 0]
    moved = result.moved
    assert (moved.num_swaps, moved.num_swapped_out_blocks, moved.num_swapped_in_blocks) == (1, 1, 1)
    assert (moved.swapped_out_bytes, moved.swapped_in_bytes) == (1000, 1000)
    # out in step 2: 20 + 50 us; in in step 6: 20 + 100 us
    expected_s = np.full(9, 0.01)
    expected_s[1] += 70e-6
    expected_s[5] += 120e-6
    np.testing.assert_allclose(result.segments["duration_s"], expected_s, rtol=1e-12)
    assert moved.moving_ns == 190_000
    # step 6 is one more decode of the second: its token comes 4 steps and both swaps later
    assert result.gaps_s == pytest.approx([0.05 + 190e-6])


def test_a_recomputed_request_computes_all_again() -> None:
    result = two()
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.requests["wasted_tokens"].tolist() == [0, 4]
    assert result.moved.moving_ns == result.moved.num_swaps == 0
    assert result.num_steps == 9


def test_what_the_host_pool_does_not_hold_is_computed_again() -> None:
    """Prompts of 8 tokens are two blocks, one more than the host pool has."""
    trace = Columns(
        arrival_s=np.zeros(2), prompt_tokens=np.array([8, 8]), output_tokens=np.array([5, 5])
    )
    for host_blocks, wasted in ((1, 8), (2, 0)):
        result = simulate(
            trace,
            deployment=Deployment(max_model_len=64, block_size=4, preemption_mode="swap"),
            cost=AffineCost(base_s=0.01),
            num_gpu_blocks=1 + 5,
            check=True,
            moves=FakeMoves(),
            num_host_blocks=host_blocks,
        )
        assert result.requests["wasted_tokens"].tolist() == [0, wasted]
        assert result.moved.num_swaps == (wasted == 0)


@pytest.mark.parametrize(("block_ms", "extra_ms"), [(0.05, 0.0), (20, 20.02 - 10 + 40.02 - 10)])
def test_swaps_beside_the_step_take_what_is_longer(block_ms: float, extra_ms: float) -> None:
    moves = FakeMoves(per_swapped_block_ns=int(block_ms * 1e6))
    result = two(preemption_mode="swap", swap_overlap=True, moves=moves)
    busy_s = result.segments["duration_s"].sum()
    assert busy_s == pytest.approx(0.09 + extra_ms / 1e3, rel=1e-12)
    assert result.moved.moving_ns == pytest.approx(40_000 + 3 * block_ms * 1e6)  # hidden or not


def test_auto_takes_the_cheaper_for_each_victim() -> None:
    """Swap: 40 us + 3 ms a block there and back. Recompute: 10 ms + 0.1 ms a token, 4 in a block.

    They meet at 40 us + 3 b = 10 ms + 0.4 b, b = 3.83: three blocks are swapped, four are not.
    Beside somebody who decodes the 10 ms are spent anyhow, and no block is worth a swap.
    """
    batch = RunningBatch()
    swap = make_swap(
        Deployment(max_model_len=64, block_size=4, preemption_mode="auto"),
        cost=AffineCost(base_s=0.01, per_scheduled_token_s=1e-4),
        moves=FakeMoves(per_swapped_block_ns=1_000_000),
        batch=batch,
        num_host_blocks=100,
    )
    assert swap is not None
    assert [swap.takes(blocks, 4 * blocks) for blocks in range(6)] == [False, True, True, True] + [
        False
    ] * 2
    batch.num_decodes = 1
    assert not any(swap.takes(blocks, 4 * blocks) for blocks in range(6))


@pytest.mark.parametrize(("block_ns", "swapped"), [(50_000, 1), (20_000_000, 0)])
def test_auto_in_the_engine(block_ns: int, swapped: int) -> None:
    """Four tokens again are 0.4 ms beside the other's step; 0.19 ms or 60 ms there and back."""
    moves = FakeMoves(per_swapped_block_ns=block_ns)
    result = two(preemption_mode="auto", moves=moves, token_s=1e-4)
    assert result.moved.num_swaps == swapped
    assert result.requests["wasted_tokens"].tolist() == [0, 4 * (1 - swapped)]


def test_what_is_pinned_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a victim's 7 tokens 6 are pinned, in a block and a half: one block against one token."""
    asked: list[tuple[int, int]] = []
    original = Swap.takes

    def takes(swap: Swap, num_blocks: int, num_tokens: int, **more: int) -> bool:
        asked.append((num_blocks, num_tokens))
        return original(swap, num_blocks, num_tokens, **more)

    monkeypatch.setattr(Swap, "takes", takes)
    trace = Columns(
        arrival_s=np.zeros(2), prompt_tokens=np.array([7, 7]), output_tokens=np.array([6, 6])
    )
    simulate(
        trace,
        deployment=Deployment(
            max_model_len=64, block_size=4, preemption_mode="auto", pinned_prefix_tokens=6
        ),
        cost=AffineCost(base_s=0.01),
        num_gpu_blocks=1 + 2 + 3,
        moves=FakeMoves(),
        num_host_blocks=9,
    )
    assert asked == [(1, 8 - 6)]  # preempted with its first output's KV there


def test_the_first_engine_swaps_requests_of_several_sequences() -> None:
    """``swap_groups``: alone they are computed again."""
    result = two(preemption_mode="swap_groups")
    assert result.moved.num_swaps == 0
    assert result.requests["wasted_tokens"].tolist() == [0, 4]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@LAW
@given(data=st.data())
def test_the_ledger_of_swaps(scheduler: str, data: st.DataObject) -> None:
    """Out = in + dropped + resident at every step; nothing is resident in the end."""
    work = data.draw(workloads(allocator=ALLOCATORS[0], scheduler=scheduler))
    mode = data.draw(st.sampled_from(["swap", "auto", "swap_groups"]))
    deployment = replace(work.deployment, preemption_mode=mode, **PLAIN)
    with shadowed() as pools:  # its check() balances the ledger after each step
        result = replace(work, deployment=deployment).run(exact_steps=False)
    swap, moved = pools[0].swap, result.moved
    assert isinstance(swap, ShadowedSwap)
    assert not swap.resident
    assert moved.num_swapped_out_blocks == moved.num_swapped_in_blocks + swap.num_dropped
    if work.trace.cancel_s is None:
        assert swap.num_dropped == 0
    if mode == "swap" and not swap.num_refused and not result.moved.num_swaps:
        assert not result.requests["wasted_tokens"].any()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@LAW
@given(data=st.data())
def test_nothing_is_computed_twice_where_everything_is_swapped(
    scheduler: str, data: st.DataObject
) -> None:
    work = data.draw(workloads(allocator=ALLOCATORS[0], scheduler=scheduler))
    deployment = replace(work.deployment, preemption_mode="swap", **PLAIN)
    work = replace(work, deployment=deployment, num_host_blocks=1 << 20)
    result = work.run(exact_steps=False)
    preempted = result.requests["num_preemptions"]
    pinned = deployment.pinned_prefix_tokens
    if not pinned:  # a victim of pinned blocks only has nothing to swap
        assert result.moved.num_swaps == preempted.sum()
    assert not result.requests["wasted_tokens"].any()


@dataclass
class Told:
    """Moves that remember what they were asked."""

    moves: FakeMoves
    told_ns: list[float] = field(default_factory=list)

    @property
    def block_bytes(self) -> int:
        return self.moves.block_bytes

    def copy_ns(self, num_blocks: int) -> float:
        return self._tell(self.moves.copy_ns(num_blocks))

    def copy_bytes_ns(self, num_bytes: int) -> float:
        return self._tell(self.moves.copy_bytes_ns(num_bytes))

    def swap_ns(self, num_blocks: int, *, inward: bool = False) -> float:
        return self._tell(self.moves.swap_ns(num_blocks, inward=inward))

    def _tell(self, time_ns: float) -> float:
        self.told_ns.append(time_ns)
        return time_ns


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@LAW
@given(data=st.data())
def test_moves_take_exactly_their_time(scheduler: str, data: st.DataObject) -> None:
    """All come at once and nobody gives up, so that time changes nothing but itself."""
    kind = data.draw(st.sampled_from([ALLOCATORS[0], *ALLOCATORS]))
    work = data.draw(workloads(allocator=kind, scheduler=scheduler))
    n = len(work.trace.prompt_tokens)
    trace = replace(work.trace, arrival_s=np.zeros(n), parent=None, delay_s=None, cancel_s=None)
    deployment = replace(
        work.deployment,
        preemption_mode="swap" if kind[0] == "paged" else "recompute",
        swap_overlap=False,
        **PLAIN,
    )
    work = replace(work, trace=trace, deployment=deployment, concurrency=None)
    told = Told(work.moves)
    free, paid = (
        replace(work, moves=moves).run(exact_steps=False)
        for moves in (FakeMoves(per_copied_block_ns=0, per_swapped_block_ns=0), told)
    )
    assert paid.moved.num_swaps == free.moved.num_swaps
    assert paid.moved.num_copied_slots == free.moved.num_copied_slots
    assert paid.moved.moving_ns == sum(told.told_ns)
    busy_ns = [result.segments["duration_s"].sum() * 1e9 for result in (free, paid)]
    extra_ns = paid.moved.moving_ns - free.moved.moving_ns
    assert busy_ns[1] - busy_ns[0] == pytest.approx(extra_ns, rel=1e-6, abs=10)
