"""Operations in any order on a prefix cache: after each, the ledger is right.

Requests of a few families arrive, are admitted with what is cached, prefill in chunks, decode, are
preempted, cancelled or end, on a pool so small that most of it is always being evicted. A shadow
remembers which content was last written to each block, so that a hit on a block with other content
is seen. ``check()`` compares reference counts with the tables and sums held, cached and free.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from kvsim.calibration.kv_groups import KVGroup
from kvsim.sim.allocators import CachingAllocator, GroupedAllocator
from kvsim.sim.content import Path, content_paths
from kvsim.sim.request import Request
from support.workloads import Columns

BLOCK_SIZE = 4
MODES = ["caching", "caching, asynchronous", "hybrid", "hybrid, asynchronous", "chunked"]
Prefix = CachingAllocator | GroupedAllocator


@pytest.mark.parametrize("mode", MODES)
def test_ledger_holds_after_every_operation(mode: str) -> None:
    _Churn(mode, seed=1).run(4_000)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_ledger_holds_over_a_million_operations(mode: str) -> None:
    for seed in range(20):
        _Churn(mode, seed=seed).run(10_000)


def test_the_shadow_sees_a_wrong_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that forgets to forget: evicted content is still found."""
    monkeypatch.setattr(CachingAllocator, "_drop", lambda _, run: run.unlink())
    with pytest.raises(AssertionError):
        _Churn("caching", seed=1).run(4_000)


def test_check_sees_a_wrong_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(allocator: CachingAllocator, request: Request) -> None:
        release(allocator, request)
        allocator.num_cached += 1

    release = CachingAllocator.release
    monkeypatch.setattr(CachingAllocator, "release", forgetful)
    with pytest.raises(AssertionError, match="counted"):
        _Churn("caching", seed=1).run(4_000)


@dataclass
class _Churn:
    """A few requests alive, thousands of operations."""

    mode: str
    seed: int
    running: list[Request] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.lag = 1 if "asynchronous" in self.mode else 0
        self.allocator = self._allocator()
        self.content: dict[int, tuple[int, int]] = {}
        self.paths, self.rows = _family(self.draw)
        self.step = self.admissions = 0

    def run(self, operations: int) -> None:
        choices = [self.admit, self.admit, self.grow, self.grow, self.decode, self.decode]
        choices += [self.end, self.preempt]
        for _ in range(operations):
            act = self.draw.choice(choices)
            if act():
                name = act.__name__
                self.counts[name] = self.counts.get(name, 0) + 1
            self.allocator.check()
        for name in ("admit", "grow", "decode", "end", "preempt", "hit"):
            assert self.counts.get(name, 0) > operations // 200, f"{name} hardly happened"
        assert self.allocator.num_evicted_blocks > operations // 50

    def admit(self) -> bool:
        row = self.draw.randrange(len(self.rows))
        if any(request.index == row for request in self.running):
            return False
        prompt, output = self.rows[row]
        request = Request(index=row, prompt_tokens=prompt, output_tokens=output)
        request.path, request.sequence = self.paths[row], self.admissions
        request.known = self.draw.randint(prompt, prompt + output - 1)  # perhaps resumed
        cached = self.allocator.cached_tokens(request)
        assert cached <= request.known - 1
        tokens = self.draw.randint(cached + 1, request.known)
        if not self.allocator.can_admit(request, tokens, others_run=bool(self.running)):
            return False
        self.allocator.admit(request, tokens)
        request.computed = tokens
        self._compare(request, cached)
        self._wrote(request, tokens)
        self.running.append(request)
        self.admissions += 1
        if cached:
            self.counts["hit"] = self.counts.get("hit", 0) + 1
        return True

    def grow(self) -> bool:
        waiting = [request for request in self.running if not request.decoding]
        if not waiting:
            return False
        request = self.draw.choice(waiting)
        if request.computed == request.known:
            if request.known >= request.total_tokens - 1:
                return False
            request.known += 1
            request.base, request.decoding = request.known - self.step, True
            self.allocator.start_decoding(request)
            return True
        tokens = self.draw.randint(request.computed + 1, request.known)
        if not self.allocator.extend(request, tokens):
            return False
        request.computed = tokens
        self._wrote(request, tokens)
        return True

    def decode(self) -> bool:
        decoding = [request for request in self.running if request.decoding]
        left = [request.total_tokens - request.known_at(self.step) for request in decoding]
        if not decoding or min(left) < 1:
            return False
        # a run longer than a step may fill a block and leave its chunk: the shadow would miss it
        most = 1 if self.mode == "chunked" else self.draw.randint(1, min(left))
        steps = self.allocator.decode_steps(self.step, most)
        if not steps:
            return False
        self.allocator.decode(self.step, steps)
        self.step += steps
        for request in decoding:
            self._wrote(request, request.known_at(self.step) - 1)
        return True

    def end(self) -> bool:
        return self._leave(finished=True)

    def preempt(self) -> bool:
        return self._leave(finished=False)

    def _leave(self, *, finished: bool) -> bool:
        if not self.running:
            return False
        request = self.running.pop(self.draw.randrange(len(self.running)))
        if request.decoding:
            self.allocator.stop_decoding(request)
            request.known = request.known_at(self.step)
            request.computed, request.decoding = request.known - 1, False
        if finished:
            self.allocator.learn(request, request.computed)
        self.allocator.release(request)
        return True

    def _tables(self, request: Request) -> list[list[int]]:
        if isinstance(self.allocator, GroupedAllocator):
            return self.allocator._tables[request]
        return [[b for run in request.runs for b in run.ids] + request.blocks]

    def _wrote(self, request: Request, tokens: int) -> None:
        """The first so many tokens of the request are in its blocks now."""
        keys = _keys(request.path, tokens // BLOCK_SIZE)
        for group, table in enumerate(self._tables(request)):
            for block, key in zip(table, keys, strict=False):
                if block:
                    self.content[block] = (group, key)

    def _compare(self, request: Request, cached: int) -> None:
        """What was found in the cache is what the request would have written."""
        keys = _keys(request.path, cached // BLOCK_SIZE)
        for group, table in enumerate(self._tables(request)):
            for block, key in zip(table, keys, strict=False):
                assert not block or self.content[block] == (group, key), "a hit on other content"

    def _allocator(self) -> Prefix:
        if self.mode.startswith("caching"):
            return CachingAllocator(
                num_gpu_blocks=60, block_size=BLOCK_SIZE, asynchronous=bool(self.lag)
            )
        full = KVGroup(kind="full", num_layers=1, block_size=BLOCK_SIZE, page_bytes=1)
        kind = "chunked_local" if self.mode == "chunked" else "sliding_window"
        part = KVGroup(
            kind=kind, num_layers=1, block_size=BLOCK_SIZE, page_bytes=1, window_tokens=16
        )
        return GroupedAllocator(
            num_gpu_blocks=140,
            groups=(full, part, part),
            max_model_len=256,
            max_in_flight_tokens=64,
            prefix_caching=True,
            asynchronous=bool(self.lag),
        )


def _family(draw: random.Random) -> tuple[list[Path], list[tuple[int, int]]]:
    """Requests that begin like one another, some where an answer ended; lengths (in, out)."""
    rows: list[tuple[int, int]] = []
    prefix_row, prefix_tokens = [], []
    for number in range(40):
        rows.append((draw.randint(1, 60), draw.randint(2, 30)))
        other = draw.randrange(-1, number) if number else -1
        prefix_row.append(other)
        most = min(rows[number][0], sum(rows[other])) if other >= 0 else 0
        prefix_tokens.append(draw.randint(most // 2, most))
    trace = Columns(
        arrival_s=None,
        prompt_tokens=np.array([prompt for prompt, _ in rows]),
        output_tokens=np.array([output for _, output in rows]),
        prefix_row=np.array(prefix_row),
        prefix_tokens=np.array(prefix_tokens),
    )
    return content_paths(trace, BLOCK_SIZE), rows


def _keys(path: Path, count: int) -> list[int]:
    """Numbers of the contents of the first so many blocks."""
    keys: list[int] = []
    for segment in path:
        keys += range(segment.number + segment.first, segment.number + segment.stop)
    return keys[:count]
