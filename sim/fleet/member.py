"""A replica as the fleet sees it: what was sent there, when it joined, when it left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from simpy import Environment

from ..request import NEVER, Request
from ..serving import ServingEngine
from .contents import OwnTree
from .spec import Pool

EngineOf = Callable[[Pool, Callable[[Request], None]], ServingEngine]
"""Makes the engine of a replica, which tells the function of each sequence that leaves."""


class Member:
    """A replica from the time at which it was asked for.

    It is *starting* until :meth:`join`, then *ready*; once it is *draining* it gets no more
    requests, and it has *left* when the last one of its own is answered.

    Args:
        env: the clock, in nanoseconds.
        number: replicas asked for before it.
        pool: what it is one of.
        tree: the contents that its prefix cache tells apart.
    """

    def __init__(self, env: Environment, *, number: int, pool: Pool, tree: OwnTree | None) -> None:
        self.env = env
        self.number = number
        self.pool = pool
        self.turn = -1
        self.launched_ns = env.now
        self.ready_ns = self.left_ns = NEVER
        self.draining = False
        self.outstanding: dict[Request, None] = {}
        """Sequences sent there and not answered, in order."""
        self.served: dict[Request, list[Request]] = {}
        """All requests that its engine was given and that did not go elsewhere: the first sequence
        of each, and all of them."""
        self.link_free_ns = 0.0
        self.sent_bytes = self.received_bytes = 0
        self._tree = tree
        self._queued: dict[Request, None] = {}
        """Sequences that it has not begun; those that it has are taken out when one looks."""
        self._waiting_tokens = 0
        self._gone: set[Request] = set()
        self._engine: ServingEngine | None = None
        self._on_finish: Callable[[Member, Request], None] | None = None

    def join(self, engine_of: EngineOf, on_finish: Callable[[Member, Request], None]) -> None:
        """It is loaded, and serves from now on."""
        self.ready_ns = self.env.now
        self._on_finish = on_finish
        self._engine = engine_of(self.pool, self._finished)

    @property
    def engine(self) -> ServingEngine:
        """Of a replica that has joined."""
        assert self._engine is not None, f"replica {self.number} has not joined"
        return self._engine

    @property
    def joined(self) -> bool:
        return self._engine is not None

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return self._engine is not None and not self.draining

    @property
    def num_outstanding(self) -> int:
        """Sequences that wait, run or are on their way there."""
        return len(self.outstanding)

    @property
    def kv_slots(self) -> int:
        """Tokens for which the pool has room."""
        allocator = self.engine.allocator
        return allocator.pool_slots // allocator.slots_per_token

    @property
    def kv_tokens(self) -> int:
        """Tokens whose KV it holds, and the prompts of those that it has not begun."""
        return self.engine.replica.held_tokens() + self._queued_tokens()

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens that it has not computed."""
        begun = sum(one.known - one.computed for one in self.engine.batch.prefills)
        return begun + self._queued_tokens()

    def cached_tokens(self, request: Request) -> int:
        """Leading tokens of a request whose KV its prefix cache holds."""
        if self._tree is None:
            return 0
        elsewhere = request.path
        request.path = self._tree.path(request)
        found = self.engine.allocator.cached_tokens(request)
        request.path = elsewhere
        return found

    def expect(self, sequences: Iterable[Request]) -> None:
        """They are on their way there."""
        self.outstanding.update(dict.fromkeys(sequences))

    def submit(self, sequences: Sequence[Request]) -> None:
        """They arrive there now."""
        self.expect(sequences)
        if self._tree is not None:
            for one in sequences:
                one.path = self._tree.path(one)
        for one in sequences if sequences[0].group is None else sequences[:1]:
            self._queued[one] = None  # a group waits as one
            self._waiting_tokens += one.prompt_tokens
        self.served[sequences[0]] = list(sequences)
        self.engine.submit(sequences)

    def cancel(self, request: Request) -> None:
        """Its client gives up."""
        self._gone.add(request)
        self.engine.cancel(request)

    def dismiss(self, request: Request) -> None:
        """What was on its way there does not come."""
        del self.outstanding[request]

    def withdraw_waiting(self) -> list[list[Request]]:
        """Take out the requests of which it has begun nothing, in order of arrival."""
        self._forget_begun()
        taken = [several for several in self.served.values() if self._is_untouched(several)]
        for several in taken:
            for one in several if several[0].group is None else several[:1]:
                self.engine.scheduler.waiting.remove(one)
                self._dequeue(one)
            for one in several:
                del self.outstanding[one]
            del self.served[several[0]]
        if taken:
            self.engine.replica.look_up()
        return taken

    def _is_untouched(self, sequences: Sequence[Request]) -> bool:
        """Whether all of them wait and nobody has given them up."""
        if sequences[0].group is not None:
            return sequences[0] in self._queued and self._gone.isdisjoint(sequences)
        return all(one in self._queued and one not in self._gone for one in sequences)

    def _queued_tokens(self) -> int:
        """Prompt tokens of what it has not begun."""
        self._forget_begun()
        return self._waiting_tokens

    def _forget_begun(self) -> None:
        """First come is begun first, so that the first that is not ends the search."""
        in_order = self.pool.server.deployment.scheduling_policy == "fcfs"
        begun = []
        for one in self._queued:
            if one.row.scheduled_ns == one.row.scheduled_ns:  # not NaN
                begun.append(one)
            elif in_order:
                break
        for one in begun:
            self._dequeue(one)

    def _dequeue(self, request: Request) -> None:
        if request in self._queued:
            del self._queued[request]
            self._waiting_tokens -= request.prompt_tokens

    def _finished(self, request: Request) -> None:
        del self.outstanding[request]
        self._dequeue(request)
        assert self._on_finish is not None, "it has joined"
        self._on_finish(self, request)
