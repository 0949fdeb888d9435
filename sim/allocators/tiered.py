"""vLLM's prefix cache with memory below the GPU: what is evicted goes there, a hit comes back.

A lookup goes on where the GPU's contents end: the longest run from the start may change between
the GPU and the tiers, as often as it likes. Admission takes GPU blocks for the part that comes from
a tier and moves that part up at once; the request then waits until it is *loaded*. Who finds such
blocks on their way shares them and waits for the same load. (vLLM's ``OffloadingConnector`` lets
blocks be found when their load has ended, and keeps who would find them before in the queue: the
first token comes after the same load.)

Blocks that come up leave their tier before the GPU makes room for them, so that what the GPU evicts
finds their place. A copy that the GPU holds twice leaves it with the last one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..content import Segment
from ..request import Request
from .base import Growth
from .caching import _MISS, CachingAllocator, _Hit, _shared_blocks
from .runs import Run, first_copy
from .tiers import Load, Piece, TierSpec, make_tiers, piece_at


class TieredAllocator(CachingAllocator):
    """A :class:`CachingAllocator` above tiers of host memory and storage.

    Args:
        num_gpu_blocks: blocks of the pool, the null block included.
        block_size: tokens per block.
        tiers: from the GPU down, at least one.
        watermark: share of the blocks kept free when a request is admitted beside others.
        reserve_full_isl: admit only if all known tokens would fit now (a test, not a reservation).
        asynchronous: as :class:`CachingAllocator`.

    Raises:
        ValueError: as :class:`PagedAllocator`.
    """

    def __init__(
        self,
        *,
        num_gpu_blocks: int,
        block_size: int,
        tiers: Sequence[TierSpec],
        watermark: float = 0.0,
        reserve_full_isl: bool = True,
        asynchronous: bool = False,
    ) -> None:
        super().__init__(
            num_gpu_blocks=num_gpu_blocks,
            block_size=block_size,
            watermark=watermark,
            reserve_full_isl=reserve_full_isl,
            asynchronous=asynchronous,
        )
        self.tiers = make_tiers(tiers)

    def must_load(self, request: Request) -> bool:
        hit = self._find(request)
        return bool(hit.below) or any(_on_its_way(run) for run, _, _ in hit.pieces)

    def tier_tokens(self, request: Request) -> tuple[int, ...]:
        blocks = request.load.blocks if request.load is not None else ()
        return tuple(self.block_size * count for count in blocks)

    def can_admit(self, request: Request, tokens: int, *, others_run: bool) -> bool:
        free = self.num_free - (self.watermark_blocks if others_run else 0)
        hit = self._find(request)
        gate = request.known if self.reserve_full_isl else tokens
        held = hit.num_blocks - hit.num_below - hit.num_queued
        return self.blocks_for(gate) - held <= free

    def admit(self, request: Request, tokens: int) -> None:
        hit = self._find(request)
        on_their_way = dict.fromkeys(
            run.load for run, _, _ in hit.pieces if run.load is not None and not run.load.done
        )
        if not hit.below:
            super().admit(request, tokens)
            request.load = Load((0,) * len(self.tiers), [*on_their_way]) if on_their_way else None
            return
        self._holders[request] = None
        runs = [self._share(*piece) for piece in hit.pieces]
        counts = [0] * len(self.tiers)
        for piece, first, stop in hit.below:
            counts[self.tiers.index(piece.tier)] += stop - first
            piece.tier.lift(piece, first, stop)
        request.load = Load(counts, [*on_their_way])
        loaded = self._pop(hit.num_below)
        runs += self._lifted(hit, loaded, request)
        request.runs = sorted(runs, key=lambda run: run.first)
        self._changes += 1
        request.run_blocks = hit.num_blocks
        request.final_blocks = self.blocks_for(request.kv_tokens) - hit.num_blocks
        self._take(request, self.blocks_for(tokens) - hit.num_blocks)
        self.taken = loaded + self.taken
        request.shared_blocks = _shared_blocks(request)
        self._write(request, tokens)

    def _lifted(self, hit: _Hit, ids: list[int], request: Request) -> list[Run]:
        """The blocks that a request brings up, as runs that it alone holds."""
        runs, at = [], 0
        for piece, first, stop in hit.below:
            run = Run(piece.segment, first, ids[at : at + stop - first], 1)
            run.load = request.load
            piece.segment.runs.append(run)
            if self._view is not None:
                self._view.take(request, run.ids, first)
            runs.append(run)
            at += stop - first
        return runs

    def decode(self, step: int, steps: int) -> list[Growth]:
        """As the parent, but a block that is full is on the GPU before the next one is evicted.

        Else what sinks would depend on how many steps are taken at once.
        """
        if not self._num_writers:
            return super().decode(step, steps)
        growths: list[Growth] = []
        first = 0
        for offset in range(steps):
            if self._writers[(step + offset) % self.block_size]:
                growths += self._bulk(step, first, offset)
                growths += self._walk(step, offset)
                first = offset + 1
        return growths + self._bulk(step, first, steps)

    def _bulk(self, step: int, first: int, stop: int) -> list[Growth]:
        """Steps in which nobody fills a block that others may find."""
        if first == stop:
            return []
        found = super().decode(step + first, stop - first)
        return [growth._replace(offset=growth.offset + first) for growth in found]

    def _walk(self, step: int, offset: int) -> list[Growth]:
        """One step, request by request in running order."""
        free, cached, internal = self.num_free, self.num_cached, self._internal_slots
        for request in self.needers(step + offset):
            fits = self.extend(request, request.known_at(step + offset))
            assert fits, "decode_steps() has looked"
        count, size = free - self.num_free, self.block_size
        if not count:
            return []
        evicted = (cached - self.num_cached) * size
        return [Growth(offset, count * size, self._internal_slots - internal, evicted)]

    def may_admit_soon(self, request: Request) -> bool:
        """As the parent; a beginning that sinks to a tier is loaded first, which takes less."""
        if not self.reserve_full_isl and any(tier.num_blocks for tier in self.tiers):
            return bool(self._find(request).num_blocks) or super().may_admit_soon(request)
        return super().may_admit_soon(request)

    def reset(self) -> bool:
        if not super().reset():
            return False
        for tier in self.tiers:
            tier.clear()
        return True

    def check(self) -> None:
        super().check()
        for tier in self.tiers:
            tier.check()
        above = self.tiers[0]
        for below in self.tiers[1:]:
            assert above.num_down == below.num_in, f"{above.num_down} sank, {below.num_in} arrived"
            above = below
        for request in self._holders:
            waits = request.load is not None and not request.load.done
            for run in request.runs:
                assert waits or not _on_its_way(run), "a request computes on what is on its way"

    def _find(self, request: Request) -> _Hit:
        """The longest run of blocks on the GPU or below, leaving one token to compute."""
        path = request.path
        if not path or not (path[0].runs or path[0].below):
            return _MISS
        memo_of = (request, self._changes, request.known)
        if memo_of == self._memo_of:
            return self._memo
        most = (request.known - 1) // self.block_size
        pieces: list[tuple[Run, int, int]] = []
        below: list[tuple[Piece, int, int]] = []
        depth = queued = num_below = 0
        for segment in path:
            stop = min(segment.stop, most)
            while depth < stop:
                if found := first_copy(segment, depth, stop):
                    run, end = found
                    pieces.append((run, depth, end))
                    queued += 0 if run.refs else end - depth
                elif piece := piece_at(segment, depth):
                    end = min(piece.stop, stop)
                    below.append((piece, depth, end))
                    num_below += end - depth
                else:
                    break
                depth = end
            if depth < segment.stop:
                break
        hit = _Hit(pieces, depth, queued, below, num_below) if depth else _MISS
        self._memo, self._memo_of = hit, memo_of
        return hit

    def _register(self, request: Request, full: int) -> None:
        at = request.run_blocks
        super()._register(request, full)
        if request.run_blocks == at:
            return
        for segment in reversed(request.path):
            if segment.stop <= at:
                return
            first, stop = max(segment.first, at), min(segment.stop, request.run_blocks)
            while segment.below and first < stop:
                found = [piece for piece in segment.below if piece.first < stop]
                if not found or found[-1].stop <= first:
                    break
                piece = found[-1]
                stop_here = min(piece.stop, stop)
                stop = max(piece.first, first)
                piece.tier.supersede(piece, stop, stop_here)

    def _evicted(self, segment: Segment, first: int, stop: int) -> None:
        """Down to the first tier, the tail first, but for what the GPU still has elsewhere."""
        for run in sorted(segment.runs, key=lambda run: run.stop, reverse=True):
            if run.stop <= first or stop <= first:
                break
            if run.first >= stop:
                continue
            if run.stop < stop:
                self.tiers[0].push(segment, run.stop, stop)
            stop = run.first
        if first < stop:
            self.tiers[0].push(segment, first, stop)


def _on_its_way(run: Run) -> bool:
    return run.load is not None and not run.load.done
