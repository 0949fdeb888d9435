"""The oracle: vLLM 0.33's V1 scheduler and KV cache, block by block and token by token.

The executable form of ``RULES.md``; numbers in comments name its rules. It shares no code with
kvsim, imports the standard library alone and is slow on purpose: block ids in an ordered queue,
token ids in tuples, prefixes compared exactly. It reproduces every line of every golden step log.

A step costs ``a + b * ntok + c * ctx`` nanoseconds (``step_time_ns``), an empty one nothing. The
engine loop is one for both modes: keep ``depth`` batches queued (1: synchronous, 2: asynchronous),
let the device run them back to back, process the oldest, schedule again (rules 2.2, 2.3).

What happens at a *schedule point* (just before a schedule() call at time t), in this order:

1. requests with ``arrival_ns <= t`` join the waiting queue, by arrival, then by position;
2. requests with ``cancel_ns <= t`` that have joined leave: taken out of their queue, their blocks
   freed exactly as a finish frees them (rule 1.4). A token in flight for one is dropped;
3. each ``reset_ns <= t`` not yet tried drops every hash if no block is held, else does nothing.

Chunked-local groups (``local:C``) are in no golden run. They follow vLLM's
``ChunkedLocalAttentionManager``, with C a multiple of the block size: the token at position p
attends to positions >= p // C * C, so with x tokens processed the first x // C * C are dead; a
lookup of at most m tokens takes the blocks before m // C * C as null without looking (alone, such
a group "hits" blocks that nobody computed; beside full groups their hit is the limit), then cached
ones up to the first gap; the whole-sequence gate caps at cdiv(min(C + F, max_model_len), bs);
every full block is registered (assumed: the sparse mask is known for window groups only).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Line = dict[str, Any]
TokenRange = tuple[int, int]
Key = tuple[int, int]
"""(group, number of a prefix that ends with a block)."""

NULL = 0
"""The null block, which nobody holds or frees (rule 1.1)."""

OUTPUT_IDS = 1 << 61
OUTPUT_IDS_PER_REQUEST = 1 << 22
HASH_IDS = 1 << 70
UNIQUE_IDS = 1 << 80
IDS_PER_RANGE = 1 << 32


def cdiv(number: int, divisor: int) -> int:
    """Ceiling division."""
    return -(-number // divisor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRequest:
    """A request; equal token ids are equal tokens.

    ``prompt`` is a run-length code: (first token id, count) stands for count consecutive ids. The
    output tokens are the ids from ``output_first_id`` on.
    """

    id: str
    arrival_ns: int
    prompt: tuple[TokenRange, ...]
    output_tokens: int
    output_first_id: int
    priority: int = 0
    cancel_ns: int | None = None

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt."""
        return sum(count for _, count in self.prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceConfig:
    """What a step log's header says; ``num_blocks`` counts the null block.

    ``kv_spec``: ``full``, ``swa:W``, ``local:C``, ``hybrid:F,S,W`` (F full groups, then S window
    groups) or ``hybrid_local:F,S,C``.
    """

    num_blocks: int
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_active_seqs: int | None = None
    max_num_batched_tokens: int = 2048
    max_model_len: int = 8192
    prefix_caching: bool = True
    async_scheduling: bool = False
    policy: Literal["fcfs", "priority"] = "fcfs"
    chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    prefill_schedule_interval: int = 1
    watermark: float = 0.0
    reserve_full_isl: bool = True
    kv_spec: str = "full"
    step_time_ns: tuple[int, int, int] = (5_000_000, 20_000, 10)
    reset_ns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        chunks = {group.span for group in self.groups if group.kind == "local"}
        if any(chunk % self.block_size for chunk in chunks):
            raise ValueError(f"kv_spec(={self.kv_spec!r}) needs chunks of whole blocks.")

    @property
    def groups(self) -> tuple[Group, ...]:
        """The KV groups in order."""
        name, _, numbers = self.kv_spec.partition(":")
        values = [int(number) for number in numbers.split(",")] if numbers else []
        full = Group(kind="full")
        match name, values:
            case "full", []:
                return (full,)
            case "swa", [span]:
                return (Group(kind="window", span=span),)
            case "local", [span]:
                return (Group(kind="local", span=span),)
            case "hybrid", [num_full, num_others, span]:
                return (full,) * num_full + (Group(kind="window", span=span),) * num_others
            case "hybrid_local", [num_full, num_others, span]:
                return (full,) * num_full + (Group(kind="local", span=span),) * num_others
        raise ValueError(f"kv_spec(={self.kv_spec!r}) is none of those known.")

    @property
    def depth(self) -> int:
        """Batches in the engine's queue (rule 2.3)."""
        return 2 if self.async_scheduling else 1

    @property
    def seats(self) -> int:
        """Requests that may run at once (rule 5.2)."""
        return self.max_num_active_seqs or self.max_num_seqs

    @property
    def max_in_flight_tokens(self) -> int:
        """F of rule 6.2; doubles with asynchronous scheduling."""
        return self.depth * self.max_num_batched_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A KV group: what its layers attend to. ``span`` is the window or the chunk in tokens."""

    kind: Literal["full", "window", "local"]
    span: int = 0

    def dead_tokens(self, processed: int) -> int:
        """Leading tokens that nothing after ``processed`` tokens attends to (rule 6.1)."""
        if self.kind == "full":
            return 0
        if self.kind == "window":
            return max(0, processed - self.span + 1)
        return processed // self.span * self.span

    def hit_blocks(self, block_size: int) -> int:
        """Consecutive cached blocks that a window needs (rule 6.3)."""
        return cdiv(self.span - 1, block_size)

    def most_admitted_blocks(self, config: ReferenceConfig) -> int:
        """Cap of the whole-sequence gate (rule 6.2)."""
        bs, longest = config.block_size, config.max_model_len
        if self.kind == "full":
            return cdiv(longest, bs)
        if self.kind == "window":
            return cdiv(min(self.span - 1 + config.max_in_flight_tokens, longest), bs) + 1
        return cdiv(min(self.span + config.max_in_flight_tokens, longest), bs)


Status = Literal["waiting", "running", "finished", "rejected", "cancelled"]
"""What became of a request; one that is unfinished at the end is waiting or running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestResult:
    """What a run did with a request; times are None where it did not come so far."""

    id: str
    status: Status
    arrival_ns: int
    first_scheduled_ns: int | None
    first_token_ns: int | None
    finish_ns: int | None
    output_tokens: int
    preemptions: int
    hit_tokens: int
    """Prefix-hit tokens at the first admission."""
    resume_hit_tokens: int
    """Prefix-hit tokens at later admissions, summed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceState:
    """Everything at one moment: after a schedule() or after the update of a batch."""

    moment: Literal["schedule", "update"]
    line: Line
    """Of the batch just decided or processed, even if it is not logged."""
    now_ns: int
    free_queue: tuple[int, ...]
    """Blocks that nobody holds, next to be taken first."""
    ref_counts: tuple[int, ...]
    """Holders of each block id; the null block has none."""
    hashes: Mapping[int, Key]
    """Which prefix of which group a block holds."""
    cached: Mapping[Key, tuple[int, ...]]
    """Blocks of a key in order of registration; a lookup takes the first."""
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    tables: Mapping[str, tuple[tuple[int, ...], ...]]
    """Block table per group of each running request; 0 is the null block."""
    known: Mapping[str, int]
    computed: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRun:
    """A run; ``status`` is ok, stalled (nothing can ever move) or cut (``most_steps`` ran).

    In a run that was cut, the lines of batches in flight lack ``free_end``.
    """

    lines: list[Line]
    requests: dict[str, RequestResult]
    status: Literal["ok", "stalled", "cut"]
    empty_steps: int
    """schedule() calls that ran no token, logged or not."""

    def ids(self, *statuses: Status) -> list[str]:
        """Requests with one of these statuses."""
        return [result.id for result in self.requests.values() if result.status in statuses]


@dataclass(eq=False, slots=True, kw_only=True)
class _Request:
    """A request in the scheduler."""

    spec: ReferenceRequest
    position: int
    prompt: int
    status: Status = "waiting"
    outputs: int = 0
    computed: int = 0
    holes: int = 0
    in_flight: int = 0
    prefilling: bool = True
    """Since its admission it was not yet scheduled up to its known tokens."""
    prefixes: list[int] = field(default_factory=list)
    """Numbers of its prefixes that end with a block, as far as asked for."""
    tables: list[list[int]] = field(default_factory=list)
    registered: list[int] = field(default_factory=list)
    """Leading blocks per group already offered to the prefix cache."""
    junction: int = 0
    """Tokens of the longer hit that the full groups had (rule 6.5)."""
    first_scheduled_ns: int | None = None
    first_token_ns: int | None = None
    finish_ns: int | None = None
    preemptions: int = 0
    hit_tokens: int = 0
    resume_hit_tokens: int = 0

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def known(self) -> int:
        return self.prompt + self.outputs

    @property
    def urgency(self) -> tuple[int, int, str]:
        """Order of the priority queue, smallest first (rule 1.6)."""
        return (self.spec.priority, self.spec.arrival_ns, self.id)

    def tokens(self, first: int, last: int) -> tuple[int, ...]:
        """Token ids of positions first to last - 1."""
        ids: list[int] = []
        start = 0
        for token, count in (*self.spec.prompt, (self.spec.output_first_id, self.outputs)):
            ids += range(token + max(first - start, 0), token + min(last - start, count))
            start += count
        return tuple(ids)

    @property
    def result(self) -> RequestResult:
        return RequestResult(
            id=self.id,
            status=self.status,
            arrival_ns=self.spec.arrival_ns,
            first_scheduled_ns=self.first_scheduled_ns,
            first_token_ns=self.first_token_ns,
            finish_ns=self.finish_ns,
            output_tokens=self.outputs,
            preemptions=self.preemptions,
            hit_tokens=self.hit_tokens,
            resume_hit_tokens=self.resume_hit_tokens,
        )


class _Pool:
    """Blocks: who holds them, which are free, what they hold (rules 1.1-1.5)."""

    def __init__(self, num_blocks: int) -> None:
        self.free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))
        self.ref_counts = [0] * num_blocks
        self.key_of: dict[int, Key] = {}
        self.blocks_of: dict[Key, list[int]] = {}
        self.usable = num_blocks - 1
        self.evictions = 0

    def take(self) -> int:
        """The front of the free queue; a hash it carries is lost now (rules 1.2, 1.3)."""
        block, _ = self.free.popitem(last=False)
        key = self.key_of.pop(block, None)
        if key is not None:
            self.evictions += 1
            self.blocks_of[key].remove(block)
            if not self.blocks_of[key]:
                del self.blocks_of[key]
        self.ref_counts[block] = 1
        return block

    def touch(self, block: int) -> None:
        """Hold a cached block (rule 1.5)."""
        self.free.pop(block, None)
        self.ref_counts[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Let go of blocks in walk order (rule 1.4)."""
        unhashed = []
        for block in blocks:
            if block == NULL:
                continue
            self.ref_counts[block] -= 1
            if self.ref_counts[block] == 0:
                if block in self.key_of:
                    self.free[block] = None
                else:
                    unhashed.append(block)
        for block in reversed(unhashed):
            self.free[block] = None
            self.free.move_to_end(block, last=False)

    def register(self, block: int, key: Key) -> None:
        """Make a block findable; duplicates are kept (rule 4.6)."""
        self.key_of[block] = key
        self.blocks_of.setdefault(key, []).append(block)

    def find(self, key: Key) -> int:
        """The block registered first under a key, or the null block."""
        return self.blocks_of.get(key, [NULL])[0]

    def reset(self) -> None:
        """Drop every hash, if no block is held."""
        if len(self.free) == self.usable:
            self.key_of.clear()
            self.blocks_of.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hit:
    """What a lookup found; ``blocks`` per group, null where the group needs none."""

    blocks: list[list[int]]
    tokens: int = 0
    junction: int = 0


class _Cache:
    """The KV-cache manager: lookup, allocation, registration (parts 4 and 6)."""

    def __init__(self, config: ReferenceConfig) -> None:
        self.config = config
        self.groups = config.groups
        self.pool = _Pool(config.num_blocks)
        self._prefix_numbers: dict[tuple[int, tuple[int, ...]], int] = {}
        self._full = [g for g, group in enumerate(self.groups) if group.kind == "full"]
        self._other = [g for g, group in enumerate(self.groups) if group.kind != "full"]

    @property
    def no_hit(self) -> _Hit:
        return _Hit(blocks=[[] for _ in self.groups])

    def prefixes(self, request: _Request, count: int) -> list[int]:
        """Numbers of the first ``count`` block-long prefixes: equal tokens, equal numbers."""
        bs = self.config.block_size
        assert count <= request.known // bs, "unknown tokens have no hash (4.6)"
        while len(request.prefixes) < count:
            number = len(request.prefixes)
            before = request.prefixes[-1] if number else -1
            content = (before, request.tokens(number * bs, (number + 1) * bs))
            request.prefixes.append(
                self._prefix_numbers.setdefault(content, len(self._prefix_numbers))
            )
        return request.prefixes[:count]

    def lookup(self, request: _Request) -> _Hit:
        """Longest hit; touches nothing (rules 5.3, 6.3, 6.5)."""
        if not self.config.prefix_caching:
            return self.no_hit
        bs = self.config.block_size
        prefixes = self.prefixes(request, (request.known - 1) // bs)
        found = self._full_run(prefixes) if self._full else len(prefixes)
        length = found
        nulls = 0
        if self._other:
            group = self.groups[self._other[0]]  # all others are of one spec
            if group.kind == "window":
                nulls, length = self._window_run(prefixes[:found], group.hit_blocks(bs))
            else:
                nulls, length = self._chunk_run(prefixes[:found], group)
        blocks = [
            [
                NULL if g in self._other and i < nulls else self.pool.find((g, prefixes[i]))
                for i in range(length)
            ]
            for g in range(len(self.groups))
        ]
        junction = found * bs if self._full and found > length else 0
        return _Hit(blocks=blocks, tokens=length * bs, junction=junction)

    def _all_hold(self, groups: Sequence[int], prefix: int) -> bool:
        return all(self.pool.find((g, prefix)) != NULL for g in groups)

    def _full_run(self, prefixes: Sequence[int]) -> int:
        for i, prefix in enumerate(prefixes):
            if not self._all_hold(self._full, prefix):
                return i
        return len(prefixes)

    def _window_run(self, prefixes: Sequence[int], need: int) -> tuple[int, int]:
        """(null blocks, length) of the rightmost run of ``need`` blocks, or of the one at 0."""
        run = 0
        for i in reversed(range(len(prefixes))):
            run = run + 1 if self._all_hold(self._other, prefixes[i]) else 0
            if run >= need:
                return i, i + run
        return 0, run

    def _chunk_run(self, prefixes: Sequence[int], group: Group) -> tuple[int, int]:
        """(null blocks, length): all before the last token's chunk, then up to the first gap."""
        bs = self.config.block_size
        start = group.dead_tokens(len(prefixes) * bs) // bs
        for i in range(start, len(prefixes)):
            if not self._all_hold(self._other, prefixes[i]):
                return start, i
        return start, len(prefixes)

    def allocate(
        self, request: _Request, tokens: int, hit: _Hit, *, admission: bool, watermark: int = 0
    ) -> list[list[int]] | None:
        """Slots for ``tokens`` more; the new blocks per group, or None where they do not fit."""
        pool, bs, longest = self.pool, self.config.block_size, self.config.max_model_len
        revived = sum(
            block != NULL and pool.ref_counts[block] == 0 for row in hit.blocks for block in row
        )
        base = request.computed + hit.tokens
        if admission and self.config.reserve_full_isl:  # 4.2, 6.2
            whole = cdiv(min(request.known, longest), bs)
            gate = sum(
                max(min(whole, group.most_admitted_blocks(self.config)) - len(row), 0)
                for group, row in zip(self.groups, hit.blocks, strict=True)
            )
            if gate + revived + watermark > len(pool.free):
                return None
        self._drop_dead_blocks(request, base - request.in_flight)  # 4.3: even if it fails below
        whole = cdiv(min(base + tokens, longest), bs)
        missing = [
            max(whole - len(table) - len(row), 0)
            for table, row in zip(self._tables(request), hit.blocks, strict=True)
        ]
        if sum(missing) + revived + watermark > len(pool.free):  # 4.4
            return None
        if admission:  # 4.5: the hits of all groups first, then new blocks group by group
            request.tables = [list(row) for row in hit.blocks]
            request.registered = [len(row) for row in hit.blocks]
            for block in (block for row in hit.blocks for block in row if block != NULL):
                pool.touch(block)
        new = [[pool.take() for _ in range(count)] for count in missing]
        for table, blocks in zip(request.tables, new, strict=True):
            table += blocks
        self.register(request, min(base + tokens, request.known))  # 4.6
        return new

    def _tables(self, request: _Request) -> list[list[int]]:
        return request.tables or [[] for _ in self.groups]

    def _drop_dead_blocks(self, request: _Request, processed: int) -> None:
        """Replace what left the window by null and free it, last to first (rule 6.1)."""
        for group, table in zip(self.groups, self._tables(request), strict=True):
            count = min(group.dead_tokens(processed) // self.config.block_size, len(table))
            dead = table[:count]
            table[:count] = [NULL] * count
            self.pool.release(reversed(dead))

    def register(self, request: _Request, tokens: int) -> None:
        """Offer the full blocks among the first ``tokens`` to the prefix cache (rule 4.6)."""
        if not self.config.prefix_caching:
            return
        count = tokens // self.config.block_size
        for g, group in enumerate(self.groups):
            for i in range(request.registered[g], count):
                block = request.tables[g][i]
                if block != NULL and self._retained(group, request, i):
                    self.pool.register(block, (g, self.prefixes(request, i + 1)[i]))
            request.registered[g] = max(request.registered[g], count)

    def _retained(self, group: Group, request: _Request, index: int) -> bool:
        """Sparse caching: window groups keep the blocks of two likely hits (rules 6.4, 6.5)."""
        if group.kind != "window":
            return True
        bs = self.config.block_size
        need = group.hit_blocks(bs)
        ends = ((request.prompt - 1) // bs, request.junction // bs)
        return any(end - need <= index < end for end in ends)

    def free(self, request: _Request) -> None:
        """Give everything back, group after group, each last to first (rule 1.4)."""
        for table in request.tables:
            self.pool.release(reversed(table))
        request.tables = []
        request.registered = []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What one schedule() decided; ``work`` is (request, tokens, whether it samples a token)."""

    work: list[tuple[_Request, int, bool]]
    line: Line
    end_ns: int


class _Scheduler:
    """Queues and decisions (parts 3, 5, 5b)."""

    def __init__(self, config: ReferenceConfig) -> None:
        self.config = config
        self.cache = _Cache(config)
        self.waiting: list[_Request] = []
        self.running: list[_Request] = []
        self.unflushed = False
        """Requests have left since the last schedule() (rule 2.4)."""
        self._steps_since_prefill = 0
        self._backlog = False
        self._budget = 0
        self._given: dict[_Request, int] = {}
        """Tokens of this step, in scheduling order."""
        self._events: list[list[Any]] = []
        self._preempted: list[str] = []
        self._hits: dict[str, int] = {}

    @property
    def has_requests(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, request: _Request) -> None:
        """Queue an arrival (rule 1.6)."""
        self.waiting.append(request)
        self._order_waiting()

    def _order_waiting(self) -> None:
        if self.config.policy == "priority":
            self.waiting.sort(key=lambda request: request.urgency)

    def cancel(self, request: _Request) -> None:
        """Take a request out wherever it is."""
        if request.status in ("waiting", "running"):
            self._leave(request, "cancelled")

    def _leave(self, request: _Request, status: Status) -> None:
        (self.running if request.status == "running" else self.waiting).remove(request)
        request.status = status
        self.cache.free(request)
        self.unflushed = True

    # -- schedule() ---------------------------------------------------------------------------

    def schedule(self, now_ns: int) -> tuple[list[tuple[_Request, int, bool]], Line]:
        """Decide the next batch; its log line lacks what only the engine loop knows."""
        self.unflushed = False
        self._budget = self.config.max_num_batched_tokens
        self._given, self._events, self._preempted, self._hits = {}, [], [], {}
        self.cache.pool.evictions = 0
        alone = len(self.running) + len(self.waiting) == 1
        cap = 0 if alone else self.config.long_prefill_token_threshold  # 3.3
        held = self._held
        self._schedule_running(cap, held)
        if not self._preempted:  # 5.1
            self._schedule_waiting(cap, held, now_ns)
            if not held:
                self._backlog = bool(self.waiting)  # 5.5
        line = self._line(now_ns)
        return self._advance(), line

    @property
    def _held(self) -> bool:
        """Whether this step gives unfinished prefills nothing (rule 5.5)."""
        interval = self.config.prefill_schedule_interval
        return (
            interval > 1
            and self._steps_since_prefill < interval - 1
            and any(not request.prefilling for request in self.running)
            and not self._backlog
        )

    def _schedule_running(self, cap: int, held: bool) -> None:
        index = 0
        while index < len(self.running) and self._budget > 0:
            request = self.running[index]
            tokens = self._tokens_of_running(request, cap)
            if tokens == 0 or (held and request.prefilling):  # 3.1, 3.2, 3.3
                index += 1
                continue
            while not self._allocate(request, tokens, self.cache.no_hit):
                victim = self._victim()
                if self.running.index(victim) < index:
                    index -= 1  # 3.5: stay on the same request
                self._preempt(victim)
                if victim is request:
                    break
            else:
                index += 1

    def _tokens_of_running(self, request: _Request, cap: int) -> int:
        most_tokens = request.prompt + request.spec.output_tokens
        if request.holes and request.computed + 2 - request.holes >= most_tokens:
            return 0  # 3.1: the last token is on its way
        tokens = request.known + request.holes - request.computed
        tokens = min(tokens, cap or tokens, self._budget)
        return min(tokens, self.config.max_model_len - request.computed - 1)

    def _victim(self) -> _Request:
        """Rule 3.5; max() keeps the first among equals."""
        if self.config.policy == "fcfs":
            return self.running[-1]
        return max(self.running, key=lambda r: (r.spec.priority, r.spec.arrival_ns))

    def _preempt(self, victim: _Request) -> None:
        """Rule 3.6: recompute, keeping the output tokens."""
        self.running.remove(victim)
        self._budget += self._given.pop(victim, 0)
        self.cache.free(victim)
        victim.status = "waiting"
        victim.computed = victim.holes = 0
        victim.preemptions += 1
        self.waiting.insert(0, victim)
        self._order_waiting()
        self._preempted.append(victim.id)
        self._events.append(["p", victim.id])

    def _schedule_waiting(self, cap: int, held: bool, now_ns: int) -> None:
        while self.waiting and self._budget > 0 and len(self.running) < self.config.seats:  # 5.2
            request = self.waiting[0]
            assert request.in_flight == 0, "3.6: its last token has arrived by now"
            hit = self.cache.lookup(request)  # 5.3
            request.junction = hit.junction
            tokens = request.known - hit.tokens
            if held and tokens > 1:  # 5.5
                break
            tokens = min(tokens, cap or tokens)
            if tokens > self._budget and not self.config.chunked_prefill:  # 5.4
                break
            tokens = min(tokens, self._budget)
            if not self._allocate(request, tokens, hit, admission=True):
                break  # nobody overtakes, nobody is preempted for it
            self._admit(request, hit.tokens, now_ns)

    def _admit(self, request: _Request, hit_tokens: int, now_ns: int) -> None:
        self.waiting.remove(request)
        self.running.append(request)
        request.status = "running"
        request.prefilling = True
        request.computed = hit_tokens
        if hit_tokens:
            self._hits[request.id] = hit_tokens
        if request.first_scheduled_ns is None:
            request.first_scheduled_ns = now_ns
            request.hit_tokens = hit_tokens
        else:
            request.resume_hit_tokens += hit_tokens

    def _allocate(
        self, request: _Request, tokens: int, hit: _Hit, *, admission: bool = False
    ) -> bool:
        watermark = 0
        if admission and self.running:  # 4.1
            watermark = int(self.config.watermark * self.config.num_blocks)
        new = self.cache.allocate(request, tokens, hit, admission=admission, watermark=watermark)
        if new is None:
            self._events.append(["f", request.id, tokens])
            return False
        count = sum(len(blocks) for blocks in new)
        if count or admission:
            ids = new if len(new) > 1 else new[0]
            self._events.append(["a", request.id, tokens, hit.tokens, count, ids])
        self._given[request] = tokens
        self._budget -= tokens
        return True

    def _line(self, now_ns: int) -> Line:
        """The decisions as the recorder wrote them, before anything is advanced."""
        decodes = [request.computed + 1 for request in self._given if self._decodes(request)]
        line: Line = {
            "t": now_ns,
            "run": len(self.running),
            "wait": len(self.waiting),
            "ntok": sum(self._given.values()),
            "ctx": sum(decodes),
            "free": len(self.cache.pool.free),
            "sched": [[request.id, n, request.computed] for request, n in self._given.items()],
        }
        optional = {
            "ev": self._events,
            "pre": self._preempted,
            "hit": self._hits,
            "evict": self.cache.pool.evictions,
        }
        return line | {key: value for key, value in optional.items() if value}

    def _decodes(self, request: _Request) -> bool:
        """One token, the last of those known, of an output that has begun."""
        return request.computed + 1 == request.known + request.holes > request.prompt

    def _advance(self) -> list[tuple[_Request, int, bool]]:
        """Count the scheduled tokens as computed (rule 5.6)."""
        if self._given:
            carries_prefill = any(request.prefilling for request in self._given)
            self._steps_since_prefill = 0 if carries_prefill else self._steps_since_prefill + 1
        work = []
        for request, tokens in self._given.items():
            request.computed += tokens
            request.in_flight += tokens
            samples = request.computed >= request.known + request.holes
            request.prefilling = not samples
            if samples and self.config.async_scheduling:
                request.holes += 1
            work.append((request, tokens, samples))
        return work

    # -- update_from_output() -----------------------------------------------------------------

    def update(self, work: Iterable[tuple[_Request, int, bool]], now_ns: int) -> list[str]:
        """Deliver the tokens of a batch; ids of the requests that finish (part 5b)."""
        finished = []
        for request, tokens, samples in work:
            request.in_flight -= tokens
            if request.status == "cancelled" or not samples:
                continue
            request.holes = max(request.holes - 1, 0)  # none are left after a preemption (3.6)
            request.outputs += 1
            if request.first_token_ns is None:
                request.first_token_ns = now_ns
            if self.config.async_scheduling and request.status == "running":
                # 4.6; also of a request that finishes right now, before its blocks are freed
                self.cache.register(request, request.computed - request.in_flight)
            if (
                request.known >= self.config.max_model_len
                or request.outputs >= request.spec.output_tokens
            ):
                self._leave(request, "finished")
                request.finish_ns = now_ns
                finished.append(request.id)
        return finished

    def state(
        self, moment: Literal["schedule", "update"], line: Line, now_ns: int
    ) -> ReferenceState:
        """A copy of everything."""
        pool, live = self.cache.pool, [*self.running, *self.waiting]
        return ReferenceState(
            moment=moment,
            line=line,
            now_ns=now_ns,
            free_queue=tuple(pool.free),
            ref_counts=tuple(pool.ref_counts),
            hashes=dict(pool.key_of),
            cached={key: tuple(blocks) for key, blocks in pool.blocks_of.items()},
            running=tuple(request.id for request in self.running),
            waiting=tuple(request.id for request in self.waiting),
            tables={r.id: tuple(tuple(table) for table in r.tables) for r in self.running},
            known={request.id: request.known for request in live},
            computed={request.id: request.computed for request in live},
        )


class _Engine:
    """The engine loop on a virtual clock (part 2)."""

    def __init__(
        self,
        requests: Sequence[ReferenceRequest],
        config: ReferenceConfig,
        on_step: Callable[[ReferenceState], None] | None,
    ) -> None:
        self.config = config
        self.scheduler = _Scheduler(config)
        self.requests = [
            _Request(spec=spec, position=i, prompt=spec.prompt_tokens)
            for i, spec in enumerate(requests)
        ]
        self.lines: list[Line] = []
        self.empty_steps = 0
        self.now_ns = 0
        self._on_step = on_step
        self._device_free_ns = 0
        self._queue: deque[_Batch] = deque()
        self._arrived: list[str] = []
        self._coming = deque(sorted(self.requests, key=lambda r: (r.spec.arrival_ns, r.position)))
        self._cancels = sorted(
            (r.spec.cancel_ns, r.position) for r in self.requests if r.spec.cancel_ns is not None
        )
        self._resets = deque(sorted(config.reset_ns))

    def run(self, most_steps: int) -> Literal["ok", "stalled", "cut"]:
        """Run until nothing is left, nothing can move, or ``most_steps`` schedule() calls."""
        num_steps = 0
        while True:
            self._let_requests_in_and_out()
            scheduler = self.scheduler
            if scheduler.has_requests or (self.config.async_scheduling and scheduler.unflushed):
                if num_steps == most_steps:
                    return "cut"
                num_steps += 1
                batch = self._schedule()
                if batch.work and len(self._queue) < self.config.depth:
                    continue  # 2.3: go round again at once
                stuck = not any(queued.work for queued in self._queue) and "pre" not in batch.line
            elif not self._queue:
                if not self._coming:
                    return "ok"
                self.now_ns = self._coming[0].spec.arrival_ns
                continue
            else:
                stuck = False
            self._update()
            if stuck and scheduler.has_requests and not self._wake():
                while self._queue:  # empty ones
                    self._update()
                return "stalled"

    def _let_requests_in_and_out(self) -> None:
        """What happens at a schedule point; see the module's docstring."""
        while self._coming and self._coming[0].spec.arrival_ns <= self.now_ns:
            request = self._coming.popleft()
            if request.prompt >= self.config.max_model_len:  # 5b
                request.status = "rejected"
                continue
            self.scheduler.add(request)
            self._arrived.append(request.id)
        for due in [entry for entry in self._cancels if entry[0] <= self.now_ns]:
            request = self.requests[due[1]]
            if request.spec.arrival_ns <= self.now_ns:
                self._cancels.remove(due)
                self.scheduler.cancel(request)
        if self.scheduler.has_requests:
            while self._resets and self._resets[0] <= self.now_ns:
                self._resets.popleft()
                self.scheduler.cache.pool.reset()

    def _wake(self) -> bool:
        """Nothing moves before the next arrival or cancellation: go there, if there is one."""
        live = ("waiting", "running")
        times = [time for time, i in self._cancels if self.requests[i].status in live]
        times += [request.spec.arrival_ns for request in self._coming]
        later = [time for time in times if time > self.now_ns]
        self.now_ns = min(later, default=self.now_ns)
        return bool(later)

    def _schedule(self) -> _Batch:
        work, line = self.scheduler.schedule(self.now_ns)
        base, per_token, per_context = self.config.step_time_ns
        duration = base + per_token * line["ntok"] + per_context * line["ctx"] if work else 0
        start = max(self.now_ns, self._device_free_ns)
        self._device_free_ns = start + duration
        line["dt"] = duration
        if self.config.async_scheduling:
            line["start"] = start
        self.empty_steps += not work
        if work or "ev" in line:  # the recorder left out the others
            line["step"] = len(self.lines)
            if self._arrived:
                line["arr"] = self._arrived
                self._arrived = []
            self.lines.append(line)
        batch = _Batch(work=work, line=line, end_ns=self._device_free_ns)
        self._queue.append(batch)
        self._tell("schedule", line)
        return batch

    def _update(self) -> None:
        """Wait for the oldest batch and process its output."""
        batch = self._queue.popleft()
        self.now_ns = max(self.now_ns, batch.end_ns)
        finished = self.scheduler.update(batch.work, self.now_ns)
        if finished:
            batch.line["fin"] = finished
        batch.line["free_end"] = len(self.scheduler.cache.pool.free)
        self._tell("update", batch.line)

    def _tell(self, moment: Literal["schedule", "update"], line: Line) -> None:
        if self._on_step is not None:
            self._on_step(self.scheduler.state(moment, line, self.now_ns))


def run(
    requests: Sequence[ReferenceRequest],
    config: ReferenceConfig,
    *,
    most_steps: int = 1_000_000,
    on_step: Callable[[ReferenceState], None] | None = None,
) -> ReferenceRun:
    """Play requests on a configuration; ``on_step`` sees every schedule() and every update."""
    engine = _Engine(requests, config, on_step)
    status = engine.run(most_steps)
    return ReferenceRun(
        lines=engine.lines,
        requests={request.id: request.result for request in engine.requests},
        status=status,
        empty_steps=engine.empty_steps,
    )


def config_of(header: Mapping[str, Any]) -> ReferenceConfig:
    """The configuration that a step log's header records."""
    names = ReferenceConfig.__dataclass_fields__.keys() - {"reset_ns", "step_time_ns"}
    values = {name: header[name] for name in names}
    return ReferenceConfig(**values, step_time_ns=tuple(header["step_time_ns"]))


def requests_of(rows: Sequence[Mapping[str, Any]]) -> list[ReferenceRequest]:
    """The requests of a golden trace (its README has the format)."""
    return [
        ReferenceRequest(
            id=row["id"],
            arrival_ns=round(row["arrival_s"] * 1e9),
            prompt=_prompt_of(row, position),
            output_tokens=row["output_tokens"],
            output_first_id=OUTPUT_IDS + position * OUTPUT_IDS_PER_REQUEST,
            priority=row.get("priority", 0),
        )
        for position, row in enumerate(rows)
    ]


def _prompt_of(row: Mapping[str, Any], position: int) -> tuple[TokenRange, ...]:
    if "prompt_ranges" in row:
        return tuple((first, count) for first, count in row["prompt_ranges"])
    if "prompt_token_ids" in row:
        return tuple((token, 1) for token in row["prompt_token_ids"])
    if "hash_ids" not in row:
        return ((UNIQUE_IDS + position * IDS_PER_RANGE, row["prompt_tokens"]),)
    size = row.get("block_size", 512)
    length = row.get("prompt_tokens", size * len(row["hash_ids"]))
    return tuple(
        (HASH_IDS + number * IDS_PER_RANGE, min(size, length - i * size))
        for i, number in enumerate(row["hash_ids"])
    )
