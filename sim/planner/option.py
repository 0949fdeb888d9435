"""One thing that could be deployed: a server, how many of it, what rate it holds, what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from ..server import Server
from .search import RateSearch
from .spec import ServerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A server with the rate that it holds; ``num_replicas`` of it carry the wanted rate."""

    title: str
    """What tells it apart from the others: ``h200, TP 2, block_size 32``."""
    spec: ServerSpec
    server: Server
    search: RateSearch
    num_replicas: int = 1

    @property
    def num_gpus(self) -> int:
        """Of all replicas."""
        return self.num_replicas * self.server.deployment.num_gpus

    @property
    def usd_per_hour(self) -> float | None:
        """Of all replicas; None without a price."""
        price = self.server.gpu.price_usd_per_hour
        return None if price is None else price * self.num_gpus

    @property
    def usd_per_million_output_tokens(self) -> float | None:
        """At the rate that one replica holds; None without a price or a rate."""
        price, best = self.server.gpu.price_usd_per_hour, self.search.best
        if price is None or best is None or not best.output_tokens_per_s:
            return None
        per_hour = best.output_tokens_per_s * 3600
        return price * self.server.deployment.num_gpus / per_hour * 1e6
