"""What is in every slot of a pool that sequences share: an oracle for copy-on-write and swaps.

Every token has a name, and a block is a list of names. Nothing here counts references: a block's
holders are the tables that it is in. Whatever an allocator does, each sequence has to read its own
tokens through its block table, and a block may only be written while one table has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from kvsim.sim import engine, serving
from kvsim.sim.allocators import SharingAllocator
from kvsim.sim.allocators.base import Growth
from kvsim.sim.batch import RunningBatch
from kvsim.sim.deployment import Deployment
from kvsim.sim.group import Group
from kvsim.sim.request import Request
from kvsim.sim.schedulers import Scheduler
from kvsim.sim.swap import Swap

Token = tuple[object, ...]


class Contents:
    """Slots with the tokens in them, and the tokens that each sequence has had."""

    def __init__(self, block_size: int, pinned_tokens: int) -> None:
        self.block_size = block_size
        self.pinned: list[Token] = [("pinned", place) for place in range(pinned_tokens)]
        self.memory: dict[int, list[Token | None]] = {}
        self.history: dict[Request, list[Token]] = {}
        for place, token in enumerate(self.pinned):
            self._put(1 + place // block_size, place % block_size, token)

    def _put(self, block: int, offset: int, token: Token) -> None:
        self.memory.setdefault(block, [None] * self.block_size)[offset] = token

    def next_token(self, request: Request) -> Token:
        """The name of what the request computes next; a prompt is the same for all samples."""
        place = len(self.history[request])
        if place < request.prompt_tokens:
            return request.index, place
        return request.index, request.sample, place

    def write(self, request: Request, token: Token, holders: Counter[int]) -> None:
        """One token behind those that the request has, in the block that its table says."""
        place = len(self.history[request])
        block = request.blocks[place // self.block_size]
        assert holders[block] == 1, f"block {block} of {holders[block]} holders is written"
        assert block > self.num_pinned_blocks, f"pinned block {block} is written"
        self._put(block, place % self.block_size, token)
        self.history[request].append(token)

    def lay(self, request: Request, tokens: list[Token], start: int = 0) -> None:
        """Tokens come from elsewhere, from this place on: copied, or swapped in."""
        self.history[request] = list(tokens)
        for place in range(start, len(tokens)):
            block = request.blocks[place // self.block_size]
            self._put(block, place % self.block_size, tokens[place])

    def copy(self, source: int, target: int) -> None:
        self.memory[target] = list(self.memory[source])

    def slots_of(self, request: Request) -> list[tuple[int, int]]:
        """Block and offset of every token that the request has."""
        size = self.block_size
        return [
            (request.blocks[place // size], place % size)
            for place in range(len(self.history[request]))
        ]

    def verify(self) -> None:
        """Everybody reads what it wrote, and the pinned blocks are as they were."""
        for request, tokens in self.history.items():
            read = [self.memory[block][offset] for block, offset in self.slots_of(request)]
            assert read == tokens, f"{request}.{request.sample} reads {read}, wrote {tokens}"
        for place, token in enumerate(self.pinned):
            block, offset = 1 + place // self.block_size, place % self.block_size
            assert self.memory[block][offset] == token, f"pinned block {block} has changed"

    @property
    def num_pinned_blocks(self) -> int:
        return -(-len(self.pinned) // self.block_size)

    def filled(self) -> tuple[int, int]:
        """Tokens of all sequences, and the different slots that they lie in."""
        slots = [slot for request in self.history for slot in self.slots_of(request)]
        return len(slots), len(set(slots))


class ShadowedAllocator(SharingAllocator):
    """A :class:`SharingAllocator` whose every operation is repeated on :class:`Contents`."""

    def __init__(self, **pool: Any) -> None:
        super().__init__(**pool)
        self.contents = Contents(self.block_size, self.pinned_tokens)
        self.batch: RunningBatch
        self.swap: Swap | None = None
        self.saved: dict[Request, list[Token]] = {}
        """Of preempted sequences."""
        self.numbered: dict[Group, set[tuple[int, int]]] = {}
        """Of preempted groups: which member and place had the same block as which other."""
        self.num_writes = 0
        self.most_holders = 1

    def admit(self, request: Request, tokens: int) -> None:
        contents, group, copied = self.contents, request.group, self.num_copied_blocks
        folded = None if group is None else group.folded
        pinned = contents.pinned if request.prompt_tokens > self.pinned_tokens else []
        start = self.pinned_tokens // self.block_size * self.block_size if pinned else 0
        super().admit(request, tokens)
        if group is None or folded is None:
            found = self.saved.pop(request) if request.swapped_tokens else pinned
            contents.lay(request, found, start)
            copies = int(start < len(pinned) and not request.swapped_tokens)
        else:
            self._as_before(group)
            copies = int(start < len(pinned) and group.recovering)
            ends = Counter(
                (table[-1], known)
                for table, known in zip(folded.tables, group.kept, strict=True)
                if (known - 1) % self.block_size
            )
            copies += sum(count - 1 for count in ends.values())
            if group.recovering:
                contents.lay(request, pinned, start)
            else:
                for member in group.members:
                    contents.lay(member, self.saved.pop(member), start)
        assert self.num_copied_blocks == copied + copies, "copies made and counted differ"

    def _as_before(self, group: Group) -> None:
        """The members share the full blocks that they shared before; nobody else's are in them."""
        size = self.block_size
        full = [known - 1 - (known - 1) % size for known in group.kept]
        tables = [one.blocks[: n // size] for one, n in zip(group.members, full, strict=True)]
        assert _alike(tables) == self.numbered.pop(group), "who shares what has changed"

    def extend(self, request: Request, tokens: int) -> bool:
        with self._copying([request]):
            return super().extend(request, tokens)

    def decode(self, step: int, steps: int) -> list[Growth]:
        with self._copying(list(self._holders)):
            return super().decode(step, steps)

    @contextmanager
    def _copying(self, requests: list[Request]) -> Iterator[None]:
        """Where another block takes the place of one in a table, its content has been copied."""
        before = [list(request.blocks) for request in requests]
        copied = self.num_copied_blocks
        yield
        replaced = [
            pair
            for request, blocks in zip(requests, before, strict=True)
            for pair in zip(blocks, request.blocks, strict=False)
            if pair[0] != pair[1]
        ]
        for source, target in replaced:
            self.contents.copy(source, target)
        assert self.num_copied_blocks == copied + len(replaced), "copies made and counted differ"

    def fork(self, group: Group) -> None:
        self.flush()
        super().fork(group)
        first, *others = group.members
        for other in others:
            self.contents.history[other] = list(self.contents.history[first])
        self.contents.verify()

    def reorder(self, group: Group, parents: list[int], tokens: int) -> None:
        self.flush()
        history = self.contents.history
        before = [history[member] for member in group.members]
        assert {len(one) for one in before} == {tokens}
        super().reorder(group, parents, tokens)
        for member, parent in zip(group.members, parents, strict=True):
            history[member] = list(before[parent])
        self.contents.verify()

    def fold(self, group: Group) -> None:
        if not group.recovering:
            for member, known in zip(group.members, group.kept, strict=True):
                self.saved[member] = list(self.contents.history[member])
                assert len(self.saved[member]) == known - 1, "what is computed is kept"
        size = self.block_size
        tables = [one.blocks for one in group.members]
        full = [(known - 1) // size for known in group.kept]
        self.numbered[group] = _alike([t[:n] for t, n in zip(tables, full, strict=True)])
        blocks = {
            block
            for table, known in zip(tables, group.kept, strict=True)
            for block in table[: self.blocks_for(known - 1)]
            if block > self.contents.num_pinned_blocks
        }
        super().fold(group)
        assert group.folded is not None
        assert group.folded.num_blocks == len(blocks), "all blocks are swapped, once each"

    def recovered(self, group: Group) -> None:
        super().recovered(group)
        if group.folded is None and group.kept and not group.recovering:
            written: dict[tuple[int, int], Token] = {}
            for member in group.members:  # each block is written by whoever computes it first
                tokens = self.saved.pop(member)
                self.contents.lay(member, tokens, self._pinned_slots(member))
                for slot, token in zip(self.contents.slots_of(member), tokens, strict=True):
                    assert written.setdefault(slot, token) == token, "two tokens for one slot"

    def _pinned_slots(self, request: Request) -> int:
        return len(self._prefix_of(request)) * self.block_size

    def release(self, request: Request) -> None:
        tokens = self.contents.history.pop(request, [])
        if (request.swapped_tokens and request.group is None) or not self._forked(request):
            self.saved[request] = tokens
        super().release(request)

    def _forked(self, request: Request) -> bool:
        return request.group is not None and request.group.forked

    def flush(self) -> None:
        """All that has been computed by now is written."""
        history = self.contents.history
        holders = self._holders_of()
        for request in self._holders:
            if request.group is not None and request.group.recovering:
                continue
            done = request.base + self.batch.step - 1 if request.decoding else request.computed
            while len(history[request]) < done:
                self.contents.write(request, self.contents.next_token(request), holders)
                self.num_writes += 1

    def _holders_of(self) -> Counter[int]:
        found = Counter(block for request in self._holders for block in request.blocks)
        self.most_holders = max(self.most_holders, *found.values(), 1)
        return found

    def check(self) -> None:
        super().check()
        self.flush()
        self.contents.verify()
        for block, count in self._holders_of().items():
            assert self.refs[block] == count, f"{self.refs[block]} references of {count} holders"
        tokens, slots = self.contents.filled()
        usage = self.usage(blocked=False)
        assert usage.shared == tokens - slots, f"{usage.shared} shared, not {tokens - slots}"
        if self.swap is not None:
            self.swap.check()


def _alike(tables: list[list[int]]) -> set[tuple[int, int]]:
    """``(member, place) -> first member`` that has this block there, as numbers."""
    return {
        (member * 1000 + place, next(i for i, other in enumerate(tables) if block in other))
        for member, table in enumerate(tables)
        for place, block in enumerate(table)
    }


class ShadowedSwap(Swap):
    """A host pool with a ledger of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resident: dict[Request, int] = {}
        self.num_dropped = 0
        self.num_refused = 0

    def takes(self, num_blocks: int, num_tokens: int, *, num_sequences: int = 1) -> bool:
        taken = super().takes(num_blocks, num_tokens, num_sequences=num_sequences)
        if sum(self.resident.values()) + num_blocks > self.num_blocks:
            assert not taken, "more than the host pool holds"
            self.num_refused += 1
        return taken

    def take(self, request: Request, num_blocks: int) -> None:
        assert request not in self.resident, "it is there already"
        self.resident[request] = num_blocks
        super().take(request, num_blocks)

    def bring(self, request: Request) -> None:
        self.num_dropped -= self.resident[request]
        super().bring(request)

    def drop(self, request: Request) -> None:
        self.num_dropped += self.resident.pop(request)
        super().drop(request)

    def check(self) -> None:
        super().check()
        resident = sum(self.resident.values())
        assert self.num_used == resident
        assert self.num_out_blocks == self.num_in_blocks + self.num_dropped + resident


@contextmanager
def shadowed() -> Iterator[list[ShadowedAllocator]]:
    """Simulations in here run on shadowed pools; the list fills with their allocators."""
    made: list[ShadowedAllocator] = []

    def scheduler_of(
        deployment: Deployment, allocator: Any, batch: RunningBatch, **kwargs: Any
    ) -> Scheduler:
        allocator.batch, allocator.swap = batch, kwargs["swap"]
        made.append(allocator)
        return engine.make_scheduler(deployment, allocator, batch, **kwargs)

    with (
        mock.patch.object(engine, "SharingAllocator", ShadowedAllocator),
        mock.patch.object(engine, "PagedAllocator", ShadowedAllocator),
        mock.patch.object(engine, "Swap", ShadowedSwap),
        mock.patch.object(serving, "make_scheduler", scheduler_of),
    ):
        yield made
