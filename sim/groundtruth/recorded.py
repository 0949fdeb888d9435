"""Allocators and a host pool that write down which block goes where.

The ledger itself needs no such list: it counts. An engine with real KV in its blocks has to copy
what the ledger says is copied, and to move what it says is swapped, in this order.
"""

from __future__ import annotations

from typing import Any

from ...calibration.engine.steps import Move
from ..allocators import CachingAllocator, PagedAllocator, SharingAllocator
from ..deployment import Deployment
from ..group import Folded, Group
from ..request import Request
from ..swap import Swap


class HostPool:
    """Ids of host blocks, the lowest free ones first: neighbours go in one transfer."""

    def __init__(self, num_blocks: int) -> None:
        self._free = list(range(num_blocks))
        self._held: dict[Request, list[int]] = {}

    def take(self, request: Request, count: int) -> list[int]:
        """So many blocks for what a request had."""
        self._held[request] = taken = self._free[:count]
        del self._free[:count]
        assert len(taken) == count, f"{count} host blocks wanted, {len(taken)} free"
        return taken

    def of(self, request: Request) -> list[int]:
        """What it has there."""
        return self._held[request]

    def drop(self, request: Request) -> None:
        """They are free again."""
        self._free = sorted(self._free + self._held.pop(request))


class Journal:
    """The moves since it was last read, and where things lie in host memory."""

    def __init__(self, num_host_blocks: int = 0) -> None:
        self.host = HostPool(num_host_blocks)
        self._moves: list[Move] = []

    def note(self, kind: Any, source: int, target: int) -> None:
        """One block goes elsewhere."""
        self._moves.append(Move(kind, source, target))

    def read(self) -> list[Move]:
        """What has been noted; the list is empty afterwards."""
        moves, self._moves = self._moves, []
        return moves


class RecordedPaged(PagedAllocator):
    """A :class:`PagedAllocator` whose swapped requests come back block by block."""

    def __init__(self, journal: Journal, **pool: Any) -> None:
        super().__init__(**pool)
        self._journal = journal

    def admit(self, request: Request, tokens: int) -> None:
        super().admit(request, tokens)
        if request.swapped_tokens:
            for source, target in zip(self._journal.host.of(request), request.blocks, strict=False):
                self._journal.note("in", source, target)


class RecordedSharing(SharingAllocator):
    """A :class:`SharingAllocator` that notes copies, and the blocks of preempted groups."""

    def __init__(self, journal: Journal, **pool: Any) -> None:
        super().__init__(**pool)
        self._journal = journal
        self._unfolding: Request | None = None
        self._numbered: Folded | None = None
        self._brought: set[int] = set()
        self._member = 0

    folded_ids: tuple[int, ...] = ()
    """Of the group that was folded last: its blocks, in the order of their numbers."""

    def admit(self, request: Request, tokens: int) -> None:
        folded = None if request.group is None else request.group.folded
        if folded is not None and request.swapped_tokens:
            self._unfolding, self._numbered = request, folded
            self._member, self._brought = 0, set()
        super().admit(request, tokens)
        self._unfolding = self._numbered = None
        if folded is None and request.swapped_tokens:
            for source, target in zip(self._journal.host.of(request), request.blocks, strict=False):
                self._journal.note("in", source, target)

    def fold(self, group: Group) -> None:
        ids: dict[int, None] = {}
        for member, known in zip(group.members, group.kept, strict=True):
            ids |= dict.fromkeys(member.blocks[: self.blocks_for(known - 1)])
        self.folded_ids = tuple(ids)
        super().fold(group)

    def _hold(self, request: Request, blocks: list[int]) -> None:
        super()._hold(request, blocks)
        if self._unfolding is None or self._numbered is None:
            return
        host = self._journal.host.of(self._unfolding)
        for number, block in zip(self._numbered.tables[self._member], blocks, strict=True):
            if number not in self._brought:
                self._brought.add(number)
                self._journal.note("in", host[number], block)
        self._member += 1

    def _own_tail(self, request: Request) -> None:
        before = request.blocks[-1]
        super()._own_tail(request)
        if request.blocks[-1] != before:
            self._journal.note("copy", before, request.blocks[-1])


class RecordedSwap(Swap):
    """A :class:`Swap` that notes what leaves the GPU."""

    def __init__(self, num_blocks: int, journal: Journal, allocator: Any, **kwargs: Any) -> None:
        super().__init__(num_blocks, **kwargs)
        self._journal = journal
        self._allocator = allocator

    def take(self, request: Request, num_blocks: int) -> None:
        super().take(request, num_blocks)
        forked = request.group is not None and request.group.folded is not None
        ids = self._allocator.folded_ids if forked else request.blocks[:num_blocks]
        host = self._journal.host.take(request, num_blocks)
        for source, target in zip(ids, host, strict=True):
            self._journal.note("out", source, target)

    def drop(self, request: Request) -> None:
        super().drop(request)
        self._journal.host.drop(request)


def recorded_allocator(
    deployment: Deployment, num_gpu_blocks: int, journal: Journal, *, sharing: bool
) -> RecordedPaged | RecordedSharing | CachingAllocator:
    """The allocator that a deployment names; a prefix cache moves nothing."""
    pool: dict[str, Any] = {
        "num_gpu_blocks": num_gpu_blocks,
        "block_size": deployment.block_size,
        "watermark": deployment.watermark,
        "reserve_full_isl": deployment.scheduler_reserve_full_isl,
    }
    if sharing:
        return RecordedSharing(journal, **pool)
    if deployment.enable_prefix_caching:
        return CachingAllocator(**pool)
    return RecordedPaged(journal, **pool)
