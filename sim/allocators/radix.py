"""Radix-tree prefix cache with token granularity, as SGLang's ``RadixCache`` with page size 1.

One tree of tokens (see ``content``, cut at every token) says what is cached: of each segment a
leading part, and of a child segment only if all of its parent is. A request *locks* the path to the
last token it found there or put there. Of the pool's slots

    held   = sum over requests of tokens granted - shared
    shared = sum over locked tokens of (locks - 1)
    cached = tokens of the tree without locks                      evictable, all of them
    free   = pool - held - cached

so a token that two requests computed costs a slot only until the second of them reaches the tree.
What a step has computed of prompts enters the tree at its end, outputs when their request finishes;
a preempted or cancelled request leaves in the tree what it had there and frees the rest.

Admission, insertion and finish *touch* the path from its root: it becomes the most recent. So a
parent is never less recent than its child, nor has it fewer locks, and the least recent leaf
without locks is the next by (last touch, deepest first): a heap gives it.

SGLang differs (``mem_cache/radix_cache.py``): it evicts whole nodes, here a leaf loses single
tokens from its tail; it touches at every lookup, and all of a node of which it matched a part; and
its overlap scheduler finds a prompt's end one batch later than ``async_scheduling`` does here.
Slots are only counted here, so nothing has an address (:meth:`Allocator.layout`).
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import pairwise

from ..content import Segment
from ..request import Request
from .base import Allocator, Growth, Usage
from .paged import check_pool

_FEW_ENTRIES = 64


class Run:
    """Tokens ``first`` to ``stop`` of a segment, with the same locks and the same last touch."""

    __slots__ = ("first", "locks", "segment", "stamp", "stop")

    def __init__(self, segment: Segment, first: int, stop: int, locks: int, stamp: int) -> None:
        self.segment = segment
        self.first = first
        self.stop = stop
        self.locks = locks
        """Requests that hold it."""
        self.stamp = stamp
        """Time of its last touch, in touches."""

    def __repr__(self) -> str:
        return f"Run({self.first}, {self.stop}, locks={self.locks}, stamp={self.stamp})"


_Entry = tuple[int, int, Run]
"""Last touch, minus the first token, run: of one touch there is one chain of runs."""


class RadixAllocator(Allocator):
    """Token slots, shared by content.

    Args:
        num_gpu_blocks: blocks of the pool; the memory is that of :class:`PagedAllocator`, whose
            null block is not used.
        block_size: tokens per block.
        watermark: share of the slots kept free when a request is admitted beside others.
        reserve_full_isl: admit only if all known tokens would fit now (a test, not a reservation).

    Raises:
        ValueError: fewer than two blocks, a block size below 1, a watermark outside [0, 1).
    """

    def __init__(
        self,
        *,
        num_gpu_blocks: int,
        block_size: int,
        watermark: float = 0.0,
        reserve_full_isl: bool = True,
    ) -> None:
        super().__init__()
        check_pool(num_gpu_blocks, block_size, watermark)
        self.pool_slots = (num_gpu_blocks - 1) * block_size
        self.reserve_full_isl = reserve_full_isl
        self.watermark_slots = int(watermark * self.pool_slots)
        self.num_cached = 0
        """Tokens of the tree without locks."""
        self._granted: dict[Request, int] = {}
        """Tokens that each holder has room for; a decoding one has ``_rounds`` more."""
        self._depth: dict[Request, int] = {}
        """Leading part of them that is in the tree, locked by the holder."""
        self._rounds = 0
        """Steps in which all decoding requests took a slot at once."""
        self._num_granted = 0
        self._num_locks = 0
        """Sum of ``_depth``: locked tokens, each as often as it is locked."""
        self._num_locked = 0
        self._parents: dict[Segment, Segment | None] = {}
        """Segments with tokens in the tree."""
        self._queue: list[_Entry] = []
        """A heap of the runs without locks, with entries that no longer hold."""
        self._most_entries = _FEW_ENTRIES
        self._clock = 0
        self._changes = 0
        self._memo: tuple[Request, int, int, tuple[int, int]] | None = None

    @property
    def num_shared(self) -> int:
        """Slots that requests hold beside the first of them."""
        return self._num_locks - self._num_locked

    @property
    def num_available(self) -> int:
        """Slots that can be taken: those that are free and those that hold evictable tokens."""
        return self.pool_slots - self._num_granted + self.num_shared

    @property
    def num_free(self) -> int:
        """Slots that hold nothing."""
        return self.num_available - self.num_cached

    def cached_tokens(self, request: Request) -> int:
        return self._find(request)[0]

    def why_never(self, request: Request) -> str:
        if request.kv_tokens <= self.pool_slots:
            return ""
        return f"needs more than all {self.pool_slots} slots of the pool"

    def can_admit(self, request: Request, tokens: int, *, others_run: bool) -> bool:
        available = self.num_available - (self.watermark_slots if others_run else 0)
        found, evictable = self._find(request)
        gate = request.known if self.reserve_full_isl else tokens
        return gate - found + evictable <= available

    def admit(self, request: Request, tokens: int) -> None:
        found = self._find(request)[0]
        self._granted[request] = tokens
        self._depth[request] = 0
        self._lock(request, found)
        self._grant(tokens)

    def extend(self, request: Request, tokens: int) -> bool:
        more = tokens - self._granted[request]
        if request in self.decoders:
            more -= self._rounds
        if more > self.num_available:
            return False
        if more > 0:
            self._granted[request] += more
            self._grant(more)
        return True

    def release(self, request: Request) -> None:
        self._changes += 1
        self._num_granted -= self._granted.pop(request)
        depth = self._depth.pop(request)
        self._num_locks -= depth
        for segment in request.path:
            if segment.first >= depth:
                break
            for run in segment.runs:
                if run.first >= depth:
                    break
                run.locks -= 1
                if not run.locks:
                    self._num_locked -= run.stop - run.first
                    self.num_cached += run.stop - run.first
                    self._enqueue(run)

    def usage(self, *, blocked: bool) -> Usage:
        shared = self.num_shared
        return Usage(self._num_granted - shared, 0, 0, self.num_cached, shared)

    def start_decoding(self, request: Request) -> None:
        super().start_decoding(request)
        self._granted[request] -= self._rounds

    def stop_decoding(self, request: Request) -> None:
        super().stop_decoding(request)
        self._granted[request] += self._rounds

    def learn(self, request: Request, tokens: int) -> None:
        if not request.decoding:  # outputs enter the tree when their request finishes
            self._lock(request, tokens)

    def decode_steps(self, step: int, limit: int) -> int:
        return min(limit, self.num_available // len(self.decoders))

    def decode(self, step: int, steps: int) -> list[Growth]:
        count, free = len(self.decoders), self.num_free
        self._rounds += steps
        self._grant(count * steps)
        untouched = min(steps, free // count)
        growths = [Growth(offset, count, 0) for offset in range(untouched)]
        for offset in range(untouched, steps):
            growths.append(Growth(offset, count, 0, min(count, count * (offset + 1) - free)))
        return growths

    def check(self) -> None:
        holders = self._holders_by_segment()
        queued = {id(entry[2]) for entry in self._queue if _holds(entry)}
        locked = cached = 0
        for segment, parent in self._parents.items():
            self._check_segment(segment, parent, holders.pop(segment, []))
            for run in segment.runs:
                if run.locks:
                    locked += run.stop - run.first
                else:
                    cached += run.stop - run.first
                    assert id(run) in queued, f"{run} cannot be evicted"
                    queued.discard(id(run))
        assert not queued, f"{len(queued)} runs can be evicted that are not in the tree"
        assert not holders, f"{len(holders)} segments are locked that are not in the tree"
        granted = sum(self._granted.values()) + len(self.decoders) * self._rounds
        depths = sum(self._depth.values())
        held = granted - depths + locked
        free = self.pool_slots - held - cached
        assert cached == self.num_cached, f"{cached} cached, {self.num_cached} counted"
        assert free == self.num_free >= 0, (
            f"{self.num_free} free + {held} held + {cached} cached != {self.pool_slots}"
        )
        usage = self.usage(blocked=False)
        assert usage == Usage(held, 0, 0, cached, depths - locked), f"{usage} is wrong"

    def _holders_by_segment(self) -> dict[Segment, list[int]]:
        """How far its holders have locked each segment."""
        holders: dict[Segment, list[int]] = {}
        for request, depth in self._depth.items():
            granted = self._granted[request] + self._rounds * (request in self.decoders)
            assert 0 <= depth <= granted, f"{depth} tokens locked, {granted} granted"
            for segment in request.path:
                if segment.first < depth:
                    holders.setdefault(segment, []).append(min(depth, segment.stop))
        return holders

    def _check_segment(self, segment: Segment, parent: Segment | None, locks: list[int]) -> None:
        runs: list[Run] = segment.runs
        assert runs, f"{segment} is in the tree without tokens"
        assert runs[0].first == segment.first, f"{segment} has a hole before {runs[0]}"
        assert runs[-1].stop <= segment.stop, f"{runs[-1]} lies outside {segment}"
        if parent is None:
            assert segment.first == 0, f"{segment} has no parent"
        else:
            assert parent in self._parents, f"the parent of {segment} is not in the tree"
            last: Run = parent.runs[-1]
            assert last.stop == parent.stop == segment.first, f"{segment} has a hole before it"
            assert last.stamp >= runs[0].stamp, f"{runs[0]} is more recent than its parent {last}"
        for run in runs:
            assert run.first < run.stop, f"{run} is empty"
            count = sum(depth >= run.stop for depth in locks)
            assert run.locks == count, f"{run} is held by {count}"
        for one, two in pairwise(runs):
            assert one.stop == two.first, f"{segment} has a hole between {one} and {two}"
            assert one.stamp >= two.stamp, f"{two} is more recent than its parent {one}"
        assert max(locks, default=0) <= runs[-1].stop, f"{segment} is locked beyond its tokens"

    def _find(self, request: Request) -> tuple[int, int]:
        """Leading tokens in the tree, leaving one to compute, and how many can be evicted now."""
        memo = self._memo
        if memo and memo[:3] == (request, self._changes, request.known):
            return memo[3]
        most = request.known - 1
        depth = locked = 0
        for segment in request.path:
            for run in segment.runs:
                depth = run.stop
                if run.locks:
                    locked = depth
            if depth < segment.stop or depth >= most:
                break
        depth = min(depth, most)
        found = depth, depth - min(locked, depth)
        self._memo = (request, self._changes, request.known, found)
        return found

    def _lock(self, request: Request, tokens: int) -> None:
        """Touch the path to so many tokens and lock what the request has not locked yet of it.

        What the tree lacks is the request's own and goes over to it. What the tree has, the request
        no longer holds twice.
        """
        path, before = request.path, self._depth[request]
        depth = min(tokens, path[-1].stop) if path else 0
        self._clock += 1
        self._changes += 1
        parent: Segment | None = None
        for segment in path:
            if segment.first >= depth:
                break
            self._end_run(segment, parent, min(segment.stop, depth))
            runs: list[Run] = segment.runs
            for run in runs:
                if run.first >= depth:
                    break
                run.stamp = self._clock
                if run.first >= before:
                    self._add_lock(run)
            if len(runs) > 1:
                segment.runs = _joined(runs, self._clock)
            parent = segment
        self._depth[request] = depth
        self._num_locks += depth - before

    def _end_run(self, segment: Segment, parent: Segment | None, stop: int) -> None:
        """Let a run of the segment end at ``stop``: split the one across it, or add one."""
        runs: list[Run] = segment.runs
        end = runs[-1].stop if runs else segment.first
        if end < stop:
            self._parents[segment] = parent
            self.num_cached += stop - end  # until it is locked, at once
            runs.append(Run(segment, end, stop, 0, 0))
        elif end > stop:
            place = next(place for place, run in enumerate(runs) if run.stop >= stop)
            run = runs[place]
            if run.stop > stop:
                tail = Run(segment, stop, run.stop, run.locks, run.stamp)
                run.stop = stop
                runs.insert(place + 1, tail)
                if not tail.locks:
                    self._enqueue(tail)

    def _add_lock(self, run: Run) -> None:
        if not run.locks:
            self.num_cached -= run.stop - run.first
            self._num_locked += run.stop - run.first
        run.locks += 1

    def _grant(self, slots: int) -> None:
        """Take so many slots, evicting where too few are free."""
        self._num_granted += slots
        short = -self.num_free
        if short > 0:
            self._evict(short)

    def _evict(self, tokens: int) -> None:
        """Take so many tokens out of the tree: the least recent first, tails before heads."""
        self._changes += 1
        self.num_cached -= tokens
        self.num_evicted_blocks += tokens
        queue = self._queue
        while tokens:
            entry = queue[0]
            if not _holds(entry):
                heappop(queue)
                continue
            run = entry[2]
            count = min(tokens, run.stop - run.first)
            run.stop -= count
            tokens -= count
            if run.first == run.stop:
                heappop(queue)
                run.segment.runs.pop()  # a leaf is the last of its segment
                if not run.segment.runs:
                    del self._parents[run.segment]

    def _enqueue(self, run: Run) -> None:
        """A run without locks may be evicted."""
        queue = self._queue
        heappush(queue, (run.stamp, -run.first, run))
        if len(queue) > self._most_entries:
            queue[:] = [entry for entry in queue if _holds(entry)]
            heapify(queue)
            self._most_entries = 2 * len(queue) + _FEW_ENTRIES


def _holds(entry: _Entry) -> bool:
    """Whether a queued run has not been locked since: that touches it."""
    stamp, _, run = entry
    return run.stamp == stamp


def _joined(runs: list[Run], stamp: int) -> list[Run]:
    """Neighbours that were just touched and have the same holders become one run.

    Holders of a run hold all before it, so as many locks are the same holders.
    """
    kept = runs[:1]
    for run in runs[1:]:
        last = kept[-1]
        if run.stamp == last.stamp == stamp and run.locks == last.locks:
            last.stop = run.stop
        else:
            kept.append(run)
    return kept
