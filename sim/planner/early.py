"""Ending a run as soon as its objective is lost: misses are counted as requests leave.

With ``counted`` requests that matter and a quantile ``q``, more than ``(1 - q) * counted`` misses
lose the objective, whatever the others do. A run that is not ended is not changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor, nan

from ...calibration.step_cost import NS_PER_S
from ..request import Request
from ..slo import SLO

_ROUNDING = 1e-9
"""What ``(1 - q) * counted`` may be short of the whole number that it is."""


@dataclass(slots=True, kw_only=True)
class Misses:
    """Told of each request that leaves; says whether the objective is lost by now."""

    slo: SLO
    counted: Sequence[bool]
    """Per request: whether it counts."""
    count: int = 0
    most: int = field(init=False)
    """Misses that the objective survives; cancelled requests do not count, so it may be fewer."""

    def __post_init__(self) -> None:
        self.most = floor((1 - self.slo.quantile) * sum(self.counted) + _ROUNDING)

    def __call__(self, request: Request) -> bool:
        """A request has been answered, rejected or cancelled."""
        if self.counted[request.index] and not request.cancelled:
            self.count += bool(request.reject_reason) or self._misses(request)
        return self.count > self.most

    def _misses(self, request: Request) -> bool:
        first_ns, finish_ns = request.first_token_ns, request.finish_ns
        after_first = request.total_tokens - request.prompt_tokens - 1
        taken_s = {
            "ttft_s": (first_ns - request.arrival_ns) / NS_PER_S,
            "tpot_s": (finish_ns - first_ns) / NS_PER_S / after_first if after_first > 0 else nan,
            "e2e_s": (finish_ns - request.arrival_ns) / NS_PER_S,
        }
        limits = ((getattr(self.slo, name), value) for name, value in taken_s.items())
        return any(limit is not None and value > limit for limit, value in limits)
