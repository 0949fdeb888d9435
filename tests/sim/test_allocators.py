"""Allocators and placements one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.sim.allocators import ContiguousAllocator, PagedAllocator
from kvsim.sim.allocators.base import Allocator
from kvsim.sim.allocators.placement import BestFit, Buddy, FirstFit, Placement, next_power_of_two
from kvsim.sim.request import Request


def request(prompt_tokens: int, output_tokens: int = 1, index: int = 0) -> Request:
    return Request(index=index, prompt_tokens=prompt_tokens, output_tokens=output_tokens)


def paged(**changes: object) -> PagedAllocator:
    return PagedAllocator(**{"num_gpu_blocks": 11, "block_size": 16} | changes)  # type: ignore[arg-type]


def contiguous(reservation: str, placement: str = "first_fit") -> ContiguousAllocator:
    return ContiguousAllocator(
        pool_slots=1000, max_model_len=256, reservation=reservation, placement=placement
    )


class TestPaged:
    def test_blocks_come_from_the_front_and_return_to_it(self) -> None:
        allocator, first, second = paged(), request(33), request(16)
        allocator.admit(first, 33)
        assert first.blocks == [1, 2, 3]
        allocator.admit(second, 16)
        allocator.release(first)
        allocator.check()
        third = request(20)
        allocator.admit(third, 20)
        assert third.blocks == [3, 2], "the tail block of the last one freed is the next to go"

    def test_null_block_is_never_handed_out(self) -> None:
        allocator, only = paged(), request(160)
        allocator.admit(only, 160)
        assert sorted(only.blocks) == list(range(1, 11))
        assert not allocator.extend(only, 161)

    def test_extend_takes_a_block_only_at_a_boundary(self) -> None:
        allocator, grown = paged(), request(16, 20)
        allocator.admit(grown, 16)
        assert allocator.extend(grown, 16)
        assert len(grown.blocks) == 1
        assert allocator.extend(grown, 17)
        assert len(grown.blocks) == 2

    def test_whole_sequence_gate(self) -> None:
        assert not paged().can_admit(request(161), 16, others_run=False)
        assert paged(reserve_full_isl=False).can_admit(request(161), 16, others_run=False)

    def test_watermark_holds_only_beside_others(self) -> None:
        allocator = paged(watermark=0.2)  # 2 of 11 blocks
        assert allocator.can_admit(request(160), 160, others_run=False)
        assert not allocator.can_admit(request(160), 160, others_run=True)
        assert allocator.can_admit(request(128), 128, others_run=True)

    def test_usage_tells_the_last_blocks_unused_slots(self) -> None:
        allocator, one = paged(), request(10, 3)  # fills 12 slots in the end
        allocator.admit(one, 10)
        usage = allocator.usage(blocked=False)
        assert (usage.held, usage.internal, usage.external) == (16, 4, 0)

    def test_watermark_counts_the_null_block(self) -> None:
        assert PagedAllocator(num_gpu_blocks=10, block_size=16, watermark=0.1).watermark_blocks == 1

    def test_blocks_of_one_step_go_out_in_order_of_admission(self) -> None:
        """The second began to decode first: it still gets its block after the first."""
        allocator = paged()
        one, two = request(16, 9, 0), request(16, 9, 1)
        for number, member in enumerate((one, two)):
            allocator.admit(member, 16)
            member.sequence, member.known, member.base = number, 17, 17
        allocator.start_decoding(two)
        allocator.start_decoding(one)
        allocator.decode(0, 1)
        assert (one.blocks, two.blocks) == ([1, 3], [2, 4])

    def test_why_never(self) -> None:
        assert paged().why_never(request(100, 61)) == ""
        assert paged().why_never(request(100, 62)) == "needs more than all 10 blocks of the pool"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"block_size": 0}, r"block_size\(=0\) must be > 0"),
            ({"num_gpu_blocks": 1}, r"num_gpu_blocks\(=1\) must be >= 2"),
            ({"watermark": 1.0}, r"watermark\(=1.0\) must be in \[0, 1\)"),
        ],
    )
    def test_wrong_arguments(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            paged(**changes)

    @given(
        offsets=st.lists(st.integers(0, 15), min_size=1, max_size=8),
        limit=st.integers(1, 100),
        num_gpu_blocks=st.integers(10, 60),
    )
    def test_decode_steps_is_the_most_that_single_steps_allow(
        self, offsets: list[int], limit: int, num_gpu_blocks: int
    ) -> None:
        steps, growths = {}, {}
        for how in ("at once", "one by one"):
            allocator = paged(num_gpu_blocks=num_gpu_blocks)
            for index, offset in enumerate(offsets):
                one = request(1 + offset, 1000, index)
                allocator.admit(one, one.known)
                one.known, one.base = one.known + 1, one.known + 1
                one.sequence = index
                allocator.start_decoding(one)
            if how == "at once":
                steps[how] = allocator.decode_steps(0, limit)
                growths[how] = sum(growth.slots for growth in allocator.decode(0, steps[how]))
            else:
                done = 0
                grown = 0
                while done < limit and allocator.decode_steps(done, 1):
                    grown += sum(growth.slots for growth in allocator.decode(done, 1))
                    done += 1
                steps[how], growths[how] = done, grown
            allocator.check()
        assert steps["at once"] == steps["one by one"]
        assert growths["at once"] == growths["one by one"]


class TestContiguous:
    def test_reservations(self) -> None:
        one = request(100, 60)
        assert contiguous("max").reserved_for(one) == 256
        assert contiguous("pow2").reserved_for(one) == 100 + 64
        assert contiguous("oracle").reserved_for(one) == 159
        assert contiguous("pow2").reserved_for(request(100, 150)) == 256, "never beyond the limit"

    def test_usage(self) -> None:
        allocator, one = contiguous("max"), request(100, 60)
        allocator.admit(one, 100)
        usage = allocator.usage(blocked=False)
        assert usage.held == 256
        assert usage.internal == 256 - 159
        assert usage.external == 744 % 256, "a hole below max_model_len is of use to nobody"
        assert allocator.usage(blocked=True).external == 744

    def test_buddy_rounding_is_external(self) -> None:
        allocator = contiguous("oracle", "buddy")
        allocator.admit(request(90, 11), 90)
        usage = allocator.usage(blocked=False)
        assert (usage.held, usage.internal, usage.external) == (100, 0, 28)

    def test_why_never(self) -> None:
        small = ContiguousAllocator(
            pool_slots=100, max_model_len=256, reservation="max", placement="buddy"
        )
        assert small.why_never(request(1)).endswith("than the 64 of the largest")

    @pytest.mark.parametrize(
        ("field", "value"), [("reservation", "min"), ("placement", "worst_fit")]
    )
    def test_unknown_names(self, field: str, value: str) -> None:
        arguments = {"reservation": "max", "placement": "buddy"} | {field: value}
        with pytest.raises(ValueError, match=rf"{field}\(='{value}'\) must be one of"):
            ContiguousAllocator(pool_slots=10, max_model_len=8, **arguments)


class TestPlacement:
    def test_first_fit_takes_the_lowest_hole_best_fit_the_smallest(self) -> None:
        for kind, expected in ((FirstFit, 0), (BestFit, 50)):
            placement = kind(100)
            for address, size in ((0, 30), (30, 20), (50, 20), (70, 30)):
                placement.take(address, size)
            placement.give(0, 30)
            placement.give(50, 20)
            assert placement.find(20) == expected, kind.__name__

    def test_buddies_join_again(self) -> None:
        placement = Buddy(64)
        addresses = []
        for _ in range(4):
            address = placement.find(16)
            assert address is not None
            placement.take(address, 16)
            addresses.append(address)
        assert addresses == [0, 16, 32, 48]
        for address in (16, 48, 0, 32):
            placement.give(address, 16)
        assert placement.holes() == [(0, 64)]

    def test_pool_that_is_no_power_of_two(self) -> None:
        placement = Buddy(15_728)
        assert sum(size for _, size in placement.holes()) == 15_728
        assert placement.unusable(2048) == 15_728 - 7 * 2048

    @pytest.mark.parametrize("kind", [Buddy, FirstFit, BestFit])
    @settings(deadline=None)
    @given(
        size=st.integers(1, 300),
        orders=st.lists(st.tuples(st.booleans(), st.integers(1, 80)), max_size=60),
    )
    def test_pieces_never_overlap(
        self, kind: type[Placement], size: int, orders: list[tuple[bool, int]]
    ) -> None:
        placement = kind(size)
        held: list[tuple[int, int]] = []
        for take, number in orders:
            if take:
                address = placement.find(number)
                if address is not None:
                    placement.take(address, number)
                    held.append((address, number))
            elif held:
                placement.give(*held.pop(number % len(held)))
            pieces = sorted([(a, placement.granted(n)) for a, n in held] + placement.holes())
            assert [a for a, _ in pieces] == [
                sum(n for _, n in pieces[:i]) for i in range(len(pieces))
            ]
            assert sum(n for _, n in pieces) == size
            assert placement.free_slots == sum(n for _, n in placement.holes())
        for address, number in held:
            placement.give(address, number)
        assert placement.holes() == kind(size).holes()

    @given(n=st.integers(1, 1 << 20))
    def test_next_power_of_two(self, n: int) -> None:
        power = next_power_of_two(n)
        assert power >= n > power // 2
        assert power & (power - 1) == 0


class OneSlotAtATime(PagedAllocator):
    """A new allocator as somebody would begin it: only the abstract methods."""

    start_decoding = Allocator.start_decoding
    stop_decoding = Allocator.stop_decoding
    needers = Allocator.needers
    decode_steps = Allocator.decode_steps
    decode = Allocator.decode


def test_a_new_allocator_is_right_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the fast methods the replica steps one by one and gets the same result."""
    import numpy as np

    from kvsim.sim import engine, simulation
    from kvsim.sim.deployment import Deployment
    from support.workloads import COSTS, Columns

    rng = np.random.default_rng(0)
    trace = Columns(
        arrival_s=np.sort(rng.uniform(0, 2, 60)),
        prompt_tokens=rng.integers(1, 200, 60),
        output_tokens=rng.integers(1, 100, 60),
    )
    deployment = Deployment(max_model_len=512)
    fast = simulation.simulate(
        trace, deployment=deployment, cost=COSTS["affine"], num_gpu_blocks=60
    )
    monkeypatch.setattr(engine, "PagedAllocator", OneSlotAtATime)
    slow = simulation.simulate(
        trace, deployment=deployment, cost=COSTS["affine"], num_gpu_blocks=60
    )
    assert fast.requests["num_preemptions"].sum() > 0
    np.testing.assert_array_equal(fast.requests["finish_s"], slow.requests["finish_s"])
