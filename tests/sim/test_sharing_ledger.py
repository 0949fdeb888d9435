"""Any operations in any order on a pool that sequences share: what each reads is its own.

Groups arrive, are admitted, compute their prompts in chunks, fork, decode one by one or in bulk,
change places as beams, end, are preempted and come back, on a pool that is always short. The oracle
of ``support.contents`` repeats every operation on blocks with tokens in them.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvsim.sim.batch import RunningBatch
from kvsim.sim.group import Group, sequences
from kvsim.sim.request import Request
from support.contents import ShadowedAllocator, ShadowedSwap

FEW = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=2_000, stateful_step_count=80, derandomize=False)


class Forks(RuleBasedStateMachine):
    """A scheduler that decides anything that it may."""

    @initialize(
        block_size=st.sampled_from([1, 2, 4]),
        blocks=st.sampled_from([12, 20, 40]),
        pinned=st.sampled_from([0, 0, 3, 4]),
        host_blocks=st.sampled_from([4, 100]),
    )
    def start(self, block_size: int, blocks: int, pinned: int, host_blocks: int) -> None:
        pins = -(-pinned // block_size)
        self.pool = ShadowedAllocator(
            num_gpu_blocks=1 + pins + blocks, block_size=block_size, pinned_prefix_tokens=pinned
        )
        self.batch = self.pool.batch = RunningBatch()
        self.swap = self.pool.swap = ShadowedSwap(host_blocks)
        self.waiting: list[Request] = []
        self.num_arrived = 0

    @precondition(lambda self: len(self.waiting) < 3)
    @rule(
        prompt=st.integers(1, 9),
        lengths=st.lists(st.integers(1, 16), min_size=1, max_size=4),
        search=st.booleans(),
    )
    def arrive(self, prompt: int, lengths: list[int], search: bool) -> None:
        """``search``: beams, all as long as the first."""
        if search:
            lengths = [lengths[0]] * len(lengths)
        members = []
        for sample, length in enumerate(lengths):
            one = Request(index=self.num_arrived, prompt_tokens=prompt, output_tokens=length)
            one.sample = sample
            members.append(one)
        self.num_arrived += 1
        if len(members) > 1:
            Group(members, survival=object() if search else None)  # type: ignore[arg-type]
        if not self.pool.why_never(members[0]):
            self.waiting.append(members[0])

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def admit(self, data: st.DataObject) -> None:
        head = self.waiting[data.draw(st.integers(0, len(self.waiting) - 1))]
        group = head.group
        found = head.swapped_tokens or self.pool.cached_tokens(head)
        chunk = head.known - found
        if data.draw(st.booleans()):
            chunk = data.draw(st.integers(1, chunk))
        if not self.pool.can_admit(head, found + chunk, others_run=False):
            return
        self.waiting.remove(head)
        self.pool.admit(head, found + chunk)
        self.batch.admit(head)
        head.computed = found
        self.batch.prefill_tokens += found
        for mate in sequences(head)[1:]:
            if head.swapped_tokens and group is not None and group.forked:
                self.batch.admit(mate)
            else:
                self.batch.admit_follower(mate)
        if head.swapped_tokens:
            self.swap.bring(head)
            head.swapped_tokens = 0
            if group is not None and group.forked:
                group.restore()
                for member in group.members:
                    member.computed = member.known - 1
                for mate in group.members[1:]:
                    self.batch.prefill_tokens += mate.computed
                for member in list(group.members):
                    self._compute(member, 1)
                return
        self._compute(head, chunk)

    @precondition(lambda self: self.batch.prefills)
    @rule(data=st.data())
    def prefill(self, data: st.DataObject) -> None:
        """The next chunk of somebody's prompt."""
        prefills = list(self.batch.prefills)
        one = prefills[data.draw(st.integers(0, len(prefills) - 1))]
        chunk = one.known - one.computed
        if data.draw(st.booleans()):
            chunk = data.draw(st.integers(1, chunk))
        if self.pool.extend(one, one.computed + chunk):
            self._compute(one, chunk)

    def _compute(self, request: Request, tokens: int) -> None:
        request.computed += tokens
        self.batch.prefill_tokens += tokens
        if request.computed < request.known:
            self.pool.check()
            return
        group = request.group
        decoders = [request]
        if group is not None and not group.forked:
            group.forked = True
            self.pool.fork(group)
            for one in group.members[1:]:
                one.computed = one.prompt_tokens
            decoders = list(group.members)
        elif group is not None and group.recovering:
            group.recovering = False
            self.pool.recovered(group)
            self.batch.prefill_tokens -= request.computed
            group.restore()
            for one in group.members:
                one.computed = one.known
            self.batch.prefill_tokens += request.computed
            decoders = list(group.members)
        for one in decoders:
            one.known += 1
            if one.known == one.total_tokens:
                self._end(one)
            else:
                self.batch.start_decoding(one)
                self.pool.start_decoding(one)
        self.pool.check()

    @precondition(lambda self: self.batch.num_decodes)
    @rule(data=st.data(), rounds=st.integers(1, 5))
    def decode(self, data: st.DataObject, rounds: int) -> None:
        for _ in range(rounds):
            if self.batch.num_decodes:
                self._decode(data, data.draw(st.integers(1, 6)))
            for group in list(self.batch.beams):
                if data.draw(st.booleans()):
                    self._reorder(group, data)

    def _decode(self, data: st.DataObject, steps: int) -> None:
        """Everybody a token, or several; in bulk or one after another, preempting who is last."""
        pool, batch = self.pool, self.batch
        several = not batch.beams and not pool.will_copy
        steps = min(steps, batch.next_end() - batch.step) if several else 1
        possible = pool.decode_steps(batch.step, steps)
        if possible and data.draw(st.booleans()):
            growths = pool.decode(batch.step, possible)
            assert sum(growth.slots for growth in growths) % pool.block_size == 0
            self._step(possible)
            return
        for one in list(batch.requests):
            while one in batch.requests and one.decoding:
                if pool.extend(one, one.known_at(batch.step)):
                    break
                assert not possible, "the whole step was said to fit"
                self._preempt(batch.last(), swap=data.draw(st.booleans()))
        if batch.num_decodes:
            self._step(1)

    def _step(self, steps: int) -> None:
        self.batch.step += steps
        self.pool.flush()
        for one in self.batch.ended() if self.batch.next_end() == self.batch.step else []:
            self._end(one)
        self.pool.check()

    def _reorder(self, group: Group, data: st.DataObject) -> None:
        """Beams go on from any others."""
        beam = st.integers(0, group.width - 1)
        parents = data.draw(st.lists(beam, min_size=group.width, max_size=group.width))
        before = {block for member in group.members for block in member.blocks}
        free = set(self.pool.free)
        tokens = group.members[0].known_at(self.batch.step) - 1
        self.pool.reorder(group, parents, tokens)
        after = {block for member in group.members for block in member.blocks}
        assert after <= before, "no beam needs a new block before it writes"
        pins = range(1, self.pool.contents.num_pinned_blocks + 1)
        assert set(self.pool.free) == free | (before - after - set(pins)), "dropped beams' return"

    @precondition(lambda self: self.batch.requests)
    @rule(data=st.data(), swap=st.booleans(), really=st.sampled_from([False, False, True]))
    def preempt(self, data: st.DataObject, swap: bool, really: bool) -> None:
        if not really:
            return
        running = list(self.batch.requests)
        self._preempt(running[data.draw(st.integers(0, len(running) - 1))], swap=swap)

    def _preempt(self, victim: Request, *, swap: bool) -> None:
        group, members = victim.group, list(sequences(victim))
        for one in members:
            self._leave(one)
        head = members[0]
        if group is not None and group.forked:
            if not group.recovering:
                group.kept = [one.known for one in members]
            self.pool.fold(group)
            assert group.folded is not None
            count = group.folded.num_blocks
            if swap and not group.recovering and self.swap.takes(count, 1):
                head.known = group.kept[0]
                head.swapped_tokens = head.known - 1
                self.swap.take(head, count)
            else:
                group.recovering = True
                head.known = group.num_lost
        else:
            count = self.pool.blocks_to_swap(head)
            if swap and self.swap.takes(count, 1):
                head.swapped_tokens = head.computed
                self.swap.take(head, count)
            self.pool.release(head)
        head.computed = 0
        self.waiting.append(head)
        self.pool.check()

    @precondition(lambda self: self.batch.requests)
    @rule(data=st.data(), really=st.sampled_from([False, False, False, False, True]))
    def cancel(self, data: st.DataObject, really: bool) -> None:
        """All sequences of a running request go."""
        if not really:
            return
        running = list(self.batch.requests)
        victim = running[data.draw(st.integers(0, len(running) - 1))]
        for one in list(sequences(victim)):
            self._end(one)
        self.pool.check()

    def _leave(self, request: Request) -> None:
        if request.decoding:
            self.pool.stop_decoding(request)
        self.batch.remove(request)

    def _end(self, request: Request) -> None:
        self._leave(request)
        self.pool.release(request)
        if request.group is not None:
            request.group.members.remove(request)

    @invariant()
    def pinned_blocks_stay(self) -> None:
        pool: Any = getattr(self, "pool", None)
        if pool is not None:
            pins = range(1, pool.contents.num_pinned_blocks + 1)
            assert not set(pins) & set(pool.free)

    @invariant()
    def a_group_is_here_or_there(self) -> None:
        """All of its sequences hold seats, or none does; nobody who waits holds a block."""
        for head in getattr(self, "waiting", ()):
            for one in sequences(head):
                assert one not in self.batch.requests
                assert not one.blocks


def test_any_operations_in_any_order() -> None:
    run_state_machine_as_test(Forks, settings=FEW)


@pytest.mark.slow
def test_very_many_operations_in_any_order() -> None:
    run_state_machine_as_test(Forks, settings=MANY)
