"""The radix-tree prefix cache: a token-by-token model beside it, hand-made cases, the law."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.calibration.kv_groups import KVGroup
from kvsim.sim.allocators.base import Usage
from kvsim.sim.allocators.radix import RadixAllocator
from kvsim.sim.batch import RunningBatch
from kvsim.sim.content import content_paths
from kvsim.sim.deployment import Deployment
from kvsim.sim.engine import make_allocator
from kvsim.sim.request import Request
from kvsim.sim.result import Result
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import CATEGORIES, summarise
from support.workloads import COSTS, Columns, deployments, traces

Tokens = tuple[tuple[int, int], ...]
"""A sequence: each token named by the row and the place where it first occurred."""

LAW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SWEEP = settings(LAW, max_examples=1000, derandomize=False)


class NaiveRadix:
    """A set of cached token sequences, closed under taking prefixes; all one token at a time."""

    def __init__(self, slots: int, sequences: list[Tokens]) -> None:
        self.slots = slots
        self.sequences = sequences
        self.touched: dict[Tokens, int] = {}
        """Cached sequences with the time of their last touch."""
        self.granted: dict[int, int] = {}
        self.depth: dict[int, int] = {}
        self.clock = 0

    def prefixes(self, row: int, tokens: int) -> list[Tokens]:
        return [self.sequences[row][:length] for length in range(1, tokens + 1)]

    def locks(self) -> list[Tokens]:
        return [prefix for row, depth in self.depth.items() for prefix in self.prefixes(row, depth)]

    def own(self) -> int:
        return sum(self.granted.values()) - sum(self.depth.values())

    def free(self) -> int:
        return self.slots - len(self.touched) - self.own()

    def usage(self) -> Usage:
        locks = self.locks()
        cached = len(set(self.touched) - set(locks))
        return Usage(self.slots - cached - self.free(), 0, 0, cached, len(locks) - len(set(locks)))

    def found(self, row: int, known: int) -> int:
        hits = [len(p) for p in self.prefixes(row, known - 1) if p in self.touched]
        return max(hits, default=0)

    def fits(self, row: int, known: int, tokens: int) -> bool:
        """Whether so many tokens could be held at once beside what is held now."""
        needed = set(self.prefixes(row, self.found(row, known)))
        locked = set(self.locks())
        return len(locked | needed) + self.own() + tokens - len(needed) <= self.slots

    def admit(self, row: int, known: int, tokens: int) -> None:
        self.granted[row] = self.depth[row] = found = self.found(row, known)
        self.touch(row, found)
        for _ in range(tokens - found):
            self.take(row)

    def take(self, row: int) -> bool:
        """One more slot; False, and nothing changed, if there is none."""
        evict = not self.free()
        if evict:
            locked = set(self.locks())
            inner = {sequence[:-1] for sequence in self.touched}
            leaves = [one for one in self.touched if one not in locked and one not in inner]
            if not leaves:
                return False
            times = sorted(self.touched[leaf] for leaf in leaves)
            assert times[:1] != times[1:2], "which leaf goes first is open"
            del self.touched[min(leaves, key=lambda leaf: self.touched[leaf])]
        self.granted[row] += 1
        return True

    def touch(self, row: int, tokens: int) -> None:
        self.clock += 1
        self.touched |= dict.fromkeys(self.prefixes(row, tokens), self.clock)

    def learn(self, row: int, tokens: int) -> None:
        self.touch(row, tokens)
        self.depth[row] = tokens

    def release(self, row: int) -> None:
        del self.granted[row], self.depth[row]


class Driver:
    """The same operations on the allocator and on the model, as an engine would do them."""

    def __init__(self, trace: Columns, slots: int) -> None:
        self.allocator = RadixAllocator(num_gpu_blocks=slots + 1, block_size=1)
        self.requests = requests_of(trace)
        self.model = NaiveRadix(slots, sequences_of(trace))
        self.batch = RunningBatch()
        self.in_step: dict[Request, None] = {}
        """Those whose chunk is being computed."""

    def compare(self) -> None:
        self.allocator.check()
        assert self.allocator.usage(blocked=False) == self.model.usage()
        assert self.allocator.num_free == self.model.free()
        for request in self.requests:
            if request not in self.batch.requests:
                found = self.model.found(request.index, request.known)
                assert self.allocator.cached_tokens(request) == found

    def run(self, action: str, row: int, size: int) -> None:
        request, batch = self.requests[row], self.batch
        if action == "admit" and request not in batch.requests:
            self.admit(request, size)
        elif action == "chunk" and batch.prefills:
            self.chunk(list(batch.prefills)[row % len(batch.prefills)], size)
        elif action == "preempt" and batch.requests:
            self.preempt(list(batch.requests)[row % len(batch.requests)])
        elif action == "end":
            self.end_step()
        elif action in ("decode", "one by one") and batch.num_decodes and not self.in_step:
            self.decode(size if action == "decode" else 1, in_bulk=action == "decode")

    def admit(self, request: Request, size: int) -> None:
        row, known = request.index, request.known
        if known < request.total_tokens and not self.allocator.why_never(request):
            tokens = min(known, self.allocator.cached_tokens(request) + size)
            fits = self.model.fits(row, known, known)
            assert self.allocator.can_admit(request, tokens, others_run=True) == fits
            if fits:
                self.allocator.admit(request, tokens)
                self.model.admit(row, known, tokens)
                self.batch.admit(request)
                request.computed = tokens
                self.in_step[request] = None

    def chunk(self, request: Request, size: int) -> None:
        tokens = min(request.known, request.computed + size)
        locked = len(set(self.model.locks()))
        more = tokens - request.computed
        fits = locked + self.model.own() + more <= self.model.slots
        assert self.allocator.extend(request, tokens) == fits
        if fits:
            for _ in range(more):
                assert self.model.take(request.index)
            request.computed = tokens
            self.in_step[request] = None

    def end_step(self) -> None:
        for request in self.in_step:
            self.allocator.learn(request, request.computed)
            self.model.learn(request.index, request.computed)
            if request.computed == request.known:
                request.known += 1
                if request.known == request.total_tokens:
                    self.finish(request)
                else:
                    self.batch.start_decoding(request)
                    self.allocator.start_decoding(request)
        self.in_step.clear()

    def decode(self, limit: int, *, in_bulk: bool) -> None:
        allocator, batch, model = self.allocator, self.batch, self.model
        decoders = allocator.needers(batch.step)
        count = len(decoders)
        limit = min(limit, batch.next_end() - batch.step)
        room = model.slots - len(set(model.locks())) - model.own()
        steps = allocator.decode_steps(batch.step, limit)
        assert steps == min(limit, room // count)
        evicted = []
        for _ in range(steps):
            before = len(model.touched)
            assert all([model.take(request.index) for request in decoders])
            evicted.append(before - len(model.touched))
        if in_bulk and steps:
            growths = allocator.decode(batch.step, steps)
            assert [growth.offset for growth in growths] == list(range(steps))
            assert [growth.slots for growth in growths] == [count] * steps
            assert [growth.evicted for growth in growths] == evicted
        elif steps:
            assert all(allocator.extend(one, one.known_at(batch.step)) for one in decoders)
        batch.step += steps
        for request in batch.ended():
            self.finish(request)

    def finish(self, request: Request) -> None:
        self.leave(request)
        self.allocator.learn(request, request.kv_tokens)
        self.model.learn(request.index, request.kv_tokens)
        self.release(request)

    def preempt(self, request: Request) -> None:
        self.leave(request)
        self.release(request)
        self.in_step.pop(request, None)
        request.computed = 0

    def leave(self, request: Request) -> None:
        if request.decoding:
            self.allocator.stop_decoding(request)
        self.batch.remove(request)

    def release(self, request: Request) -> None:
        self.allocator.release(request)
        self.model.release(request.index)


def requests_of(trace: Columns) -> list[Request]:
    paths = content_paths(trace, 1)
    lengths = zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    requests = [
        Request(index=row, prompt_tokens=prompt, output_tokens=output)
        for row, (prompt, output) in enumerate(lengths)
    ]
    for request, path in zip(requests, paths, strict=True):
        request.path = path
    return requests


def sequences_of(trace: Columns) -> list[Tokens]:
    """Every row's tokens, spelled out."""
    assert trace.prefix_row is not None
    assert trace.prefix_tokens is not None
    sequences: list[Tokens] = []
    for row, (other, shared) in enumerate(zip(trace.prefix_row, trace.prefix_tokens, strict=True)):
        head = sequences[other][:shared] if other >= 0 else ()
        total = int(trace.prompt_tokens[row] + trace.output_tokens[row])
        sequences.append((*head, *((row, place) for place in range(len(head), total))))
    return sequences


ACTIONS = ["admit", "admit", "end", "end", "chunk", "decode", "one by one", "preempt"]


@pytest.mark.parametrize("seed", range(20))
def test_equals_a_token_by_token_model(seed: int) -> None:
    """Random operations in a pool that is always full; requests come and go by their rows."""
    rng = Random(seed)
    driver = Driver(_family(rng, 60), slots=rng.randint(25, 50))
    for now in range(900):
        row = min(now // 15 + rng.randint(0, 5), 59)
        driver.run(rng.choice(ACTIONS), row, rng.choice([1, 2, 5, 30]))
        driver.compare()
    assert driver.allocator.num_evicted_blocks > 100


def _family(rng: Random, count: int) -> Columns:
    """Prompts that mostly begin as one of the last few, with its answer or without."""
    rows: list[tuple[int, int, int, int]] = []
    for row in range(count):
        prompt, output = rng.randint(1, 16), rng.randint(1, 10)
        other = row - rng.randint(1, 6)
        if other < 0 or not rng.randint(0, 3):
            rows.append((prompt, output, -1, 0))
        else:
            most = min(prompt, rows[other][0] + rows[other][1])
            rows.append((prompt, output, other, rng.randint(0, most)))
    return columns(*rows)


def columns(*rows: tuple[int, int, int, int]) -> Columns:
    """Rows of (prompt tokens, output tokens, prefix row, prefix tokens), a second apart."""
    prompts, outputs, others, shared = (np.array(column) for column in zip(*rows, strict=True))
    return Columns(
        arrival_s=np.arange(len(rows), dtype=np.float64),
        prompt_tokens=prompts,
        output_tokens=outputs,
        prefix_row=others,
        prefix_tokens=shared,
    )


def radix(slots: int, **settings: float) -> RadixAllocator:
    return RadixAllocator(num_gpu_blocks=slots + 1, block_size=1, **settings)  # type: ignore[arg-type]  # few kinds of values


def prefill(allocator: RadixAllocator, *requests: Request) -> None:
    """Admit requests and compute their prompts in one step."""
    for request in requests:
        assert allocator.can_admit(request, request.known, others_run=False)
        allocator.admit(request, request.known)
    for request in requests:
        request.computed = request.known
        allocator.learn(request, request.computed)
    allocator.check()


def finish(allocator: RadixAllocator, request: Request) -> None:
    """Compute the request's outputs; it ends."""
    assert allocator.extend(request, request.kv_tokens)
    allocator.learn(request, request.kv_tokens)
    allocator.release(request)
    allocator.check()


def counts(allocator: RadixAllocator) -> tuple[int, int, int, int]:
    """Slots free, held, cached and shared."""
    usage = allocator.usage(blocked=False)
    return allocator.num_free, usage.held, usage.cached, usage.shared


@pytest.mark.parametrize(
    ("prefix_cache", "hits"), [("hash", [0, 32, 96, 64]), ("radix", [0, 40, 99, 75])]
)
def test_hits_count_tokens_not_blocks(prefix_cache: str, hits: list[int]) -> None:
    """A shared beginning, the same prompt again, a later turn that repeats the answer."""
    trace = columns((100, 8, -1, 0), (60, 8, 0, 40), (100, 8, 0, 100), (90, 8, 1, 75))
    trace = replace(trace, output_tokens=np.array([8, 16, 8, 8]))  # 75 = 60 and 15 of 16 answered
    deployment = Deployment(
        max_model_len=256, enable_prefix_caching=True, prefix_cache=prefix_cache
    )
    for exact in (False, True):
        result = simulate(
            trace,
            deployment=deployment,
            cost=COSTS["affine"],
            num_gpu_blocks=50,
            exact_steps=exact,
            check=True,
        )
        assert result.requests["cached_tokens"].tolist() == hits


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_prompt_is_found_while_its_request_decodes(asynchronous: bool) -> None:
    """The first arrives alone, is computed in chunks of 16 and decodes for longer than a second."""
    trace = columns((40, 400, -1, 0), (40, 5, 0, 40))
    deployment = Deployment(
        max_model_len=512,
        max_num_batched_tokens=16,
        enable_prefix_caching=True,
        prefix_cache="radix",
        async_scheduling=asynchronous,
    )
    result = simulate(
        trace, deployment=deployment, cost=COSTS["affine"], num_gpu_blocks=50, check=True
    )
    assert result.requests["cached_tokens"].tolist() == [0, 39]
    assert result.requests["finish_s"][0] > result.requests["scheduled_s"][1]


def test_a_prompt_is_found_when_its_step_has_ended() -> None:
    one, two = requests_of(columns((20, 5, -1, 0), (20, 5, 0, 20)))
    allocator = radix(100)
    allocator.admit(one, 12)
    assert allocator.cached_tokens(two) == 0
    allocator.learn(one, 12)
    assert allocator.cached_tokens(two) == 12
    assert allocator.extend(one, 20)
    assert allocator.cached_tokens(two) == 12
    allocator.learn(one, 20)
    assert allocator.cached_tokens(two) == 19, "one token is left to compute"


def test_outputs_are_found_when_their_request_has_finished() -> None:
    one, two = requests_of(columns((20, 10, -1, 0), (40, 5, 0, 30)))
    allocator, batch = radix(100), RunningBatch()
    batch.admit(one)
    prefill(allocator, one)
    one.known += 1
    batch.start_decoding(one)
    allocator.start_decoding(one)
    allocator.decode(0, 5)
    batch.step += 5
    allocator.learn(one, one.known_at(batch.step) - 1)  # a step that left it out
    assert allocator.cached_tokens(two) == 20
    allocator.decode(5, 4)
    batch.step += 4
    allocator.stop_decoding(one)
    batch.remove(one)
    assert one.computed == one.kv_tokens
    allocator.learn(one, one.computed)
    allocator.release(one)
    assert allocator.cached_tokens(two) == 29, "the last output is never computed"


def test_what_two_computed_is_kept_once() -> None:
    one, two = requests_of(columns((50, 5, -1, 0), (60, 5, 0, 50)))
    allocator = radix(200)
    allocator.admit(one, 50)
    allocator.admit(two, 60)
    assert counts(allocator) == (90, 110, 0, 0)
    allocator.learn(one, 50)
    assert counts(allocator) == (90, 110, 0, 0)
    allocator.learn(two, 60)
    assert counts(allocator) == (140, 60, 0, 50)
    allocator.release(one)
    assert counts(allocator) == (140, 60, 0, 0), "two holds what they shared"
    allocator.release(two)
    assert counts(allocator) == (140, 0, 60, 0)


def test_least_recent_first_and_tails_before_heads() -> None:
    """Two branches of 10 tokens on a trunk of 10; the first was finished first."""
    first, second, probe, big = requests_of(
        columns((20, 1, -1, 0), (20, 1, 0, 10), (21, 1, 0, 20), (40, 1, -1, 0))
    )
    allocator = radix(45)
    for request in (first, second):
        prefill(allocator, request)
        finish(allocator, request)
    assert counts(allocator) == (15, 0, 30, 0)
    assert allocator.cached_tokens(probe) == 20, "a lookup is no touch"
    found = []
    allocator.admit(big, 15)
    for tokens in range(16, 41):
        assert allocator.extend(big, tokens)
        allocator.check()
        found.append((allocator.cached_tokens(first), allocator.cached_tokens(second)))
    tail_of_first = [(min(19, 20 - n), 19) for n in range(1, 11)]
    then_second = [(min(10, 20 - n), min(19, 20 - n)) for n in range(1, 16)]
    assert found == tail_of_first + then_second
    assert allocator.num_evicted_blocks == 25


def test_admission_makes_recent() -> None:
    old, young, probe, big = requests_of(
        columns((10, 1, -1, 0), (10, 1, -1, 0), (11, 1, 0, 10), (20, 1, -1, 0))
    )
    allocator = radix(30)
    for request in (old, young):
        prefill(allocator, request)
        finish(allocator, request)
    allocator.admit(probe, 11)
    allocator.release(probe)
    allocator.admit(big, 20)
    assert allocator.cached_tokens(old) == 9
    assert allocator.cached_tokens(young) == 0


def test_what_is_locked_stays() -> None:
    """Of a cached prompt of 30 a request matched 12: these are locked, the rest goes."""
    whole, part, big = requests_of(columns((30, 1, -1, 0), (20, 1, 0, 12), (50, 1, -1, 0)))
    allocator = radix(40)
    prefill(allocator, whole)
    finish(allocator, whole)
    prefill(allocator, part)
    assert counts(allocator) == (2, 20, 18, 0)
    assert not allocator.can_admit(big, 21, others_run=False)
    big.known = 20
    assert allocator.can_admit(big, 20, others_run=False)
    allocator.admit(big, 20)
    assert counts(allocator) == (0, 40, 0, 0)
    assert allocator.cached_tokens(whole) == 12
    assert not allocator.extend(big, 21)
    assert not allocator.can_admit(whole, 13, others_run=True)
    allocator.check()


def test_evictable_hits_are_not_counted_twice() -> None:
    """They are hits and they are slots to be evicted: a request cannot use them as both."""
    cached, other, again = requests_of(columns((20, 1, -1, 0), (10, 1, -1, 0), (31, 1, 0, 20)))
    allocator = radix(40)
    prefill(allocator, cached)
    finish(allocator, cached)
    prefill(allocator, other)
    assert counts(allocator) == (10, 10, 20, 0)
    assert not allocator.can_admit(again, 31, others_run=True)
    again.known = 30
    assert allocator.can_admit(again, 30, others_run=True)
    allocator.admit(again, 30)
    assert counts(allocator) == (0, 40, 0, 0)


def test_a_segment_held_alike_is_one_run() -> None:
    """Chunks and partial matches cut it; a request that holds all of it joins the pieces."""
    prefixes = [(40, 1, -1, 0), (41, 1, 0, 30), (40, 1, 0, 40)]
    whole, part, again = requests_of(columns(*prefixes))
    allocator = radix(200)
    allocator.admit(whole, 7)
    for tokens in (7, 20, 40):
        assert allocator.extend(whole, tokens)
        allocator.learn(whole, tokens)
    assert [len(segment.runs) for segment in whole.path[:2]] == [1, 1]
    allocator.release(whole)
    allocator.admit(again, 40)
    assert [len(segment.runs) for segment in again.path[:2]] == [1, 2], "all but the last token"
    allocator.learn(again, 40)
    assert [len(segment.runs) for segment in again.path[:2]] == [1, 1]
    prefill(allocator, part)
    assert allocator.usage(blocked=False).shared == 30


def test_locked_hits_cost_nothing() -> None:
    holder, again = requests_of(columns((20, 5, -1, 0), (25, 5, 0, 20)))
    allocator = radix(25)
    prefill(allocator, holder)
    assert allocator.can_admit(again, 25, others_run=True)
    prefill(allocator, again)
    assert counts(allocator) == (0, 25, 0, 20)
    assert not allocator.extend(again, 26)


def test_hits_that_are_released_cost_their_slots() -> None:
    holder, other, again = requests_of(columns((20, 5, -1, 0), (16, 5, -1, 0), (25, 5, 0, 20)))
    allocator = radix(40)
    prefill(allocator, holder, other)
    assert not allocator.can_admit(again, 25, others_run=True), "5 beside the hits, 4 are free"
    allocator.release(holder)
    assert not allocator.can_admit(again, 25, others_run=True), "25 of 24"
    again.known = 24
    assert allocator.can_admit(again, 24, others_run=True)


def test_a_preempted_request_leaves_what_it_had_inserted() -> None:
    one, other, big = requests_of(columns((30, 9, -1, 0), (10, 1, -1, 0), (35, 1, -1, 0)))
    allocator = radix(60)
    allocator.admit(one, 16)
    allocator.learn(one, 16)
    assert allocator.extend(one, 30)
    prefill(allocator, other)
    finish(allocator, other)
    assert counts(allocator) == (20, 30, 10, 0)
    allocator.release(one)
    assert counts(allocator) == (34, 0, 26, 0)
    assert allocator.cached_tokens(one) == 16
    allocator.admit(big, 35)
    assert allocator.cached_tokens(one) == 15, "its last touch was before the other's"
    assert allocator.cached_tokens(other) == 9


def test_decoding_evicts_leaves_as_free_slots_run_out() -> None:
    rows = [(10, 1, -1, 0), (10, 1, -1, 0), (10, 50, -1, 0), (10, 50, -1, 0)]
    first, second, *decoders = requests_of(columns(*rows))
    allocator, batch = radix(47), RunningBatch()
    for request in (first, second):
        prefill(allocator, request)
        finish(allocator, request)
    for request in decoders:
        batch.admit(request)
        prefill(allocator, request)
        request.known += 1
        batch.start_decoding(request)
        allocator.start_decoding(request)
    assert allocator.num_free == 7
    assert allocator.decode_steps(0, 50) == 13
    growths = allocator.decode(0, 9)
    assert [growth.evicted for growth in growths] == [0, 0, 0, 1, 2, 2, 2, 2, 2]
    assert {growth.slots for growth in growths} == {2}
    batch.step += 9
    allocator.check()
    assert (allocator.cached_tokens(first), allocator.cached_tokens(second)) == (0, 9)
    assert allocator.decode_steps(9, 50) == 4
    assert allocator.num_evicted_blocks == 11


def test_watermark_and_gate() -> None:
    (request,) = requests_of(columns((85, 5, -1, 0)))
    strict, loose = radix(100, watermark=0.2), radix(100, watermark=0.2, reserve_full_isl=False)
    assert strict.can_admit(request, 10, others_run=False)
    assert not strict.can_admit(request, 10, others_run=True)
    assert loose.can_admit(request, 80, others_run=True)
    assert not loose.can_admit(request, 81, others_run=True)


def test_why_never() -> None:
    fits, large = requests_of(columns((90, 11, -1, 0), (90, 12, -1, 0)))
    assert radix(100).why_never(fits) == ""
    assert radix(100).why_never(large) == "needs more than all 100 slots of the pool"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_gpu_blocks": 1}, r"num_gpu_blocks\(=1\) must be >= 2"),
        ({"block_size": 0}, r"block_size\(=0\) must be > 0"),
        ({"watermark": 1.0}, r"watermark\(=1.0\) must be in \[0, 1\)"),
    ],
)
def test_wrong_arguments(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RadixAllocator(**{"num_gpu_blocks": 10, "block_size": 16, **arguments})  # type: ignore[arg-type]  # few kinds of values


def test_a_deployment_names_it() -> None:
    deployment = Deployment(max_model_len=64, enable_prefix_caching=True, prefix_cache="radix")
    allocator = make_allocator(deployment, 11)
    assert isinstance(allocator, RadixAllocator)
    assert allocator.pool_slots == 160
    with pytest.raises(ValueError, match="needs enable_prefix_caching"):
        replace(deployment, enable_prefix_caching=False)
    with pytest.raises(ValueError, match=r"prefix_cache.*hash.*radix"):
        replace(deployment, prefix_cache="tree")
    window = KVGroup(
        kind="sliding_window", num_layers=1, block_size=16, page_bytes=1, window_tokens=8
    )
    with pytest.raises(ValueError, match="needs layers that all keep every token"):
        replace(deployment, kv_groups=(window,))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        ("lock", "is held by"),
        ("recency", "more recent than its parent"),
        ("hole", "has a hole"),
        ("count", "cached, 21 counted"),
        ("queue", "cannot be evicted"),
        ("grant", "free"),
    ],
)
def test_check_sees_a_wrong_ledger(tamper: str, message: str) -> None:
    one, two = requests_of(columns((20, 5, -1, 0), (30, 5, 0, 10)))
    allocator = radix(60)
    prefill(allocator, one)
    allocator.release(one)
    prefill(allocator, two)
    allocator.release(two)
    run = two.path[1].runs[0]
    if tamper == "lock":
        run.locks += 1
    elif tamper == "recency":
        run.stamp += 1
    elif tamper == "hole":
        two.path[0].runs[-1].stop -= 1
    elif tamper == "count":
        allocator.num_cached = 21
    elif tamper == "queue":
        allocator._queue.clear()
    else:
        allocator._num_granted += 1
    with pytest.raises(AssertionError, match=message):
        allocator.check()


@LAW
@given(data=st.data())
def test_macro_steps_equal_single_steps(data: st.DataObject) -> None:
    _check_law(data)


@pytest.mark.slow
@SWEEP
@given(data=st.data())
def test_macro_steps_equal_single_steps_at_length(data: st.DataObject) -> None:
    _check_law(data)


def _check_law(data: st.DataObject) -> None:
    trace = data.draw(traces())
    drawn, blocks = data.draw(deployments(allocator=("paged", "max", "buddy"), scheduler="vllm"))
    deployment = replace(drawn, kv_groups=(), enable_prefix_caching=True, prefix_cache="radix")
    cost = COSTS[data.draw(st.sampled_from(sorted(COSTS)))]
    concurrency = data.draw(st.sampled_from([None, None, 1, 4]))
    macro, exact = (
        simulate(
            trace,
            deployment=deployment,
            cost=cost,
            num_gpu_blocks=blocks,
            concurrency=concurrency,
            exact_steps=exact,
            check=True,
        )
        for exact in (False, True)
    )
    _assert_conserved(macro)
    _assert_conserved(exact)
    assert macro.num_steps == exact.num_steps
    for name, column in exact.requests.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(macro.requests[name], column, rtol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(macro.requests[name], column, err_msg=name)
    for name in (*CATEGORIES, "saved"):
        sums = [run.segments[name] @ run.segments["duration_s"] for run in (macro, exact)]
        assert sums[0] == pytest.approx(sums[1], rel=1e-8, abs=1e-8), name
    assert _numbers(macro) == pytest.approx(_numbers(exact), rel=1e-8, abs=1e-8)


def _assert_conserved(result: Result) -> None:
    parts = {name: np.asarray(result.segments[name], dtype=float) for name in CATEGORIES}
    np.testing.assert_allclose(sum(parts.values()), result.pool_slots, rtol=1e-9)
    for name, part in parts.items():
        assert (part >= -1e-6).all(), name


def _numbers(result: Result) -> dict[str, float]:
    """The numbers of the summary, by their place in it."""
    flat: dict[str, float] = {}

    def walk(place: str, value: object) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                walk(f"{place}.{key}", part)
        elif isinstance(value, int | float):
            flat[place] = value

    walk("", summarise(result).to_json())
    return flat
