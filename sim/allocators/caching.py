"""Paged KV cache with vLLM's prefix cache (``golden/RULES.md`` 1, 4 and 5.3).

Full blocks are found by their content; a block that nobody holds keeps its content until it is
taken. The free queue is taken from the front: first the blocks without content, as a stack, then
the cached ones, least recently freed first and, of one request, the tail before the head.

Blocks are kept in *runs*: neighbours within one segment of the tree of contents (see ``content``),
held by the same requests and freed together. A prompt of a thousand blocks is a handful of runs, so
nothing here is done block by block. Where a request shares part of a run, the run is split.

vLLM registers a block as soon as its last token is scheduled (asynchronously, one step later).
What a request writes where nobody else's path leads is registered when it leaves: no one could have
found it before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from ..content import Segment
from ..request import Request
from .base import Usage
from .layout import Blocks
from .paged import PagedAllocator
from .runs import Run, first_copy
from .tiers import Piece


class _Hit(NamedTuple):
    """What a lookup found."""

    pieces: list[tuple[Run, int, int]]
    """Run, first block, one behind the last."""
    num_blocks: int
    num_queued: int
    """Part of them that nobody holds, so that it counts as free."""
    below: Sequence[tuple[Piece, int, int]] = ()
    """Piece in a tier below the GPU, first block, one behind the last: they need blocks."""
    num_below: int = 0


_MISS = _Hit([], 0, 0)


class CachingAllocator(PagedAllocator):
    """Blocks that are shared by content.

    Args:
        num_gpu_blocks: blocks of the pool, the null block included.
        block_size: tokens per block.
        watermark: share of the blocks kept free when a request is admitted beside others.
        reserve_full_isl: admit only if all known tokens would fit now (a test, not a reservation).
        asynchronous: the scheduler runs one step ahead, so that a block's last token is known,
            and the block registered, one step later.

    Raises:
        ValueError: as :class:`PagedAllocator`.
    """

    def __init__(
        self,
        *,
        num_gpu_blocks: int,
        block_size: int,
        watermark: float = 0.0,
        reserve_full_isl: bool = True,
        asynchronous: bool = False,
    ) -> None:
        super().__init__(
            num_gpu_blocks=num_gpu_blocks,
            block_size=block_size,
            watermark=watermark,
            reserve_full_isl=reserve_full_isl,
        )
        self._lag = 1 if asynchronous else 0
        self._queue = Run(Segment(0, 0, shared=False), 0, [], 0)
        self._queue.before = self._queue.after = self._queue
        self._shared_blocks = 0
        self._writers: list[dict[Request, None]] = [{} for _ in range(block_size)]
        """Decoding where somebody else's path leads, by the step at which a block is full."""
        self._changes = 0
        self._memo: _Hit = _MISS
        self._memo_of: tuple[Request | None, int, int] = (None, 0, 0)

    @property
    def num_free(self) -> int:
        return len(self.free) + self.num_cached

    def cached_tokens(self, request: Request) -> int:
        return self._find(request).num_blocks * self.block_size

    def can_admit(self, request: Request, tokens: int, *, others_run: bool) -> bool:
        free = len(self.free) + self.num_cached - (self.watermark_blocks if others_run else 0)
        hit = self._find(request)
        gate = request.known if self.reserve_full_isl else tokens
        return -(-gate // self.block_size) - hit.num_blocks + hit.num_queued <= free

    def admit(self, request: Request, tokens: int) -> None:
        hit = self._find(request)
        self._holders[request] = None
        for piece in hit.pieces:
            request.runs.append(self._share(*piece))
        request.run_blocks = hit.num_blocks
        request.final_blocks = self.blocks_for(request.kv_tokens) - hit.num_blocks
        self._take(request, self.blocks_for(tokens) - hit.num_blocks)
        request.shared_blocks = _shared_blocks(request)
        self._write(request, tokens)

    def extend(self, request: Request, tokens: int) -> bool:
        count = -(-tokens // self.block_size) - request.run_blocks - len(request.blocks)
        if count > 0 and count > len(self.free) + self.num_cached:
            return False
        self._take(request, count)
        if not request.decoding:
            self._write(request, tokens)
        elif request.run_blocks < request.shared_blocks:
            self._register(request, (tokens - self._lag) // self.block_size)
        return True

    def release(self, request: Request) -> None:
        if len(request.blocks) == request.final_blocks:
            self._internal_slots -= self._tail_slots(request)
        # a decoding request was last scheduled with its computed tokens known
        full = max(request.written_tokens, request.computed - self._lag) // self.block_size
        if full > request.run_blocks:
            self._register(request, full)
        end = self._queue
        for run in reversed(request.runs):
            run.refs -= 1
            if run.refs:
                self._shared_blocks -= len(run.ids)
            else:
                self.num_cached += len(run.ids)
                run.insert_before(end)
                if self._view is not None:
                    self._view.give(run.ids)
        if self._view is not None:
            self._view.give(request.blocks)
        self.free.extend(request.blocks)
        request.blocks, request.runs, request.run_blocks = [], [], 0
        self._changes += 1
        del self._holders[request]

    def usage(self, *, blocked: bool) -> Usage:
        size = self.block_size
        held = self.pool_slots - (len(self.free) + self.num_cached) * size
        cached, shared = self.num_cached * size, self._shared_blocks * size
        return Usage(held, self._internal_slots, 0, cached, shared)

    def pieces(self, request: Request) -> list[tuple[int, int]]:
        size = self.block_size
        ids = chain.from_iterable(run.ids for run in request.runs)
        return [((block - 1) * size, size) for block in ids] + super().pieces(request)

    def _seen(self, num_blocks: int) -> Blocks:
        blocks = super()._seen(num_blocks)
        sharing = (request for request in self._holders if request.runs)
        runs = {run: request for request in sharing for run in request.runs}
        if runs:  # who wrote them may have left
            tables, first = [run.ids for run in runs], [run.first for run in runs]
            blocks.put([*runs.values()], tables, first, self.block_size)
        return blocks

    def _cached_ids(self) -> list[int]:
        return self._queued_ids()

    def start_decoding(self, request: Request) -> None:
        super().start_decoding(request)
        if self._writes(request):
            self._writers[(self._lag - request.base) % self.block_size][request] = None
            self._num_writers += 1

    def stop_decoding(self, request: Request) -> None:
        super().stop_decoding(request)
        if self._writes(request):
            del self._writers[(self._lag - request.base) % self.block_size][request]
            self._num_writers -= 1

    def unwalked(self, request: Request, step: int) -> None:
        self._register(request, (request.known_at(step) - self._lag) // self.block_size)

    def learn(self, request: Request, tokens: int) -> None:
        if tokens > request.written_tokens:
            request.written_tokens = tokens
            if request.run_blocks < request.shared_blocks:
                self._register(request, tokens // self.block_size)

    def may_admit_soon(self, request: Request) -> bool:
        if not self._num_writers:
            return False
        depth = self._find(request).num_blocks
        edge = next((segment for segment in request.path if segment.stop > depth), None)
        return (
            edge is not None
            and edge.shared
            and any(edge in writer.path for writers in self._writers for writer in writers)
        )

    def needers(self, step: int) -> list[Request]:
        full = self._writers[step % self.block_size]
        if not full:
            return super().needers(step)
        members = {**self._due[step % self.block_size], **full}  # the walk registers theirs, too
        return sorted(members, key=lambda request: request.sequence)

    def _write_full(self, step: int, steps: int) -> None:
        for offset in range(max(0, steps - self.block_size), steps):
            for request in self._writers[(step + offset) % self.block_size]:
                full = (request.base + step + offset - self._lag) // self.block_size
                self._register(request, full)

    def reset(self) -> bool:
        """Forget all contents; False, and nothing happens, while a request holds blocks."""
        if self._holders:
            return False
        self.free[:0] = reversed(self._queued_ids())
        while (run := self._queue.after) is not self._queue:
            self._drop(run)
        self.num_cached = 0
        self._changes += 1
        return True

    def free_queue(self) -> list[int]:
        """Ids of the free blocks, the next to be taken first."""
        return [*reversed(self.free), *self._queued_ids()]

    def check(self) -> None:
        size, usable = self.block_size, self.num_gpu_blocks - 1
        refs: dict[Run, int] = {}
        own: list[int] = []
        for request in self._holders:
            own += request.blocks
            at = 0
            for run in request.runs:
                refs[run] = refs.get(run, 0) + 1
                assert run.first == at, f"a table has a hole before block {run.first}"
                assert run.segment in request.path, "a table holds another content"
                at = run.stop
            assert at == request.run_blocks, f"{at} blocks in runs, {request.run_blocks} counted"
        for run, count in refs.items():
            assert run.refs == count, f"{run.refs} references, held by {count} tables"
            assert run in run.segment.runs, "a held run cannot be found"
        queued = dict.fromkeys(self._queued_runs())
        for run in queued:
            assert run.refs == 0, "a held run is in the free queue"
            assert run in run.segment.runs, "a cached run cannot be found"
            assert run.ids, "an empty run is in the free queue"
        for run in (*refs, *queued):
            inside = run.segment.first <= run.first < run.stop <= run.segment.stop
            assert inside, f"blocks {run.first} to {run.stop} lie outside {run.segment}"
            for found in run.segment.runs:
                assert found.refs or found in queued, "a run that is found was taken"
        cached = sum(len(run.ids) for run in queued)
        assert cached == self.num_cached, f"{cached} cached, {self.num_cached} counted"
        shared = sum((run.refs - 1) * len(run.ids) for run in refs)
        assert shared == self._shared_blocks, f"{shared} shared, {self._shared_blocks} counted"
        held = [*own, *chain.from_iterable(run.ids for run in refs)]
        blocks = [*held, *self._queued_ids(), *self.free]
        sums = f"{len(held)} held + {cached} cached + {len(self.free)} free != {usable}"
        assert len(blocks) == usable, sums
        assert len(set(blocks)) == usable, "a block is owned twice"
        assert 0 not in set(blocks), "the null block was handed out"
        assert self.usage(blocked=False).held == len(held) * size

    def _writes(self, request: Request) -> bool:
        """Whether somebody else's path leads through what the request writes as it decodes."""
        return request.shared_blocks * self.block_size > request.prompt_tokens

    def _write(self, request: Request, tokens: int) -> None:
        """Room was made for so many tokens of a request that does not decode."""
        request.written_tokens = written = min(tokens, request.known)
        if request.run_blocks < request.shared_blocks:  # else nobody looks for it yet
            self._register(request, written // self.block_size)

    def _find(self, request: Request) -> _Hit:
        """The longest run of cached blocks from the start, leaving one token to compute."""
        path = request.path
        if not path or not path[0].runs:
            return _MISS
        memo_of = (request, self._changes, request.known)
        if memo_of == self._memo_of:
            return self._memo
        most = (request.known - 1) // self.block_size
        pieces: list[tuple[Run, int, int]] = []
        depth = queued = 0
        for segment in path:
            stop = min(segment.stop, most)
            while depth < stop and (found := first_copy(segment, depth, stop)):
                run, end = found
                pieces.append((run, depth, end))
                if not run.refs:
                    queued += end - depth
                depth = end
            if depth < segment.stop:
                break
        hit = _Hit(pieces, depth, queued) if depth else _MISS
        self._memo, self._memo_of = hit, memo_of
        return hit

    def _share(self, run: Run, first: int, stop: int) -> Run:
        """Hold blocks ``first`` to ``stop`` of a run; they become a run of their own."""
        self._changes += 1
        runs = run.segment.runs
        if run.first < first < run.stop:
            self._split(run, first)
        while not run.first <= first < run.stop:  # split since it was found
            run = runs[runs.index(run) + 1]
        if run.stop > stop:
            self._split(run, stop)
        if run.refs:
            self._shared_blocks += len(run.ids)
        else:
            run.unlink()
            self.num_cached -= len(run.ids)
        run.refs += 1
        return run

    def _split(self, run: Run, at: int) -> None:
        """Make blocks from ``at`` on a run of their own, beside this one wherever it is."""
        high = Run(run.segment, at, run.ids[at - run.first :], run.refs)
        high.load = run.load
        del run.ids[at - run.first :]
        runs = run.segment.runs
        runs.insert(runs.index(run) + 1, high)
        if not run.refs:
            high.insert_before(run)  # the tail is taken first
            return
        for holder in self._holders:
            if run in holder.runs:
                holder.runs.insert(holder.runs.index(run) + 1, high)

    def _register(self, request: Request, full: int) -> None:
        """Let the request's first ``full`` blocks be found; it holds the later ones alone."""
        at, path = request.run_blocks, request.path
        if full <= at or not path:
            return
        full = min(full, path[-1].stop)
        ids = request.blocks[: full - at]
        del request.blocks[: full - at]
        request.final_blocks -= full - at
        request.run_blocks = full
        place = len(path) - 1
        while path[place].first > at:
            place -= 1
        while ids:
            segment = path[place]
            count = segment.stop - at
            part, ids = ids[:count], ids[count:]
            last = request.runs[-1] if request.runs else None
            if last is not None and last.refs == 1 and segment.runs == [last]:
                last.ids += part  # the only copy, and its own
            else:
                run = Run(segment, at, part, 1)
                segment.runs.append(run)
                request.runs.append(run)
            at += len(part)
            place += 1
        self._changes += 1

    def _pop(self, count: int) -> list[int]:
        free = self.free
        need = count - len(free)
        if need <= 0:
            taken = free[: -count - 1 : -1]  # the last ones, from the back
            del free[-count:]
            return taken
        taken = free[::-1]
        free.clear()
        self._changes += 1
        self.num_cached -= need
        self.num_evicted_blocks += need
        while True:
            run = self._queue.after
            ids = run.ids
            if len(ids) > need:
                taken += ids[: -need - 1 : -1]
                del ids[-need:]
                stop = run.first + len(ids)
                self._evicted(run.segment, stop, stop + need)
                return taken
            ids.reverse()
            taken += ids
            need -= len(ids)
            self._drop(run)
            self._evicted(run.segment, run.first, run.stop)
            if not need:
                return taken

    def _evicted(self, segment: Segment, first: int, stop: int) -> None:
        """A copy of these blocks is no longer on the GPU; the last of them went first."""

    def _drop(self, run: Run) -> None:
        run.unlink()
        run.segment.runs.remove(run)

    def _queued_runs(self) -> list[Run]:
        runs, run = [], self._queue.after
        while run is not self._queue:
            runs.append(run)
            run = run.after
        return runs

    def _queued_ids(self) -> list[int]:
        return [block for run in self._queued_runs() for block in reversed(run.ids)]


def _shared_blocks(request: Request) -> int:
    """Leading blocks up to the last one that somebody else's path shares."""
    for segment in reversed(request.path):
        if segment.shared:
            return segment.stop
    return 0
