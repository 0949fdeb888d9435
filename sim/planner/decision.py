"""What to deploy: the server that was chosen, the one after it, and why each other lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..serve_command import serve_command
from ..slo import SLO
from ..summary import plain
from .confidence import Confidence
from .option import Option
from .search import TOLERANCE
from .shares import Confirmation
from .tuning import Tuning
from .what_if import WhatIf


@dataclass(frozen=True, slots=True, kw_only=True)
class Loser:
    """A server that was not chosen."""

    title: str
    reason: str
    """One clause: ``1.4x the price: ...``."""
    option: Option | None = None
    """None where it could not be tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The engine's own values of the varied flags on the chosen GPUs."""

    option: Option | None
    """None where the defaults do not fit."""
    reason: str = ""
    """Why they do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer of the planner; ``chosen`` is None where nothing keeps the objective."""

    slo: SLO
    assumed_slo: bool
    """Whether the limits are the planner's own, as none were given."""
    target_rate_per_s: float | None
    """Requests a second that must be carried; None: whatever a replica holds, as cheap a token."""
    target_from: str
    """Where the target comes from, in words."""
    max_gpus: int | None
    flags: tuple[str, ...]
    """Flags of the engine that were varied."""
    options: tuple[Option, ...]
    """All that were tried, with the replicas that the target needs, in the order of the grid."""
    chosen: Option | None
    runner_up: Option | None
    """The next best on other GPUs, or with other flags where all have the same GPUs."""
    losers: tuple[Loser, ...]
    confirmed: Confirmation | None = None
    """The target on all replicas of the chosen; None without a target."""
    nearest: Option | None = None
    """Where nothing keeps the objective: what comes closest."""
    miss: str = ""
    """Then: by how much, and what would fix it, in one sentence."""
    defaults: Defaults | None = None
    """None where no flag was varied."""
    tuning: Tuning | None = None
    work: Mapping[str, Any] = field(default_factory=dict)
    """What arrives, by the options of ``kvsim simulate``, for the recommendation's file."""
    confidence: Confidence | None = None
    """How sure the choice is; None where it was not asked."""
    what_ifs: tuple[WhatIf, ...] = ()
    """Changes of the chosen server, each with what it is worth."""

    @property
    def met(self) -> bool:
        """Whether anything keeps the objective, within the GPUs allowed."""
        return self.chosen is not None

    @property
    def best(self) -> Option | None:
        """The chosen one, or what comes closest."""
        return self.chosen or self.nearest

    @property
    def default_gain(self) -> float | None:
        """Relative gain of the chosen flags over the engine's own; None where it is not known."""
        if self.defaults is None or self.chosen is None or self.defaults.option is None:
            return None
        before = self.defaults.option.search.rate_per_s
        return self.chosen.search.rate_per_s / before - 1 if before else float("inf")

    @property
    def defaults_are_right(self) -> bool:
        """Whether the engine's own flags hold the same rate, within the search's tolerance."""
        gain = self.default_gain
        return gain is not None and gain <= TOLERANCE

    @property
    def share_per_s(self) -> float | None:
        """Requests a second of one chosen replica: its part of the target, or all it holds."""
        if self.chosen is None:
            return None
        if self.target_rate_per_s is None:
            return self.chosen.search.rate_per_s
        return self.target_rate_per_s / self.chosen.num_replicas

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        chosen = self.chosen
        return {
            "met": self.met,
            "slo": {
                **{name: getattr(self.slo, name) for name in self.slo.__slots__},
                "assumed": self.assumed_slo,
            },
            "target_rate_per_s": plain(self.target_rate_per_s),
            "max_gpus": self.max_gpus,
            "chosen": None if chosen is None else chosen.title,
            "runner_up": None if self.runner_up is None else self.runner_up.title,
            "serve_command": None if chosen is None else serve_command(chosen.server),
            "miss": self.miss or None,
            "options": [_option_json(one, self.target_rate_per_s) for one in self.options],
            "losers": [{"title": one.title, "reason": one.reason} for one in self.losers],
            "confirmed": None if self.confirmed is None else plain(self.confirmed.to_json()),
            "defaults": self._defaults_json(),
            "tuning": None if self.tuning is None else self.tuning.to_json(),
            "confidence": None if self.confidence is None else self.confidence.to_json(),
            "what_ifs": [one.to_json() for one in self.what_ifs],
        }

    def _defaults_json(self) -> object:
        found = self.defaults
        if found is None:
            return None
        return {
            "flags": list(self.flags),
            "rate_per_s": None if found.option is None else plain(found.option.search.rate_per_s),
            "gain": plain(self.default_gain),
            "right": self.defaults_are_right,
            "reason": found.reason or None,
        }


def _option_json(option: Option, target_per_s: float | None) -> dict[str, object]:
    gpu, flags = option.server.gpu, option.server.deployment
    return {
        "title": option.title,
        "gpu": gpu.name,
        "num_replicas": option.num_replicas,
        "num_gpus": option.num_gpus,
        "usd_per_gpu_hour": gpu.price_usd_per_hour,
        "price_date": gpu.price_date,
        "price_source": gpu.price_source,
        "usd_per_hour": plain(option.usd_per_hour),
        "usd_per_million_output_tokens": plain(usd_per_million(option, target_per_s)),
        "search": plain(option.search.to_json()),
        "deployment": flags.to_json(),
    }


def usd_per_million(option: Option, target_per_s: float | None) -> float | None:
    """USD per million output tokens, at the target where there is one, else at the rate held."""
    best = option.search.best
    if target_per_s is None or best is None or not best.output_tokens_per_s:
        return option.usd_per_million_output_tokens
    per_hour = option.usd_per_hour
    tokens_per_request = best.output_tokens_per_s / best.rate_per_s
    if per_hour is None:
        return None
    return per_hour / (target_per_s * tokens_per_request * 3600) * 1e6
