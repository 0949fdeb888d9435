"""What a fleet is: pools of replicas behind a router; all of it frozen values.

A pool is one server, so many times. Pools of role ``unified`` serve requests whole. With
disaggregation every request is prefilled in a ``prefill`` pool and decoded in a ``decode`` pool
(vLLM's ``kv_producer`` and ``kv_consumer``), and its KV crosses a link between the two.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Protocol

from ...calibration.names import unknown_name
from ...calibration.step_cost import StepCost
from ..deployment import Deployment
from ..moved import Moves
from .autoscaling import Autoscaling
from .routers import ROUTERS

ROLES = ("unified", "prefill", "decode")


class Served(Protocol):
    """What a replica is made from (see ``kvsim.sim.server.Server``)."""

    @property
    def deployment(self) -> Deployment: ...
    @property
    def cost(self) -> StepCost: ...
    @property
    def num_gpu_blocks(self) -> int: ...
    @property
    def moves(self) -> Moves: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """So many replicas of one server.

    Raises:
        ValueError: no replica, an unknown role, or fewer or more than the autoscaler allows.
    """

    name: str
    server: Served
    num_replicas: int = 1
    role: str = "unified"
    autoscaling: Autoscaling | None = None

    def __post_init__(self) -> None:
        if self.num_replicas < 1:
            raise ValueError(f"replicas(={self.num_replicas}) must be > 0.")
        if self.role not in ROLES:
            raise unknown_name(self.role, ROLES, field="role")
        scaled = self.autoscaling
        if scaled and not scaled.min_replicas <= self.num_replicas <= scaled.max_replicas:
            raise ValueError(
                f"replicas(={self.num_replicas}) must be in min_replicas(={scaled.min_replicas}) "
                f"to max_replicas(={scaled.max_replicas})."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class KVTransfer:
    """The link that each replica sends or receives KV through, one request after the other.

    Raises:
        ValueError: no bandwidth, or a negative latency.
    """

    bytes_per_s: float = 50e9
    """400 Gbit/s: one ConnectX-7 or EFA-class adapter."""
    latency_s: float = 0.0
    """Before the first byte of each transfer."""

    def __post_init__(self) -> None:
        if not 0 < self.bytes_per_s < inf:
            given = f"{self.bytes_per_s / 1e9:g}"
            raise ValueError(f"kv_transfer_bandwidth(={given}) must be > 0 GB/s.")
        if not 0 <= self.latency_s < inf:
            raise ValueError(f"kv_transfer_latency(={self.latency_s * 1e6:g}) must be >= 0 us.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Replicas that join (> 0) or leave (< 0) a pool at a known time."""

    at_s: float
    pool: str
    replicas: int

    def __post_init__(self) -> None:
        if not 0 <= self.at_s < inf:
            raise ValueError(f"scale(={self.at_s:g}) must be at a time >= 0 s.")
        if not self.replicas:
            raise ValueError("scale(=0) must add or take away replicas.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Pools behind a router.

    Raises:
        ValueError: an unknown router, pools that do not go together, or no room for a request.
    """

    pools: tuple[Pool, ...]
    router: str = "round_robin"
    max_ongoing_requests: int | None = None
    """Requests that a replica is given at once; the rest wait at the router, in order of arrival
    (Ray Serve's name). None = a replica takes what it is sent."""
    kv_transfer: KVTransfer = field(default_factory=KVTransfer)
    changes: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        if not self.pools:
            raise ValueError("fleet has no pool: give one with at least a replica.")
        if self.router not in ROUTERS:
            raise unknown_name(self.router, ROUTERS, field="router")
        most = self.max_ongoing_requests
        if most is not None and most < 1:
            raise ValueError(f"max_ongoing_requests(={most}) must be > 0.")
        twice = [name for name, count in Counter(p.name for p in self.pools).items() if count > 1]
        if twice:
            raise ValueError(f"pools(={twice[0]!r}) must be named once.")
        for change in self.changes:
            if change.pool not in {pool.name for pool in self.pools}:
                raise unknown_name(change.pool, [p.name for p in self.pools], field="pool")
        roles = {pool.role for pool in self.pools}
        if roles not in ({"unified"}, {"prefill", "decode"}):
            raise ValueError(
                f"roles(={', '.join(sorted(roles))}) must be all unified, or prefill and decode."
            )
        self._check_alike("max_model_len", "parallel_sampling", "beam_seed")
        if self.disaggregated:
            self._check_alike("block_size", "kv_cache_dtype")
            for pool in self.pools:
                _check_hands_over(pool.server.deployment)

    def _check_alike(self, *names: str) -> None:
        """What a request is must not depend on where it goes."""
        for name in names:
            values = {p.name: getattr(p.server.deployment, name) for p in self.pools}
            if len(set(values.values())) > 1:
                given = ", ".join(f"{pool} {value}" for pool, value in values.items())
                raise ValueError(f"{name}(={given}) must be the same in every pool.")

    @property
    def disaggregated(self) -> bool:
        """Whether prompts and answers are computed in different pools."""
        return any(pool.role != "unified" for pool in self.pools)

    @property
    def is_one_server(self) -> bool:
        """Whether it is a single replica for good, and the router has nothing to choose."""
        alone = len(self.pools) == 1 and self.pools[0].num_replicas == 1
        return alone and not self.changes and self.pools[0].autoscaling is None

    @property
    def num_replicas(self) -> int:
        """At the beginning."""
        return sum(pool.num_replicas for pool in self.pools)

    @property
    def num_gpus(self) -> int:
        """At the beginning."""
        return sum(p.num_replicas * p.server.deployment.num_gpus for p in self.pools)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "router": self.router,
            "max_ongoing_requests": self.max_ongoing_requests,
            "pools": [
                {
                    "name": pool.name,
                    "role": pool.role,
                    "replicas": pool.num_replicas,
                    "autoscaling": pool.autoscaling and asdict(pool.autoscaling),
                }
                for pool in self.pools
            ],
            "kv_transfer": asdict(self.kv_transfer) if self.disaggregated else None,
            "changes": [asdict(change) for change in self.changes],
        }


def _check_hands_over(flags: Deployment) -> None:
    """KV that comes from elsewhere is a beginning that vLLM's scheduler finds computed."""
    if (flags.allocator, flags.scheduler) != ("paged", "vllm"):
        raise ValueError(
            f"prefill and decode pools need allocator paged and scheduler vllm, not "
            f"{flags.allocator} and {flags.scheduler}."
        )
    if flags.preemption_mode != "recompute" or flags.tiers or flags.pinned_prefix_tokens:
        raise ValueError(
            "prefill and decode pools need preemption_mode recompute, no kv_offloading_size and "
            "no pinned_prefix_tokens."
        )
    if flags.kv_groups:
        raise ValueError(
            "prefill and decode pools need layers that all keep every token: switch the hybrid "
            "KV-cache manager off (--disable-hybrid-kv-cache-manager)."
        )
