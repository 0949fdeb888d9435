"""Paged KV cache: fixed blocks, taken on demand, reached through a block table per request.

Follows vLLM's block pool (``golden/RULES.md`` 1, 4): block 0 is the null block, so ``num_gpu_blocks
- 1`` are usable; blocks come from the front of the free queue; without prefix caching a freed
request's blocks go back to the front, its tail block first, so the queue is a stack.

A decoding request needs its next block at steps ``due, due + block_size, ...``, so requests are
kept by ``due mod block_size``. With ``c[r]`` the number of them in class ``r``, ``k`` steps take
``(k // block_size) * B + c[step] + ... + c[step + k % block_size - 1]`` blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..request import Request
from .base import Allocator, Growth, Usage
from .layout import Blocks, BlockView, Layout, TokensOf, block_layout

MOST_BLOCKS = 1 << 26
"""Every block is an entry of the free list; a block of one token on eight GPUs is within this."""


def check_pool(num_gpu_blocks: int, block_size: int, watermark: float) -> None:
    """Raise ValueError where no pool can be made of these."""
    if block_size < 1:
        raise ValueError(f"block_size(={block_size}) must be > 0.")
    if num_gpu_blocks < 2:
        raise ValueError(
            f"num_gpu_blocks(={num_gpu_blocks}) must be >= 2: block 0 is the null block."
        )
    if num_gpu_blocks > MOST_BLOCKS:
        raise ValueError(f"num_gpu_blocks(={num_gpu_blocks}) must be <= {MOST_BLOCKS}.")
    if not 0 <= watermark < 1:
        raise ValueError(f"watermark(={watermark}) must be in [0, 1).")


class PagedAllocator(Allocator):
    """Blocks of ``block_size`` tokens; ``num_gpu_blocks`` counts the null block.

    Args:
        num_gpu_blocks: blocks of the pool, the null block included.
        block_size: tokens per block.
        watermark: share of the blocks kept free when a request is admitted beside others.
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
        self.block_size = block_size
        self.num_gpu_blocks = num_gpu_blocks
        self.pool_slots = (num_gpu_blocks - 1) * block_size
        self.reserve_full_isl = reserve_full_isl
        self.watermark_blocks = int(watermark * num_gpu_blocks)
        self.watermark_slots = self.watermark_blocks * block_size
        self.free: list[int] = list(range(num_gpu_blocks - 1, 0, -1))
        """Free block ids; the last one is the next to be taken."""
        self.num_cached = 0
        """Free blocks that hold KV which a request may find."""
        self._holders: dict[Request, None] = {}
        self._due: list[dict[Request, None]] = [{} for _ in range(block_size)]
        self._internal_slots = 0
        self._num_decoders = 0
        self._num_writers = 0
        """Decoding requests whose full blocks somebody else may be waiting for."""
        self._view: BlockView | None = None
        """Where somebody looks at the pool."""

    @property
    def num_free(self) -> int:
        """Blocks that can be taken."""
        return len(self.free)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold ``tokens`` tokens."""
        return -(-tokens // self.block_size)

    def why_never(self, request: Request) -> str:
        if self.blocks_for(request.kv_tokens) < self.num_gpu_blocks:
            return ""
        return f"needs more than all {self.num_gpu_blocks - 1} blocks of the pool"

    def can_admit(self, request: Request, tokens: int, *, others_run: bool) -> bool:
        free = self.num_free - (self.watermark_blocks if others_run else 0)
        gate = request.known if self.reserve_full_isl else tokens
        return -(-gate // self.block_size) <= free

    def admit(self, request: Request, tokens: int) -> None:
        request.final_blocks = self.blocks_for(request.kv_tokens)
        self._holders[request] = None
        self._take(request, self.blocks_for(tokens))

    def extend(self, request: Request, tokens: int) -> bool:
        count = self.blocks_for(tokens) - len(request.blocks)
        if count > self.num_free:
            return False
        self._take(request, count)
        return True

    def blocks_to_swap(self, request: Request) -> int:
        return self.blocks_for(request.computed)

    def release(self, request: Request) -> None:
        blocks = request.blocks
        if len(blocks) == request.final_blocks:
            self._internal_slots -= self._tail_slots(request)
        if self._view is not None:
            self._view.give(blocks)
        self.free.extend(blocks)
        request.blocks = []
        del self._holders[request]

    def usage(self, *, blocked: bool) -> Usage:
        held = self.pool_slots - self.num_free * self.block_size
        return Usage(held, self._internal_slots, 0)

    def layout(
        self, tokens_of: TokensOf, *, blocked: bool, view_slots: int | None = None
    ) -> Layout:
        slots = self.pool_slots if view_slots is None else view_slots
        num_blocks = min(self.blocks_for(slots), self.num_gpu_blocks - 1)
        return block_layout(
            self._seen(num_blocks),
            self._cached_ids(),
            block_slots=self.block_size,
            tokens_of=tokens_of,
        )

    def pieces(self, request: Request) -> list[tuple[int, int]]:
        return [((block - 1) * self.block_size, self.block_size) for block in request.blocks]

    def _seen(self, num_blocks: int) -> Blocks:
        """The first blocks of the pool; from the first look on who takes them is noted."""
        if self._view is None or self._view.num_blocks < num_blocks:
            self._view = BlockView(num_blocks)
            for request in self._holders:
                self._view.take(request, request.blocks, request.run_blocks)
        return self._view.blocks(num_blocks, self.block_size)

    def _cached_ids(self) -> Iterable[int]:
        """Blocks that nobody holds and a request may find."""
        return ()

    def start_decoding(self, request: Request) -> None:
        due = self._due[(1 - request.base) % self.block_size]
        if due and next(reversed(due)).sequence > request.sequence:
            # It was admitted before one that already decodes: blocks go out in running order.
            members = sorted([*due, request], key=lambda member: member.sequence)
            due.clear()
            due.update(dict.fromkeys(members))
        else:
            due[request] = None
        self._num_decoders += 1

    def stop_decoding(self, request: Request) -> None:
        del self._due[(1 - request.base) % self.block_size][request]
        self._num_decoders -= 1

    def needers(self, step: int) -> list[Request]:
        return list(self._due[step % self.block_size])

    @property
    def free_share(self) -> float:
        return self.num_free / (self.num_gpu_blocks - 1)

    @property
    def most_new_tokens(self) -> int:
        return self.num_free * self.block_size

    def holds_all(self, wanted: Sequence[tuple[Request, int]]) -> bool:
        missing = (self.blocks_for(tokens) - len(one.blocks) for one, tokens in wanted)
        return sum(missing) <= self.num_free

    def decode_steps(self, step: int, limit: int) -> int:
        return self._steps_on(step, limit, self.num_free)

    def _steps_on(self, step: int, limit: int, free: int) -> int:
        """Steps, at most ``limit``, that all decoding requests can take on so many free blocks."""
        if limit == 1:
            return int(len(self._due[step % self.block_size]) <= free)
        if self._num_decoders * (limit // self.block_size + 1) <= free:
            return limit
        rounds, left = divmod(free, self._num_decoders)
        steps = rounds * self.block_size
        while steps < limit:
            left -= len(self._due[(step + steps) % self.block_size])
            if left < 0:
                break
            steps += 1
        return min(steps, limit)

    def decode(self, step: int, steps: int) -> list[Growth]:
        growths = []
        block_size, due = self.block_size, self._due
        for offset in range(steps):
            members = due[(step + offset) % block_size]
            if members:
                internal, count, cached = 0, len(members), self.num_cached
                taken = self._pop(count)
                for request, block in zip(members, taken):  # noqa: B905  as many as members
                    blocks = request.blocks
                    blocks.append(block)
                    if len(blocks) == request.final_blocks:
                        internal += self._tail_slots(request)
                if self._view is not None:
                    self._view.grow(members, taken)
                self._internal_slots += internal
                evicted = (cached - self.num_cached) * block_size
                growths.append(Growth(offset, count * block_size, internal, evicted))
        if self._num_writers:
            self._write_full(step, steps)
        return growths

    def _write_full(self, step: int, steps: int) -> None:
        """Blocks of the writers that so many steps have filled can be found."""

    def check(self) -> None:
        owned = [block for request in self._holders for block in request.blocks]
        blocks = owned + self.free
        usable = self.num_gpu_blocks - 1
        assert len(blocks) == usable, f"{len(owned)} held + {len(self.free)} free != {usable}"
        assert len(set(blocks)) == usable, "a block is owned twice"
        assert 0 not in set(blocks), "the null block was handed out"

    def _pop(self, count: int) -> list[int]:
        """Take so many blocks, at least one, from the front of the free queue."""
        free = self.free
        taken = free[: -count - 1 : -1]  # the last ones, from the back
        del free[-count:]
        return taken

    def _take(self, request: Request, count: int) -> None:
        self.taken = self._pop(count) if count > 0 else []
        if count > 0:
            if self._view is not None:
                self._view.take(request, self.taken, request.run_blocks + len(request.blocks))
            request.blocks += self.taken
            if len(request.blocks) == request.final_blocks:
                self._internal_slots += self._tail_slots(request)

    def _tail_slots(self, request: Request) -> int:
        """Slots of the last block that the request will never fill."""
        return -request.kv_tokens % self.block_size
