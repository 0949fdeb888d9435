"""Paged KV cache with transformers' block sharing (5.23, ``continuous_batching/cache_allocators``).

A full block is listed under its content when the step that filled it has ended. Who then holds
another block of the same content gives it back and holds the listed one; a prompt that begins with
listed blocks shares them. A listed block that its last holder leaves stays, *cached*: it counts as
used, nothing is written over it, and all cached blocks are given back at once when less than the
safety margin is free or somebody finds no block. What a request fills in its last step is not
listed (``mark_complete_blocks`` comes after the request's status).

Block ids do not matter to any decision here, only how many are free; so a request that alone leads
through what it decodes lists its blocks when it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..content import Path
from ..request import Request
from .base import Usage
from .layout import Blocks
from .paged import PagedAllocator


class DeduplicatingAllocator(PagedAllocator):
    """Blocks that are shared by content, and cached until anybody lacks memory.

    Args:
        num_gpu_blocks: blocks of the pool, the null block included.
        block_size: tokens per block.
        safety_margin: share of the blocks below which the cached ones are given back.

    Raises:
        ValueError: as :class:`PagedAllocator`.
    """

    def __init__(self, *, num_gpu_blocks: int, block_size: int, safety_margin: float) -> None:
        super().__init__(
            num_gpu_blocks=num_gpu_blocks, block_size=block_size, reserve_full_isl=False
        )
        usable = num_gpu_blocks - 1
        self._floor = next(n for n in range(usable + 1) if n / usable >= safety_margin)
        """Fewest free blocks that meet the margin."""
        self._block_of: dict[int, int] = {}
        """Listed blocks by content."""
        self._content_of: dict[int, int] = {}
        self._cached: dict[int, None] = {}
        """Listed blocks that nobody holds."""
        self._more_holders: dict[int, int] = {}
        """Of a listed block beside the first, where it has several."""
        self._num_shared = 0
        self._listed: dict[Request, int] = {}
        """Leading blocks of each request that are listed."""
        self._decoded: dict[Request, None] = {}
        """Requests whose prompt is done."""
        self._writers: dict[Request, None] = {}
        """Decoding where somebody else's path leads."""

    @property
    def shares_blocks(self) -> bool:
        return True

    def cached_tokens(self, request: Request) -> int:
        return len(self._match(request)) * self.block_size

    def can_admit(self, request: Request, tokens: int, *, others_run: bool) -> bool:
        return self.blocks_for(tokens) - len(self._match(request)) <= len(self.free)

    def admit(self, request: Request, tokens: int) -> None:
        found = self._match(request)
        for block in found:
            self._hold(block)
        request.blocks = found
        self._listed[request] = len(found)
        request.final_blocks = self.blocks_for(request.kv_tokens)
        self._holders[request] = None
        self._take(request, self.blocks_for(tokens) - len(found))

    def release(self, request: Request) -> None:
        blocks = request.blocks
        if len(blocks) == request.final_blocks:
            self._internal_slots -= self._tail_slots(request)
        self.free.extend([block for block in blocks if self._let_go(block)])
        request.blocks = []
        del self._holders[request], self._listed[request]
        self._decoded.pop(request, None)

    def unlist(self, request: Request) -> None:
        for block in request.blocks:
            if block in self._content_of and block not in self._more_holders:
                self._strike(block)

    def evict_cached(self) -> bool:
        cached, self._cached = self._cached, {}
        for block in cached:
            self._strike(block)
        self.free.extend(cached)
        self.num_evicted_blocks += len(cached)
        return bool(cached)

    def start_decoding(self, request: Request) -> None:
        super().start_decoding(request)
        self._decoded[request] = None
        if _leads_through(request.path, self.block_size) > request.prompt_tokens:
            self._writers[request] = None

    def stop_decoding(self, request: Request) -> None:
        super().stop_decoding(request)
        self._writers.pop(request, None)

    def learn(self, request: Request, tokens: int) -> None:
        if tokens >= request.kv_tokens:  # it has ended
            if request not in self._decoded:
                return
            tokens -= 1
        self._list(request, tokens // self.block_size)

    def catch_up(self, step: int) -> None:
        for request in self._writers:
            self._list(request, (request.known_at(step) - 1) // self.block_size)

    def decode_steps(self, step: int, limit: int) -> int:
        if self._writers:
            return 0
        if not self._cached:
            return super().decode_steps(step, limit)
        spare = len(self.free) - self._floor
        if spare < 0:
            return 0  # what is cached goes first
        within = self._steps_on(step, limit, spare) + 1
        return min(within, super().decode_steps(step, limit))

    def usage(self, *, blocked: bool) -> Usage:
        size, cached = self.block_size, len(self._cached)
        held = self.pool_slots - (len(self.free) + cached) * size
        return Usage(held, self._internal_slots, 0, cached * size, self._num_shared * size)

    def check(self) -> None:
        holders: dict[int, int] = {}
        for request in self._holders:
            assert len(set(request.blocks)) == len(request.blocks), "a table has a block twice"
            for block in request.blocks:
                holders[block] = holders.get(block, 0) + 1
        listed = set(self._block_of.values())
        for block, count in holders.items():
            more = self._more_holders.get(block, 0)
            assert count == more + 1, f"{count} hold block {block}, {more + 1} counted"
            assert count == 1 or block in listed, "an unlisted block is shared"
        assert self._num_shared == sum(self._more_holders.values()), "shared blocks and counted"
        assert {v: k for k, v in self._block_of.items()} == self._content_of, "lists differ"
        assert all(block in listed for block in self._cached), "a cached block is not listed"
        usable, cached = self.num_gpu_blocks - 1, len(self._cached)
        blocks = [*holders, *self._cached, *self.free]
        sums = f"{len(holders)} held + {cached} cached + {len(self.free)} free != {usable}"
        assert len(blocks) == usable, sums
        assert len(set(blocks)) == usable, "a block is owned twice"
        assert 0 not in blocks, "the null block was handed out"

    def _seen(self, num_blocks: int) -> Blocks:
        blocks = super()._seen(num_blocks)
        self._view = None  # blocks change holders: look again the next time
        return blocks

    def _cached_ids(self) -> Iterable[int]:
        return self._cached

    def _match(self, request: Request) -> list[int]:
        """Listed blocks that a waiting request begins with, leaving one token to compute."""
        path = request.path
        if request.swapped_tokens or not path or path[0].number not in self._block_of:
            return []
        found = []
        for _, content in _contents(request.path, 0, (request.known - 1) // self.block_size):
            block = self._block_of.get(content)
            if block is None:
                break
            found.append(block)
        return found

    def _list(self, request: Request, full: int) -> None:
        """So many leading blocks of a request are full and computed."""
        first = self._listed[request]
        if full <= first:
            return
        blocks = request.blocks
        for place, content in _contents(request.path, first, full):
            mine = blocks[place]
            other = self._block_of.setdefault(content, mine)
            if other == mine:
                self._content_of[mine] = content
            else:
                self._hold(other)
                blocks[place] = other
                self.free.append(mine)
        self._listed[request] = full

    def _hold(self, block: int) -> None:
        if block in self._cached:
            del self._cached[block]
        else:
            self._more_holders[block] = self._more_holders.get(block, 0) + 1
            self._num_shared += 1

    def _let_go(self, block: int) -> bool:
        """One holder less; whether the block is free."""
        more = self._more_holders.get(block, 0)
        if more:
            self._num_shared -= 1
            if more == 1:
                del self._more_holders[block]
            else:
                self._more_holders[block] = more - 1
            return False
        if block not in self._content_of:
            return True
        self._cached[block] = None
        return False

    def _strike(self, block: int) -> None:
        del self._block_of[self._content_of.pop(block)]


def _contents(path: Path, first: int, stop: int) -> Iterator[tuple[int, int]]:
    """Places of blocks on a path, with the numbers of their contents."""
    for segment in path:
        for place in range(max(first, segment.first), min(stop, segment.stop)):
            yield place, segment.number + place


def _leads_through(path: Path, block_size: int) -> int:
    """Tokens up to the last block in which somebody else's path runs along."""
    return max((segment.stop for segment in path if segment.shared), default=0) * block_size
