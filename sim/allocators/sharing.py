"""Paged KV cache whose blocks have several holders: samples, beams, a pinned prefix.

The PagedAttention paper, sections 4.4 and 4.5. Sequences of a group hold the blocks of what they
have in common together; every block counts its holders. A sequence that is to write into a block
which others hold copies it first (copy-on-write), so a block with more than one holder is never
written: of n holders n - 1 copy, the last one writes in place. Only the last, partial block of a
table is ever written, so only that one is copied.

A *pinned* prefix lies in the first blocks of the pool for good. Prompts that are longer begin with
it, hold its full blocks together and copy its last, partial one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..group import Folded, Group
from ..request import Request
from .base import Growth, Usage
from .layout import Blocks, BlockView, Layout, TokensOf, tokens_there
from .paged import PagedAllocator


class SharingAllocator(PagedAllocator):
    """Blocks with reference counts, without a prefix cache.

    Args:
        pinned_prefix_tokens: tokens with which every longer prompt begins, kept for good.
        **pool: as :class:`PagedAllocator`.

    Raises:
        ValueError: as :class:`PagedAllocator`; a pinned prefix that leaves no block.
    """

    def __init__(self, *, pinned_prefix_tokens: int = 0, **pool: Any) -> None:
        super().__init__(**pool)
        self.refs = [0] * self.num_gpu_blocks
        self.pinned_tokens = pinned_prefix_tokens
        if self.blocks_for(pinned_prefix_tokens) >= self.num_gpu_blocks - 1:
            raise ValueError(
                f"pinned_prefix_tokens(={pinned_prefix_tokens}) must leave blocks of the "
                f"{self.num_gpu_blocks - 1} of the pool."
            )
        self._num_pinned_blocks = self.blocks_for(pinned_prefix_tokens)
        pinned = super()._pop(self._num_pinned_blocks) if pinned_prefix_tokens else []
        self._pinned = pinned[: pinned_prefix_tokens // self.block_size]
        """Full ones."""
        self._shared = 0
        """Holders of blocks beside the first of each."""
        self._hidden = 0
        """Part of them in groups that compute again what they had: it is not there yet."""
        self._to_copy: dict[Request, None] = {}
        """Sequences whose next write goes into a block with several holders."""
        self._partial: dict[int, int] = {}
        """Filled slots of the blocks with several holders that are not full."""
        self._complete: dict[Request, None] = {}
        """Sequences that hold their last block."""

    @property
    def will_copy(self) -> bool:
        return bool(self._to_copy)

    def cached_tokens(self, request: Request) -> int:
        return self.pinned_tokens if request.prompt_tokens > self.pinned_tokens else 0

    def why_never(self, request: Request) -> str:
        usable = self.num_gpu_blocks - 1 - self._num_pinned_blocks
        if request.group is None:
            prompt, own = 0, [request.kv_tokens]
        else:
            prompt = request.prompt_tokens // self.block_size
            own = [member.kv_tokens for member in request.group.members]
            if max(own) == request.prompt_tokens:  # nobody writes what they share
                own = own[:1]
        needed = prompt + sum(self.blocks_for(tokens) - prompt for tokens in own)
        if needed - len(self._prefix_of(request)) <= usable:
            return ""
        return f"needs more than all {usable} blocks of the pool"

    def can_admit(self, request: Request, tokens: int, *, others_run: bool) -> bool:
        free = len(self.free) - (self.watermark_blocks if others_run else 0)
        folded = None if request.group is None else request.group.folded
        if folded is not None:
            return folded.num_blocks + folded.num_more <= free
        gate = request.known if self.reserve_full_isl else tokens
        return self.blocks_for(gate) - len(self._prefix_of(request)) <= free

    def admit(self, request: Request, tokens: int) -> None:
        group = request.group
        computes = self.cached_tokens(request) and not request.swapped_tokens
        if computes and self.pinned_tokens % self.block_size:
            self._count_copies(1)
        if group is not None and group.folded is not None:
            self._unfold(group, group.folded)
            return
        self._enter(request)
        prefix = self._prefix_of(request)
        self._hold(request, prefix)
        self._take(request, self.blocks_for(tokens) - len(prefix))

    def extend(self, request: Request, tokens: int) -> bool:
        self.taken = []
        if request.group is not None and request.group.recovering:
            return True
        count = self.blocks_for(tokens) - len(request.blocks)
        if count > 0:
            if count > len(self.free):
                return False
            self._take(request, count)
        elif request in self._to_copy:
            if self.refs[request.blocks[-1]] > 1 and not self.free:
                return False
            self._own_tail(request)
        assert self.refs[request.blocks[-1]] == 1, "a block with several holders is written"
        return True

    def blocks_to_swap(self, request: Request) -> int:
        return self.blocks_for(request.computed) - len(self._prefix_of(request))

    def release(self, request: Request) -> None:
        self._drop(request.blocks)
        request.blocks = []
        self._complete.pop(request, None)
        self._to_copy.pop(request, None)
        self._holders.pop(request, None)  # it may be waiting for its group to fork
        if request.group is not None and request.group.hidden:
            self.recovered(request.group)

    def fork(self, group: Group) -> None:
        first, *others = group.members
        for request in others:
            self._enter(request)
            self._hold(request, first.blocks)
        filled = first.prompt_tokens % self.block_size
        if filled:
            self._partial[first.blocks[-1]] = filled
            for request in group.members:
                if request.kv_tokens > first.prompt_tokens:  # else it never writes
                    self._to_copy[request] = None

    def reorder(self, group: Group, parents: list[int], tokens: int) -> None:
        members = group.members
        tables = [member.blocks for member in members]
        changed = [
            (member, parent)
            for place, (member, parent) in enumerate(zip(members, parents, strict=True))
            if place != parent
        ]
        dropped = [member.blocks for member, _ in changed]
        for member, parent in changed:
            self._hold(member, tables[parent])
        for blocks in dropped:
            self._drop(blocks)
        filled = tokens % self.block_size
        for member in members:
            if filled and self.refs[member.blocks[-1]] > 1:
                self._to_copy[member] = None
                self._partial[member.blocks[-1]] = filled
            else:
                self._to_copy.pop(member, None)

    def fold(self, group: Group) -> None:
        size = self.block_size
        numbers: dict[int, int] = {}
        fills: dict[int, int] = {}
        tables, num_more = [], 0
        holders: dict[int, int] = {}
        for member, known in zip(group.members, group.kept, strict=True):
            table = member.blocks[: self.blocks_for(known - 1)]
            for place, block in enumerate(table):
                fills[block] = max(fills.get(block, 0), min(size, known - 1 - place * size))
                if block > self._num_pinned_blocks:
                    numbers.setdefault(block, len(numbers))
            tables.append(tuple(numbers.get(block, -block) for block in table))
            if (known - 1) % size:
                holders[table[-1]] = holders.get(table[-1], 0) + 1
            else:
                num_more += 1
        num_more += sum(count - 1 for count in holders.values())
        group.folded = Folded(tuple(tables), len(numbers), num_more, sum(fills.values()))
        self.recovered(group)
        for member in group.members:
            self.release(member)

    def recovered(self, group: Group) -> None:
        self._hidden -= group.hidden
        group.hidden = 0

    def usage(self, *, blocked: bool) -> Usage:
        size = self.block_size
        shared = (self._shared - self._hidden) * size
        for block, filled in self._partial.items():
            shared -= (self.refs[block] - 1) * (size - filled)
        last = {request.blocks[-1]: request for request in self._complete}
        internal = sum(self._tail_slots(request) for request in last.values())
        used_pins = len(self._pinned) if self._pinned and self.refs[self._pinned[0]] else 0
        cached = (self._num_pinned_blocks - used_pins) * size
        held = self.pool_slots - len(self.free) * size - cached
        return Usage(held, internal, 0, cached, shared)

    def layout(
        self, tokens_of: TokensOf, *, blocked: bool, view_slots: int | None = None
    ) -> Layout:
        there = tokens_there(tokens_of, self.block_size)
        return super().layout(there, blocked=blocked, view_slots=view_slots)

    def needers(self, step: int) -> list[Request]:
        due = super().needers(step)
        if not self._to_copy:
            return due
        return sorted([*due, *self._to_copy], key=lambda request: request.sequence)

    def decode_steps(self, step: int, limit: int) -> int:
        if not self._to_copy:
            return super().decode_steps(step, limit)
        writers = Counter(request.blocks[-1] for request in self._to_copy)
        copies = sum(min(count, self.refs[block] - 1) for block, count in writers.items())
        return int(len(self._due[step % self.block_size]) + copies <= len(self.free))

    def decode(self, step: int, steps: int) -> list[Growth]:
        if self._to_copy:
            assert steps == 1, "blocks are copied in single steps"
            for request in self.needers(step):
                if request in self._to_copy:
                    self._own_tail(request)
                else:
                    self._take(request, 1)
            return []
        growths = []
        for offset in range(steps):
            members = super().needers(step + offset)
            if members:
                internal = 0
                for request in members:
                    self._take(request, 1)
                    if request in self._complete:
                        internal += self._tail_slots(request)
                growths.append(Growth(offset, len(members) * self.block_size, internal))
        return growths

    def check(self) -> None:
        refs: dict[int, int] = {}
        for request in self._holders:
            for block in request.blocks:
                refs[block] = refs.get(block, 0) + 1
            assert len(set(request.blocks)) == len(request.blocks), "a table has a block twice"
            last = len(request.blocks) == request.final_blocks
            assert last == (request in self._complete), f"{request} holds its last block: {last}"
        for block, count in refs.items():
            assert self.refs[block] == count, f"{self.refs[block]} references of {count} holders"
        pins = {*range(1, self._num_pinned_blocks + 1)}
        blocks = [*refs.keys() - pins, *pins, *self.free]
        usable = self.num_gpu_blocks - 1
        assert len(blocks) == usable, f"{len(refs)} held + {len(self.free)} free != {usable}"
        assert len(set(blocks)) == usable, "a block is owned twice"
        assert 0 not in set(blocks), "the null block was handed out"
        shared = sum(count - 1 for count in refs.values())
        assert shared == self._shared, f"{shared} shared, {self._shared} counted"
        for request in self._to_copy:
            assert request in self._holders, f"{request} would copy a block that it does not hold"
        for request in self._holders:
            tail = request.blocks[-1]
            if request.decoding and tail in self._partial and self.refs[tail] > 1:
                assert request in self._to_copy, f"{request} would write what others hold"
        for block in self._partial:
            assert self.refs[block] > 1, f"block {block} has one holder and counts as shared"

    def _enter(self, request: Request) -> None:
        request.final_blocks = self.blocks_for(request.kv_tokens)
        self._holders[request] = None

    def _prefix_of(self, request: Request) -> list[int]:
        return self._pinned if self.cached_tokens(request) else []

    def _hold(self, request: Request, blocks: list[int]) -> None:
        """The request's table becomes a copy of these blocks."""
        request.blocks = list(blocks)
        refs = self.refs
        for block in blocks:
            self._shared += refs[block] > 0
            refs[block] += 1
        self._note_complete(request)

    def _drop(self, blocks: list[int]) -> None:
        """One holder less of each; who has none goes to the front of the free queue."""
        refs, num_pinned = self.refs, self._num_pinned_blocks
        for block in blocks:
            refs[block] -= 1
            if refs[block]:
                self._shared -= 1
            elif block > num_pinned:
                self.free.append(block)
            if refs[block] < 2:
                self._partial.pop(block, None)

    def _take(self, request: Request, count: int) -> None:
        self.taken = self._pop(count) if count > 0 else []
        if count > 0:
            for block in self.taken:
                self.refs[block] = 1
            request.blocks += self.taken
            self._note_complete(request)

    def _note_complete(self, request: Request) -> None:
        if request.blocks and len(request.blocks) == request.final_blocks:
            self._complete[request] = None

    def _own_tail(self, request: Request) -> None:
        """The request's last block is its own from now on; a copy where others hold it."""
        del self._to_copy[request]
        tail = request.blocks[-1]
        if self.refs[tail] == 1:
            return
        self.refs[tail] -= 1
        if self.refs[tail] == 1:
            self._partial.pop(tail, None)
        self._shared -= 1
        self.taken = self._pop(1)
        request.blocks[-1] = self.taken[0]
        self.refs[self.taken[0]] = 1
        self._count_copies(1)

    def _count_copies(self, num_blocks: int) -> None:
        self.num_copied_blocks += num_blocks
        self.num_copied_slots += num_blocks * self.block_size

    def _unfold(self, group: Group, folded: Folded) -> None:
        """The group's blocks again, with room for the next token of each."""
        group.folded = None
        ids = self._pop(folded.num_blocks) if folded.num_blocks else []
        for member, table in zip(group.members, folded.tables, strict=True):
            self._enter(member)
            self._hold(member, [ids[number] if number >= 0 else -number for number in table])
        for member, known in zip(group.members, group.kept, strict=True):
            if self.blocks_for(known) > len(member.blocks):
                self._take(member, 1)
            elif self.refs[member.blocks[-1]] > 1:
                self._to_copy[member] = None
                self._own_tail(member)
        if group.recovering:
            held = [block for member in group.members for block in member.blocks]
            group.hidden = len(held) - len(set(held))
            self._hidden += group.hidden

    def _seen(self, num_blocks: int) -> Blocks:
        view = BlockView(num_blocks)
        for request in self._holders:
            view.take(request, request.blocks, 0)
        return view.blocks(num_blocks, self.block_size)

    def _cached_ids(self) -> list[int]:
        return [block for block in range(1, self._num_pinned_blocks + 1) if not self.refs[block]]
