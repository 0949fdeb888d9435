"""Fair shares for tenants: the virtual token counter (Sheng et al., OSDI 2024, Algorithm 2).

Each tenant has a counter of the service it has had:

    counter = INPUT_WEIGHT * prompt tokens of its admitted requests
            + OUTPUT_WEIGHT * tokens that they have produced

The next request is the first of the waiting tenant whose counter is smallest. A tenant that had
nothing waiting is lifted: to the smallest counter of those who wait, or, where nobody does, to that
of the tenant whose last request left the queue. What it did not ask for is no credit.

Two tenants who both have requests waiting all the time get, over any interval, service that
differs by at most ``2 max(INPUT_WEIGHT * L, OUTPUT_WEIGHT * M)``, with L the longest prompt and M
the tokens that a batch can come to (the paper's bound; its M is the pool, which there holds whole
answers).

The paper preempts nobody. Here, where memory is short, the tenant with the largest counter gives
way, with the request it was last admitted; the request goes to the front of its tenant's queue.
What is computed again is not charged again, nor is a prompt's part in the prefix cache left out.

Counters move with every token, so that the head may change while others decode; requests arrive in
the middle of a step, whose tokens are counted when it ends: then they take their places.
"""

from __future__ import annotations

from collections import deque

from ..batch import RunningBatch
from ..group import sequences
from ..request import Request

INPUT_WEIGHT, OUTPUT_WEIGHT = 1, 2
"""Of a token: the paper's, after what API providers charge."""


class FairQueue:
    """The tenant that had least service first; within a tenant first come, first served."""

    restless = True

    def __init__(self, batch: RunningBatch) -> None:
        self.counters: dict[int, int] = {}
        """Service of each tenant, in weighted tokens."""
        self._batch = batch
        self._arrived: list[Request] = []
        """In the step under way."""
        self._queues: dict[int, deque[Request]] = {}
        """Of the tenants that have requests waiting."""
        self._charged: dict[Request, int] = {}
        """Running requests, with the known tokens that are in the counters."""
        self._last_tenant: int | None = None
        """Whose last request left the queue."""
        self._head_tenant: int | None = None
        """None where it has to be looked for."""

    def add(self, request: Request) -> None:
        self._arrived.append(request)

    def put_back(self, request: Request) -> None:
        for one in sequences(request):
            if one in self._charged:
                self._charge(one, self._charged.pop(one))
        self._queues.setdefault(request.tenant, deque()).appendleft(request)
        self._head_tenant = None

    def head(self) -> Request:
        if self._head_tenant is None:
            self._head_tenant = min(self._queues, key=self._place)
        return self._queues[self._head_tenant][0]

    def take(self) -> Request:
        request = self.head()
        self._drop(request)
        if not request.row.num_preemptions:
            self.counters[request.tenant] += INPUT_WEIGHT * request.prompt_tokens
        for one in sequences(request):
            self._charged[one] = self._known(one)
        return request

    def remove(self, request: Request) -> None:
        if request in self._arrived:
            self._arrived.remove(request)
        else:
            self._drop(request)

    def victim(self, batch: RunningBatch) -> Request:
        return max(batch.preemptible(), key=lambda one: (self.counters[one.tenant], one.sequence))

    def may_change(self) -> bool:
        return len(self._queues) > 1

    def step_ended(self) -> None:
        if not self._arrived and not self._charged:
            return
        running = self._batch.requests
        for request, charged in list(self._charged.items()):
            if request in running:
                self._charged[request] = self._known(request)
            else:
                del self._charged[request]
            self._charge(request, charged)
        for request in self._arrived:
            self._let_in(request)
        self._arrived.clear()
        self._head_tenant = None

    def __len__(self) -> int:
        return len(self._arrived) + sum(map(len, self._queues.values()))

    def _charge(self, request: Request, charged: int) -> None:
        tokens = self._known(request) - charged
        self.counters[request.tenant] += OUTPUT_WEIGHT * tokens

    def _known(self, request: Request) -> int:
        """Tokens of a sequence, whether it decodes or its group is preempted or recovers."""
        kept = None if request.group is None else request.group.known_of(request)
        return request.known_at(self._batch.step) if kept is None else kept

    def _let_in(self, request: Request) -> None:
        """To the back of its tenant's queue; a tenant that had none is lifted."""
        tenant, counters = request.tenant, self.counters
        if tenant in self._queues:
            self._queues[tenant].append(request)
            return
        least = min((counters[one] for one in self._queues), default=None)
        if least is None:
            least = 0 if self._last_tenant is None else counters[self._last_tenant]
        counters[tenant] = max(counters.get(tenant, 0), least)
        self._queues[tenant] = deque([request])

    def _drop(self, request: Request) -> None:
        queue = self._queues[request.tenant]
        queue.remove(request)
        if not queue:
            del self._queues[request.tenant]
            self._last_tenant = request.tenant
        self._head_tenant = None

    def _place(self, tenant: int) -> tuple[int, float, int]:
        """By service; of equals whose first request arrived first."""
        first = self._queues[tenant][0]
        return self.counters[tenant], first.arrival_ns, first.tie_rank
