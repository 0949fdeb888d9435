"""What a recorder touches of vLLM 0.33, without vLLM.

``modules()`` stands in for the modules that it imports. The ``Scheduler`` in them has vLLM's names
and asks one of two deciders what to do: the oracle of ``reference.py``, or the script of a golden
step log. ``serve`` is the engine's loop around a scheduler (``golden/RULES.md`` part 2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

from support.reference import Group, ReferenceConfig, ReferenceRequest, _Request, _Scheduler

Status = Enum("Status", ["WAITING", "RUNNING", "PREEMPTED"])


class FullAttentionSpec:
    """A group of full attention."""


@dataclass
class SlidingWindowSpec:
    """A group whose layers see a window."""

    sliding_window: int


@dataclass
class ChunkedLocalAttentionSpec:
    """A group whose layers see their chunk."""

    attention_chunk_size: int


def spec_of(group: Group) -> object:
    """A KV group as vLLM writes it."""
    if group.kind == "window":
        return SlidingWindowSpec(group.span)
    return ChunkedLocalAttentionSpec(group.span) if group.kind == "local" else FullAttentionSpec()


def engine_arguments(config: ReferenceConfig) -> dict[str, Any]:
    """What the engine's core hands to a scheduler's constructor."""
    flags = SimpleNamespace(
        max_num_seqs=config.max_num_seqs,
        max_num_active_seqs=config.max_num_active_seqs,
        enable_chunked_prefill=config.chunked_prefill,
        policy=config.policy,
        watermark=config.watermark,
        scheduler_reserve_full_isl=config.reserve_full_isl,
        long_prefill_token_threshold=config.long_prefill_token_threshold,
        prefill_schedule_interval=config.prefill_schedule_interval,
    )
    groups = [SimpleNamespace(kv_cache_spec=spec_of(group)) for group in config.groups]
    return {
        "vllm_config": SimpleNamespace(scheduler_config=flags, reference=config),
        "kv_cache_config": SimpleNamespace(num_blocks=config.num_blocks, kv_cache_groups=groups),
        "structured_output_manager": None,
        "block_size": config.block_size,
    }


class Request:
    """vLLM's request, as far as a recorder reads it; ``inner`` is the oracle's."""

    def __init__(
        self, spec: ReferenceRequest, *, max_tokens: int | None = None, arrival_time: float = 0.0
    ) -> None:
        self.inner = _Request(spec=spec, position=0, prompt=spec.prompt_tokens)
        self.request_id = spec.id
        self.priority = spec.priority
        self.arrival_time = arrival_time
        self.max_tokens = max_tokens or spec.output_tokens
        self.stop_at: int | None = None
        """Outputs after which it stops without anybody having foreseen it."""
        self.hashes: Callable[[Request], list[bytes]] = lambda request: []

    num_prompt_tokens = property(lambda self: self.inner.prompt)
    num_output_tokens = property(lambda self: self.inner.outputs)
    num_tokens = property(lambda self: self.inner.known)
    num_computed_tokens = property(lambda self: self.inner.computed)
    num_output_placeholders = property(lambda self: self.inner.holes)
    status = property(
        lambda self: Status.RUNNING if self.inner.status == "running" else Status.WAITING
    )
    block_hashes = property(lambda self: self.hashes(self))


@dataclass
class Blocks:
    """What an allocation returns."""

    ids: Sequence[Sequence[int]]

    def get_block_ids(self) -> tuple[list[int], ...]:
        """New blocks of each group."""
        return tuple(list(group) for group in self.ids)


@dataclass
class BlockPool:
    """Counts free blocks and sees evictions."""

    free: Callable[[], int]
    evicts: bool = False

    def get_num_free_blocks(self) -> int:
        """Cached ones that nobody holds count."""
        return self.free()

    def _maybe_evict_cached_block(self, block: object) -> bool:
        return self.evicts


@dataclass
class KVCacheManager:
    """Allocates as its decider says."""

    enable_caching: bool
    block_pool: BlockPool
    decide: Callable[..., Blocks | None]

    def allocate_slots(
        self,
        request: Request,
        num_new_tokens: int,
        num_new_computed_tokens: int = 0,
        new_computed_blocks: object = None,
        **others: object,
    ) -> Blocks | None:
        """New blocks, or None where they do not fit."""
        return self.decide(request, num_new_tokens, num_new_computed_tokens)


@dataclass
class SchedulerOutput:
    """A batch."""

    num_scheduled_tokens: dict[str, int] = field(default_factory=dict)
    work: Any = None
    line: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_num_scheduled_tokens(self) -> int:
        """Of all requests."""
        return sum(self.num_scheduled_tokens.values())


class Scheduler:
    """vLLM's scheduler in lock step; the oracle decides."""

    is_async = False

    def __init__(
        self,
        vllm_config: Any,
        kv_cache_config: Any,
        structured_output_manager: object,
        block_size: int,
        decider: type[Decider] | None = None,
    ) -> None:
        config = vllm_config.reference
        assert config.async_scheduling == self.is_async
        self.vllm_config = vllm_config
        self.kv_cache_config = kv_cache_config
        self.block_size = block_size
        self.max_model_len = config.max_model_len
        self.max_num_scheduled_tokens = config.max_num_batched_tokens
        self.requests: dict[str, Request] = {}
        self.decider = (decider or Decider)(config, self)
        self.kv_cache_manager = KVCacheManager(
            enable_caching=config.prefix_caching,
            block_pool=BlockPool(self.decider.free_blocks),
            decide=self.decider.allocate,
        )

    running = property(lambda self: self.decider.running)
    waiting = property(lambda self: self.decider.waiting)

    def add_request(self, request: Request) -> None:
        """Into the waiting queue."""
        self.requests[request.request_id] = request
        self.decider.admit(request)

    def finish_requests(self, request_ids: Any, finished_status: object) -> list[tuple[str, int]]:
        """Take requests out; those that were there."""
        names = [request_ids] if isinstance(request_ids, str) else request_ids
        known = [name for name in list(names or self.requests) if name in self.requests]
        for name in known:
            self.decider.cancel(self.requests.pop(name).inner)
        return [(name, 0) for name in known]

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """The next batch."""
        return self.decider.decide()

    def update_from_output(self, output: SchedulerOutput, model_output: object) -> dict[int, Any]:
        """Deliver the tokens of a batch."""
        for name in self.decider.deliver(output):
            del self.requests[name]
        return {}

    def has_requests(self) -> bool:
        """Whether schedule() has something to do; ids to flush count in asynchronous mode."""
        return bool(self.requests) or (self.is_async and self.decider.unflushed)

    def shutdown(self) -> None:
        """Nothing to release."""

    def _preempt_request(self, request: Request, timestamp: float) -> None:
        self.decider.preempt_now(request)

    def _update_after_schedule(self, output: SchedulerOutput) -> None:
        self.decider.advance_now(output)


class AsyncScheduler(Scheduler):
    """vLLM's scheduler one batch ahead."""

    is_async = True


class Decider(_Scheduler):
    """The oracle, doing what vLLM does in methods that others override by these methods."""

    def __init__(self, config: ReferenceConfig, surface: Scheduler) -> None:
        super().__init__(config)
        self.surface = surface
        self._place, self.cache.allocate = self.cache.allocate, self._ask  # type: ignore[method-assign]
        self._take, self.cache.pool.take = self.cache.pool.take, self._take_seen  # type: ignore[method-assign]

    def free_blocks(self) -> int:
        """Blocks that nobody holds."""
        return len(self.cache.pool.free)

    def admit(self, request: Request) -> None:
        """Queue an arrival."""
        if self.config.prefix_caching:
            request.hashes = lambda one: [
                str(number).encode()
                for number in self.cache.prefixes(one.inner, one.inner.known // self._size)
            ]
        self.add(request.inner)

    @property
    def _size(self) -> int:
        return self.config.block_size

    def decide(self) -> SchedulerOutput:
        """One schedule() of the oracle."""
        self._output = SchedulerOutput()
        self._output.work, _ = self.schedule(0)
        return self._output

    def deliver(self, output: SchedulerOutput) -> list[str]:
        """Finished requests in their order; some stop where nobody foresaw it."""
        finished = self.update(output.work, 0)
        for inner, _, _ in output.work:
            request = self.surface.requests.get(inner.id)
            if request is not None and inner.outputs == request.stop_at:
                self._leave(inner, "cancelled")  # what is in flight for it is dropped
                finished.append(inner.id)
        return finished

    def allocate(self, request: Request, tokens: int, hit_tokens: int) -> Blocks | None:
        """What allocate_slots() comes to."""
        hit, admission, watermark = self._asked
        assert hit_tokens == hit.tokens
        new = self._place(request.inner, tokens, hit, admission=admission, watermark=watermark)
        return None if new is None else Blocks(new)

    def _ask(
        self, inner: Any, tokens: int, hit: Any, *, admission: bool, watermark: int = 0
    ) -> Any:
        self._asked = (hit, admission, watermark)
        surface = self.surface
        request = surface.requests[inner.id]
        blocks = surface.kv_cache_manager.allocate_slots(
            request, tokens, num_new_computed_tokens=hit.tokens, num_lookahead_tokens=0
        )
        return None if blocks is None else blocks.ids

    def _take_seen(self) -> int:
        pool, seen = self.cache.pool, self.surface.kv_cache_manager.block_pool
        before = pool.evictions
        block = self._take()
        seen.evicts = pool.evictions > before
        seen._maybe_evict_cached_block(block)
        return block

    def _preempt(self, victim: _Request) -> None:
        self.surface._preempt_request(self.surface.requests[victim.id], 0.0)

    def preempt_now(self, request: Request) -> None:
        """The oracle's own preemption."""
        super()._preempt(request.inner)

    def _advance(self) -> Any:
        self._output.num_scheduled_tokens = {r.id: n for r, n in self._given.items()}
        self.surface._update_after_schedule(self._output)
        return self._work

    def advance_now(self, output: SchedulerOutput) -> None:
        """The oracle's own bookkeeping after a schedule."""
        self._work = super()._advance()


class Script:
    """A golden step log as a decider: everything as it was recorded.

    ``play`` is its engine: requests join where the log says that they joined, and a batch is
    processed before the first schedule() at or after its end.
    """

    unflushed = False

    def __init__(self, config: ReferenceConfig, surface: Scheduler) -> None:
        self.config = config
        self.surface = surface
        self.running: list[Request] = []
        self.waiting: list[Request] = []
        self.line: Mapping[str, Any] = {}
        self._free = config.num_blocks - 1
        self._events: deque[list[Any]] = deque()

    def free_blocks(self) -> int:
        """As recorded last."""
        return self._free

    def admit(self, request: Request) -> None:
        """Queue an arrival."""
        self.waiting.append(request)

    def decide(self) -> SchedulerOutput:
        """What the next line says, step by step."""
        line, surface = self.line, self.surface
        manager, pool = surface.kv_cache_manager, surface.kv_cache_manager.block_pool
        pool.evicts = True
        for _ in range(line.get("evict", 0)):
            pool._maybe_evict_cached_block(None)
        for kind, name, *values in line.get("ev", []):
            request = surface.requests[name]
            if kind == "p":
                surface._preempt_request(request, 0.0)
                continue
            tokens, hit = values[0], values[1] if kind == "a" else 0
            self._event = values if kind == "a" else None
            manager.allocate_slots(request, tokens, num_new_computed_tokens=hit)
            if kind == "a" and request in self.waiting:
                self.waiting.remove(request)
                self.running.append(request)
                request.inner.status = "running"
                request.inner.computed = hit
        output = SchedulerOutput({name: tokens for name, tokens, _ in line["sched"]}, line=line)
        self._free = line["free"]
        surface._update_after_schedule(output)
        assert (len(self.running), len(self.waiting)) == (line["run"], line["wait"])
        return output

    def allocate(self, request: Request, tokens: int, hit_tokens: int) -> Blocks | None:
        """As recorded."""
        if self._event is None:
            return None
        ids = self._event[3]
        return Blocks(ids if len(self.config.groups) > 1 else [ids])

    def preempt_now(self, request: Request) -> None:
        """Back to the queue."""
        self.running.remove(request)
        self.waiting.insert(0, request)
        request.inner.status = "waiting"
        request.inner.computed = request.inner.holes = 0

    def advance_now(self, output: SchedulerOutput) -> None:
        """Count the scheduled tokens as computed."""
        output.work = []
        for name, tokens in output.num_scheduled_tokens.items():
            inner = self.surface.requests[name].inner
            inner.computed += tokens
            if inner.computed >= inner.known + inner.holes:
                output.work.append(name)
                inner.holes += self.config.async_scheduling

    def deliver(self, output: SchedulerOutput) -> list[str]:
        """A token for each request that sampled one; those that finish leave as recorded."""
        for name in output.work:
            inner = self.surface.requests[name].inner
            inner.outputs += 1
            inner.holes = max(inner.holes - 1, 0)
        finished = list(output.line.get("fin", []))
        for name in finished:
            request = self.surface.requests[name]
            (self.running if request in self.running else self.waiting).remove(request)
        self._free = output.line["free_end"]
        return finished

    def cancel(self, inner: Any) -> None:
        """No golden run has cancellations."""
        raise NotImplementedError


def play(
    scheduler: Scheduler, lines: Sequence[Mapping[str, Any]], requests: Mapping[str, Request]
) -> None:
    """Drive a scheduler whose decider is a :class:`Script` through a log's lines."""
    flying: deque[tuple[int, SchedulerOutput]] = deque()
    for line in lines:
        while flying and flying[0][0] <= line["t"]:
            scheduler.update_from_output(flying.popleft()[1], None)
        for name in line.get("arr", []):
            scheduler.add_request(requests[name])
        scheduler.decider.line = line  # type: ignore[attr-defined]
        flying.append((line.get("start", line["t"]) + line["dt"], scheduler.schedule()))
    while flying:
        scheduler.update_from_output(flying.popleft()[1], None)


def modules() -> dict[str, ModuleType]:
    """The modules by name."""
    names = {
        "vllm": {"__version__": "0.33.0"},
        "vllm.v1": {},
        "vllm.v1.core": {},
        "vllm.v1.core.sched": {},
        "vllm.v1.core.sched.scheduler": {"Scheduler": Scheduler},
        "vllm.v1.core.sched.async_scheduler": {"AsyncScheduler": AsyncScheduler},
    }
    made = {name: ModuleType(name) for name in names}
    for name, values in names.items():
        vars(made[name]).update(values)
    return made


def serve(scheduler: Scheduler, inputs: Callable[[str], bool], most_steps: int = 20_000) -> None:
    """The engine's loop until there is nothing left.

    ``inputs`` is called where an engine takes requests and aborts in, with ``"queue"`` before each
    step and with ``"step"`` while a batch runs; it returns whether more will come.
    """
    depth = 2 if scheduler.is_async else 1
    queue: deque[SchedulerOutput] = deque()
    for _ in range(most_steps):
        coming = inputs("queue")
        if scheduler.has_requests():
            output = scheduler.schedule()
            queue.append(output)
            if len(queue) < depth and output.num_scheduled_tokens:
                continue
        elif not queue:
            if not coming:
                return
            continue
        inputs("step")
        scheduler.update_from_output(queue.popleft(), None)
    raise AssertionError("the engine does not come to an end")
