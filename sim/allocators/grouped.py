"""Paged KV cache of models whose layers keep different tokens: full, sliding-window, chunked-local.

Layers with one block table form a group; all groups draw from one pool (``golden/RULES.md`` 6). A
window group gives back the blocks that left its window, a chunked-local one those of earlier
chunks; in the table they are replaced by the null block. Block by block, as vLLM does it: windows
keep such tables short.

A block is ``block_slots`` slots whatever its group; a token fills its share of one in every group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd, lcm

import numpy as np

from ...calibration.kv_groups import KVGroup
from ..content import Segment
from ..request import Request
from .base import Allocator, Growth, Usage
from .block_pool import NULL, BlockPool
from .layout import Blocks, Layout, TokensOf, block_layout
from .paged import check_pool

Tables = list[list[int]]
"""Per group the block ids of a request in order; 0 where the block is gone or was never needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """What one group keeps."""

    kind: str
    block_size: int
    span: int
    """Window or chunk, tokens; 0 = everything is kept."""
    most_gated_blocks: int
    """Blocks that the admission test asks for at most."""

    def dead_blocks(self, processed: int) -> int:
        """Leading blocks that nothing after so many tokens attends to."""
        if self.kind == "sliding_window":
            return max(0, processed - self.span + 1) // self.block_size
        if self.kind == "chunked_local":
            return processed // self.span * self.span // self.block_size
        return 0

    @property
    def blocks_to_hit(self) -> int:
        """Consecutive cached blocks that stand for a whole window."""
        return -(-(self.span - 1) // self.block_size)


@dataclass(frozen=True, slots=True)
class _Hit:
    """What a lookup found: per group the blocks, null where none is needed."""

    rows: Tables
    tokens: int
    junction: int
    """Tokens that the full groups alone would have found, where that is more."""


class GroupedAllocator(Allocator):
    """One pool of blocks for several groups of layers.

    Args:
        num_gpu_blocks: blocks of the pool, the null block included.
        groups: the KV groups in the engine's order.
        max_model_len: longest prompt + output, tokens.
        max_in_flight_tokens: scheduled tokens that may not be processed yet.
        watermark: share of the blocks kept free when a request is admitted beside others.
        reserve_full_isl: admit only if all known tokens would fit now (a test, not a reservation).
        prefix_caching: keep the content of free blocks for later requests.
        asynchronous: the scheduler runs one step ahead.

    Raises:
        ValueError: as :class:`PagedAllocator`; no group, or a group of recurrent layers.
    """

    def __init__(
        self,
        *,
        num_gpu_blocks: int,
        groups: Sequence[KVGroup],
        max_model_len: int,
        max_in_flight_tokens: int,
        watermark: float = 0.0,
        reserve_full_isl: bool = True,
        prefix_caching: bool = False,
        asynchronous: bool = False,
    ) -> None:
        super().__init__()
        if not groups or any(group.kind == "recurrent" for group in groups):
            raise ValueError("groups must hold attention layers only, and at least one group.")
        check_pool(num_gpu_blocks, min(group.block_size for group in groups), watermark)
        self.groups = tuple(_group(g, max_model_len, max_in_flight_tokens) for g in groups)
        self.num_gpu_blocks = num_gpu_blocks
        self.hash_block_size = gcd(*(group.block_size for group in self.groups))
        self.block_slots = lcm(*(group.block_size for group in self.groups))
        self.pool_slots = (num_gpu_blocks - 1) * self.block_slots
        self.slots_per_token = sum(self.block_slots // g.block_size for g in self.groups)
        self.reserve_full_isl = reserve_full_isl
        self.watermark_blocks = int(watermark * num_gpu_blocks)
        self.prefix_caching = prefix_caching
        self._lag = 1 if asynchronous else 0
        self._pool = BlockPool(num_gpu_blocks, len(self.groups))
        self._tables: dict[Request, Tables] = {}
        self._registered: dict[Request, list[int]] = {}
        self._junctions: dict[Request, int] = {}
        self._internal_slots = 0
        self._dead_blocks = 0
        self._due: list[dict[Request, None]] = [{} for _ in range(self.block_slots)]
        self._needs = [0] * self.block_slots
        self._fresh: dict[Request, int] = {}
        """Visits due to those who begin to decode: a window catches up with the last chunk."""
        self._memo: tuple[Request, int, int, _Hit] | None = None

    def why_never(self, request: Request) -> str:
        needed = sum(
            min(-(-request.kv_tokens // group.block_size), group.most_gated_blocks)
            for group in self.groups
        )
        if needed < self.num_gpu_blocks:
            return ""
        return f"needs more than all {self.num_gpu_blocks - 1} blocks of the pool"

    def cached_tokens(self, request: Request) -> int:
        return self._find(request).tokens

    def can_admit(self, request: Request, tokens: int, *, others_run: bool) -> bool:
        free = len(self._pool.free) - (self.watermark_blocks if others_run else 0)
        hit = self._find(request)
        free -= sum(
            block != NULL and not self._pool.refs[block] for row in hit.rows for block in row
        )
        gate = 0
        if self.reserve_full_isl:
            gate = sum(
                max(min(-(-request.known // group.block_size), group.most_gated_blocks), len(row))
                - len(row)
                for group, row in zip(self.groups, hit.rows, strict=True)
            )
        needed = sum(
            max(-(-tokens // group.block_size) - len(row), 0)
            for group, row in zip(self.groups, hit.rows, strict=True)
        )
        return max(gate, needed) <= free

    def admit(self, request: Request, tokens: int) -> None:
        hit = self._find(request)
        self._tables[request] = hit.rows
        self._registered[request] = [len(row) for row in hit.rows]
        for row in hit.rows:
            for block in row:
                if block == NULL:
                    self._dead_blocks += 1
                else:
                    self._pool.touch(block)
        self._memo = None  # its rows are a table now
        self._take(request, tokens)
        self._register(request, min(tokens, request.known))

    def extend(self, request: Request, tokens: int) -> bool:
        decoding = request.decoding
        base = tokens - 1 if decoding else request.computed
        in_flight = self.in_flight.get(request, self._lag if decoding else 0)
        self._drop_dead(request, base - in_flight)  # even if there is no room in the end
        if self._missing(request, tokens) > len(self._pool.free):
            return False
        self._take(request, tokens)
        self._register(request, tokens - self._lag if decoding else min(tokens, request.known))
        if request in self._fresh:
            self._fresh[request] -= 1
            if not self._fresh[request]:
                del self._fresh[request]
        return True

    def release(self, request: Request) -> None:
        for group, table in zip(self.groups, self._tables.pop(request), strict=True):
            if len(table) == self._final_blocks(group, request):
                self._internal_slots -= self._tail_slots(group, request)
            self._dead_blocks -= table.count(NULL)
            self._pool.release(reversed(table))
        del self._registered[request]
        self._junctions.pop(request, None)
        request.runs = []

    def usage(self, *, blocked: bool) -> Usage:
        pool, slots = self._pool, self.block_slots
        held = self.pool_slots - len(pool.free) * slots
        return Usage(
            held,
            self._internal_slots,
            0,
            pool.num_cached * slots,
            pool.num_shared * slots,
            self._dead_blocks * slots,
        )

    def layout(
        self, tokens_of: TokensOf, *, blocked: bool, view_slots: int | None = None
    ) -> Layout:
        slots = self.pool_slots if view_slots is None else view_slots
        num_blocks = min(-(-slots // self.block_slots), self.num_gpu_blocks - 1)
        blocks = Blocks(
            owners=np.full(num_blocks + 1, -1),
            places=np.zeros(num_blocks + 1, dtype=np.int64),
            block_tokens=np.ones(num_blocks + 1, dtype=np.int64),
            holders=[],
        )
        for number, group in enumerate(self.groups):
            tables = [tables[number] for tables in self._tables.values()]
            blocks.put([*self._tables], tables, [0] * len(tables), group.block_size)
        blocks.owners[NULL] = -1
        pool = self._pool
        return block_layout(
            blocks,
            (block for block in pool.free if pool.key_of[block] is not None),
            block_slots=self.block_slots,
            tokens_of=tokens_of,
        )

    def pieces(self, request: Request) -> list[tuple[int, int]]:
        slots = self.block_slots
        blocks = (
            block for table in self._tables.get(request, ()) for block in table if block != NULL
        )
        return [((block - 1) * slots, slots) for block in blocks]

    def learn(self, request: Request, tokens: int) -> None:
        self._register(request, tokens)

    def start_decoding(self, request: Request) -> None:
        super().start_decoding(request)
        for step in self._due_steps(request):
            self._due[step][request] = None
        for group in self.groups:
            for step in self._each(1 - request.base, group.block_size):
                self._needs[step] += 1
        self._fresh[request] = 1 + self._lag

    def stop_decoding(self, request: Request) -> None:
        super().stop_decoding(request)
        for step in self._due_steps(request):
            del self._due[step][request]
        for group in self.groups:
            for step in self._each(1 - request.base, group.block_size):
                self._needs[step] -= 1
        self._fresh.pop(request, None)

    def may_admit_soon(self, request: Request) -> bool:
        gives_back = any(group.span for group in self.groups)
        return gives_back or any(segment.shared for segment in request.path)

    def needers(self, step: int) -> list[Request]:
        members = {**self._due[step % self.block_slots], **self._fresh}
        return sorted(members, key=lambda request: request.sequence)

    def decode_steps(self, step: int, limit: int) -> int:
        free, size = len(self._pool.free), self.block_slots
        rounds, left = divmod(free, max(1, sum(self._needs)))
        steps = rounds * size
        while steps < limit:
            left -= self._needs[(step + steps) % size]
            if left < 0:
                break
            steps += 1
        return min(steps, limit)

    def decode(self, step: int, steps: int) -> list[Growth]:
        growths = []
        for number in range(step, step + steps):
            members = self.needers(number)
            if members:
                before = self.usage(blocked=False)
                for request in members:
                    fits = self.extend(request, request.base + number)
                    assert fits, "decode_steps() said yes"
                after = self.usage(blocked=False)
                growths.append(
                    Growth(
                        number - step,
                        after.held - before.held,
                        after.internal - before.internal,
                        before.cached - after.cached,
                        after.dead - before.dead,
                        after.shared - before.shared,
                    )
                )
        return growths

    def reset(self) -> bool:
        """Forget all contents; False, and nothing happens, while a request holds blocks."""
        if self._tables:
            return False
        self._pool.forget()
        return True

    def free_queue(self) -> list[int]:
        """Ids of the free blocks, the next to be taken first."""
        return list(self._pool.free)

    def check(self) -> None:
        pool = self._pool
        refs = [0] * self.num_gpu_blocks
        dead = 0
        for tables in self._tables.values():
            for table in tables:
                dead += table.count(NULL)
                for block in table:
                    refs[block] += 1
        refs[NULL] = 0
        assert refs == pool.refs, "reference counts differ from the tables"
        held = {block for block, count in enumerate(refs) if count}
        assert not held & pool.free.keys(), "a held block is free"
        assert NULL not in pool.free, "the null block was handed out"
        total = len(held) + len(pool.free)
        assert total == self.num_gpu_blocks - 1, f"{len(held)} held + {len(pool.free)} free"
        cached = sum(pool.key_of[block] is not None for block in pool.free)
        assert cached == pool.num_cached, f"{cached} cached, {pool.num_cached} counted"
        shared = sum(count - 1 for count in refs if count)
        assert shared == pool.num_shared, f"{shared} shared, {pool.num_shared} counted"
        assert dead == self._dead_blocks, f"{dead} dead, {self._dead_blocks} counted"
        for group, found in enumerate(pool.blocks_of):
            for key, blocks in found.items():
                for block in blocks:
                    assert pool.key_of[block] == (group, key), "a hash leads to another content"
        self._check_contents()

    def _check_contents(self) -> None:
        for request, tables in self._tables.items():
            keys = self._keys(request)
            for number, (group, table) in enumerate(zip(self.groups, tables, strict=True)):
                for place, block in enumerate(table):
                    key = self._pool.key_of[block]
                    if block != NULL and key is not None:
                        unit = self._unit(group, place)
                        assert key == (number, keys[unit]), "a table holds another content"

    def _find(self, request: Request) -> _Hit:
        """The longest hit of all groups together, leaving one token to compute."""
        if not self.prefix_caching:
            return _Hit([[] for _ in self.groups], 0, 0)
        memo = self._memo
        if memo and memo[:3] == (request, self._pool.changes, request.known):
            return memo[3]
        keys, slots = self._keys(request), self.block_slots
        full = [n for n, group in enumerate(self.groups) if not group.span]
        most = (request.known - 1) // slots * slots
        found = most
        for number in full:
            found = self._full_hit(number, keys, found)
        found = tokens = found // slots * slots
        others = {(group.kind, group.span, group.block_size) for group in self.groups if group.span}
        starts: dict[int, int] = {}
        shorter = True
        while shorter and tokens:
            shorter = False
            for spec in sorted(others):
                numbers = [
                    n for n, g in enumerate(self.groups) if (g.kind, g.span, g.block_size) == spec
                ]
                start, stop = self._partial_hit(numbers, keys, tokens)
                starts |= dict.fromkeys(numbers, start)
                if stop < tokens:
                    tokens, shorter = stop, len(others) > 1
        rows = []
        for number, group in enumerate(self.groups):
            count, nulls = tokens // group.block_size, starts.get(number, 0) if tokens else 0
            copies = self._pool.blocks_of[number]
            units = (keys[self._unit(group, place)] for place in range(nulls, count))
            rows.append([NULL] * nulls + [copies[key][0] for key in units])
        hit = _Hit(rows, tokens, found if full and found > tokens else 0)
        self._junctions[request] = hit.junction
        self._memo = (request, self._pool.changes, request.known, hit)
        return hit

    def _full_hit(self, number: int, keys: list[int], tokens: int) -> int:
        group, copies = self.groups[number], self._pool.blocks_of[number]
        for place in range(tokens // group.block_size):
            if keys[self._unit(group, place)] not in copies:
                return place * group.block_size
        return tokens

    def _partial_hit(self, numbers: list[int], keys: list[int], tokens: int) -> tuple[int, int]:
        """Null blocks and tokens of the longest hit, at most ``tokens``, of groups of one kind."""
        group = self.groups[numbers[0]]
        size = group.block_size
        count = tokens // size

        def held(place: int) -> bool:
            key = keys[self._unit(group, place)]
            return all(key in self._pool.blocks_of[number] for number in numbers)

        if group.kind == "chunked_local":
            start = group.dead_blocks(tokens)
            stop = start
            while stop < count and held(stop):
                stop += 1
            return start, stop * size // self.block_slots * self.block_slots
        run, end = 0, count
        for place in reversed(range(count)):
            if not held(place):
                run, end = 0, place
                continue
            run += 1
            aligned = end * size // self.block_slots * self.block_slots // size
            if run - (end - aligned) >= group.blocks_to_hit:
                return place, aligned * size
        return 0, run * size // self.block_slots * self.block_slots

    def keeps(self, segment: Segment) -> bool:
        keys = range(segment.number + segment.first, segment.number + segment.stop)
        return any(key in blocks_of for blocks_of in self._pool.blocks_of for key in keys)

    def _keys(self, request: Request) -> list[int]:
        """Numbers of a request's contents, one per ``hash_block_size`` tokens."""
        if not request.runs:
            for segment in request.path:
                request.runs += range(segment.number + segment.first, segment.number + segment.stop)
        return request.runs

    def _unit(self, group: _Group, place: int) -> int:
        return (place + 1) * group.block_size // self.hash_block_size - 1

    def _missing(self, request: Request, tokens: int) -> int:
        return sum(
            max(-(-tokens // group.block_size) - len(table), 0)
            for group, table in zip(self.groups, self._tables[request], strict=True)
        )

    def _take(self, request: Request, tokens: int) -> None:
        """New blocks from the front of the free queue, group after group."""
        self.taken = []
        for group, table in zip(self.groups, self._tables[request], strict=True):
            count = -(-tokens // group.block_size) - len(table)
            if count > 0:
                new = self._pool.take(count)
                table += new
                self.taken += new
                if len(table) == self._final_blocks(group, request):
                    self._internal_slots += self._tail_slots(group, request)
        self.num_evicted_blocks = self._pool.num_evicted

    def _drop_dead(self, request: Request, processed: int) -> None:
        """Give back what nothing attends to any more, last to first."""
        for group, table in zip(self.groups, self._tables[request], strict=True):
            count = min(group.dead_blocks(processed), len(table))
            if not count or table[count - 1] == NULL:
                continue
            first = count - 1
            while first and table[first - 1] != NULL:
                first -= 1
            self._pool.release(reversed(table[first:count]))
            table[first:count] = [NULL] * (count - first)
            self._dead_blocks += count - first

    def _register(self, request: Request, tokens: int) -> None:
        """Let the full blocks among the first ``tokens`` tokens be found."""
        if not self.prefix_caching:
            return
        done = self._registered[request]
        keys = None
        for number, group in enumerate(self.groups):
            stop = tokens // group.block_size
            if stop <= done[number]:
                continue
            keys = keys or self._keys(request)
            table = self._tables[request][number]
            for place in self._kept(group, request, done[number], stop):
                if table[place] != NULL:
                    self._pool.register(table[place], number, keys[self._unit(group, place)])
            done[number] = stop

    def _kept(self, group: _Group, request: Request, first: int, stop: int) -> Iterator[int]:
        """Blocks worth caching: a window group keeps the windows of two likely hits (6.4, 6.5)."""
        if group.kind != "sliding_window":
            yield from range(first, stop)
            return
        size, need = group.block_size, group.blocks_to_hit
        ends = ((request.prompt_tokens - 1) // size, self._junctions.get(request, 0) // size)
        for place in range(max(first, min(ends) - need), min(stop, max(ends))):
            if any(end - need <= place < end for end in ends):
                yield place

    def _final_blocks(self, group: _Group, request: Request) -> int:
        return -(-request.kv_tokens // group.block_size)

    def _tail_slots(self, group: _Group, request: Request) -> int:
        """Slots of a group's last block that the request will never fill."""
        return -request.kv_tokens % group.block_size * (self.block_slots // group.block_size)

    def _due_steps(self, request: Request) -> set[int]:
        """Steps, modulo ``block_slots``, at which a decoding request takes or gives back blocks."""
        base, due = request.base, set[int]()
        for group in self.groups:
            due.update(self._each(1 - base, group.block_size))
            if self.prefix_caching:
                due.update(self._each(self._lag - base, group.block_size))
            if group.kind == "sliding_window":
                due.update(self._each(group.span + self._lag - base, group.block_size))
            elif group.kind == "chunked_local":
                due.update(self._each(1 + self._lag - base, gcd(group.span, self.block_slots)))
        return due

    def _each(self, step: int, period: int) -> Iterable[int]:
        return range(step % period, self.block_slots, period)


def _group(group: KVGroup, max_model_len: int, max_in_flight_tokens: int) -> _Group:
    return _Group(
        kind="full" if group.window_tokens is None else group.kind,
        block_size=group.block_size,
        span=group.window_tokens or 0,
        most_gated_blocks=group.blocks_of(max_model_len, max_in_flight_tokens),
    )
