"""A service level objective: latency limits and the share of requests that must keep them all."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from .result import FINISHED, Result

LIMITS = ("ttft_s", "tpot_s", "e2e_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class SLO:
    """Limits of each request's latencies, seconds; None = no limit.

    A request *attains* the objective when it finishes within every limit; the objective holds when
    at least ``quantile`` of the requests attain it (DistServe's attainment; stricter than each
    latency's own quantile). Rejected and unfinished requests do not attain it. One whose output is
    a single token has no TPOT and keeps any limit of it; cancelled ones do not count.

    Raises:
        ValueError: no limit at all, one that is not positive, a quantile outside (0, 1].
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    quantile: float = 0.95

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in LIMITS):
            raise ValueError("slo has no limit: give slo_ttft, slo_tpot or slo_e2e.")
        for name in LIMITS:
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < inf:
                raise ValueError(f"slo_{name[:-2]}(={limit}) must be > 0 s.")
        if not 0 < self.quantile <= 1:
            raise ValueError(f"quantile(={self.quantile}) must be in (0, 1].")

    def __str__(self) -> str:
        """``TTFT <= 2 s and TPOT <= 0.05 s for 95 % of the requests``."""
        limits = [
            f"{name[:-2].upper()} <= {limit:g} s"
            for name in LIMITS
            if (limit := getattr(self, name)) is not None
        ]
        return f"{' and '.join(limits)} for {100 * self.quantile:g} % of the requests"

    def attained(self, result: Result) -> NDArray[np.bool_]:
        """Per request: finished, and within every limit."""
        kept = result.status == FINISHED
        for name, values in latencies_of(result).items():
            limit = getattr(self, name)
            if limit is not None:
                kept &= ~(values > limit)  # NaN, no such latency, is within any limit
        return np.asarray(kept, dtype=np.bool_)


def latencies_of(result: Result) -> dict[str, NDArray[np.float64]]:
    """Per request, seconds: ``ttft_s``, ``tpot_s`` (NaN for outputs of one token), ``e2e_s``."""
    requests = result.requests
    arrival, first, finish = (
        requests[f"{name}_s"] for name in ("arrival", "first_token", "finish")
    )
    after_first = requests["output_tokens"] - 1
    tpot = np.full(len(finish), np.nan)
    np.divide(finish - first, after_first, out=tpot, where=after_first > 0)
    return {"ttft_s": first - arrival, "tpot_s": tpot, "e2e_s": finish - arrival}
