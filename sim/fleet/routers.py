"""Which replica a request is sent to: one small class and one line here each.

A router looks at what it could know of each replica: the requests that it has sent there and not
seen answered, the KV-cache usage that the server reports, the blocks whose KV it holds (vLLM's KV
events). Among equals the replica that was chosen longest ago is taken, then the first to have
joined: nothing is left to chance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, TypeVar

from ..request import Request

_MASK = (1 << 64) - 1


class Replica(Protocol):
    """What a router may know of a replica."""

    @property
    def number(self) -> int: ...
    @property
    def turn(self) -> int:
        """When it was chosen last, counted in choices; -1 = never."""
        ...

    @property
    def num_outstanding(self) -> int: ...
    @property
    def kv_tokens(self) -> int:
        """Tokens whose KV it holds or will need for the prompts that wait."""
        ...

    @property
    def kv_slots(self) -> int:
        """Tokens for which its pool has room."""
        ...

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens sent there that are not computed yet."""
        ...

    def cached_tokens(self, request: Request, /) -> int:
        """Leading tokens of the request whose KV it holds."""
        ...


R = TypeVar("R", bound=Replica)


class Router(ABC):
    """A choice among replicas."""

    def choose(self, request: Request, session: int, replicas: Sequence[R]) -> R:
        """The replica for a request.

        Args:
            request: its prompt is known, its output is not.
            session: what is the same for all turns of a conversation.
            replicas: those that accept requests, at least one.
        """
        if len(replicas) == 1:
            return replicas[0]
        return min(
            replicas, key=lambda one: (self.cost(request, session, one), one.turn, one.number)
        )

    @abstractmethod
    def cost(self, request: Request, session: int, replica: Replica) -> float:
        """The least is chosen."""


class RoundRobin(Router):
    """One after the other (vLLM production-stack ``roundrobin``)."""

    def cost(self, request: Request, session: int, replica: Replica) -> float:
        return 0.0


class LeastOutstanding(Router):
    """The fewest requests that wait or run: least connections, join the shortest queue."""

    def cost(self, request: Request, session: int, replica: Replica) -> float:
        return replica.num_outstanding


class LeastKV(Router):
    """The smallest share of the KV pool in use, or spoken for by prompts that wait.

    llm-d's KV-cache-utilisation scorer, together with its queue scorer: usage alone says nothing
    any more once every pool is full.
    """

    def cost(self, request: Request, session: int, replica: Replica) -> float:
        return replica.kv_tokens / replica.kv_slots


class PrefixAware(Router):
    """The least work, of which the prefix that a replica has cached is none.

        cost = prompt tokens to compute there, its queue's and the request's own
             + tokens whose KV it would hold

    NVIDIA Dynamo's KV router (``Router Design``: potential prefill and active blocks, with
    ``overlap_score_weight`` 1), here in tokens; like Ray Serve's ``KVAwareRouter`` and vLLM's
    ``kvaware`` it knows the blocks that are there, not only those that it has once sent there.
    """

    def cost(self, request: Request, session: int, replica: Replica) -> float:
        new = request.prompt_tokens - replica.cached_tokens(request)
        return replica.prefill_tokens + new + replica.kv_tokens + request.prompt_tokens


class SessionAffinity(Router):
    """Every turn of a session to the same replica, whatever that has to do.

    Rendezvous hashing: when a replica joins or leaves, only the sessions move that go there or were
    there (the property of the hash ring of vLLM production-stack's ``session`` router).
    """

    def cost(self, request: Request, session: int, replica: Replica) -> float:
        return float(_mixed(_mixed(session) ^ replica.number))


def _mixed(value: int) -> int:
    """SplitMix64: equally likely 64 bits, the same on every machine."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


ROUTERS: dict[str, type[Router]] = {
    "round_robin": RoundRobin,
    "least_outstanding": LeastOutstanding,
    "least_kv": LeastKV,
    "prefix_aware": PrefixAware,
    "session_affinity": SessionAffinity,
}
