"""What an option costs where its runs stand: replicas for a target, dollars an hour and a token.

With a target of ``t`` requests a second and ``r`` held by a replica, ``ceil(t / r)`` replicas are
needed, and as many more as the option has been given beyond that. Of two options the better is the
one that costs less: an hour with a target, an output token without. Where prices are missing, GPUs
are counted instead of dollars.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf

from ..server import Server
from .interval import Interval
from .option import Option
from .scenarios import Runs
from .search import TOLERANCE
from .spread import Spread, rate, spread_of, tokens

_ROUNDING = 1e-9
"""Relative: a target that is a multiple of the rate held takes no further replica."""

At = Callable[[Spread], float]
"""Picks a scenario."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An option with its figures in all scenarios."""

    rates: Spread
    tokens: Spread
    """Output tokens a second of a replica."""
    num_gpus: int
    """Of a replica."""
    price_usd_per_hour: float | None
    """Of a replica; None without a price."""
    target_rate_per_s: float | None
    num_extra: int = 0
    """Replicas beyond those that the rate asks for."""

    @classmethod
    def of(
        cls, option: Option, runs: Runs, *, shrink: float, target_rate_per_s: float | None
    ) -> Judged:
        """An option as it was run."""
        best, price = option.search.best, option.server.gpu.price_usd_per_hour
        produced = 0.0 if best is None else best.output_tokens_per_s
        num_gpus, held = option.server.deployment.num_gpus, option.search.rate_per_s
        extra = 0
        if target_rate_per_s is not None and held > 0:
            extra = max(0, option.num_replicas - int(needed(target_rate_per_s, held)))
        return cls(
            rates=spread_of(held, runs, rate, shrink=shrink),
            tokens=spread_of(produced, runs, tokens, shrink=shrink),
            num_gpus=num_gpus,
            price_usd_per_hour=None if price is None else price * num_gpus,
            target_rate_per_s=target_rate_per_s,
            num_extra=extra,
        )

    @property
    def replicas(self) -> Interval | None:
        """None without a target."""
        if self.target_rate_per_s is None:
            return None
        return falling(self.rates.interval, self._replicas)

    @property
    def usd_per_hour(self) -> Interval | None:
        """Of all replicas; None without a target or a price."""
        replicas, price = self.replicas, self.price_usd_per_hour
        return None if replicas is None or price is None else replicas.times(price)

    @property
    def usd_per_million(self) -> Interval | None:
        """Per million output tokens at the rate that a replica holds; None without a price."""
        price = self.price_usd_per_hour
        if price is None:
            return None
        return falling(self.tokens.interval, lambda held: per_million(price, held))

    def is_better(self, other: Judged, at: At, others_at: At | None = None) -> bool:
        """Whether it costs less than another one, each where its inputs stand.

        Args:
            other: to compare with.
            at: the scenario.
            others_at: the other one's, where it is not the same.
        """
        priced = self.price_usd_per_hour is not None and other.price_usd_per_hour is not None
        mine, its = self._cost(at, priced=priced), other._cost(others_at or at, priced=priced)
        slack = TOLERANCE if self.target_rate_per_s is None else _ROUNDING
        return mine < its * (1 - slack)  # a nearer tie is no reason to choose otherwise

    def _cost(self, at: At, *, priced: bool) -> float:
        price = self.price_usd_per_hour if priced else self.num_gpus
        assert price is not None, "asked for where both have one"
        if self.target_rate_per_s is not None:
            return price * self._replicas(at(self.rates))
        return _over(price, at(self.tokens if priced else self.rates))

    def _replicas(self, rate_per_s: float) -> float:
        assert self.target_rate_per_s is not None, "asked for with a target only"
        return needed(self.target_rate_per_s, rate_per_s) + self.num_extra


def needed(target_per_s: float, rate_per_s: float) -> float:
    """Replicas that share a target evenly, each within the rate that it holds."""
    if not rate_per_s > 0:
        return inf
    return max(1, ceil(target_per_s / rate_per_s * (1 - _ROUNDING)))


def per_million(usd_per_hour: float, tokens_per_s: float) -> float:
    """USD per million tokens."""
    return 1e6 * _over(usd_per_hour, 3600 * tokens_per_s)


def falling(good: Interval, cost: Callable[[float], float]) -> Interval:
    """A cost that falls as something good rises, at its three figures."""
    return Interval(low=cost(good.high), value=cost(good.value), high=cost(good.low))


def errors_are_common(one: Server, other: Server) -> bool:
    """Whether both rest on the same measurements: the kind of GPU and the source of step times."""
    same_gpu = one.gpu.name == other.gpu.name
    return same_gpu and one.cost.source == other.cost.source


def _over(cost: float, good: float) -> float:
    return cost / good if good > 0 else inf
