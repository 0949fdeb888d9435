"""Arrival processes: n times (s), the first at 0, gaps with mean 1/rate.

- poisson: exponential gaps
- gamma: gaps of shape `burstiness` b and mean 1/rate, CV 1/sqrt(b): vLLM's meaning, where 1 is
Poisson,
  less is burstier, more is steadier (`vllm bench serve --burstiness`)
- constant: one every 1/rate
- backlog: all at 0

Times are whole nanoseconds.
"""

import math
from collections.abc import Callable

import numpy as np

from .columns import Floats, whole_ns

Gaps = Callable[[int, float, np.random.Generator], Floats]  # count, burstiness, stream -> mean 1

PROCESSES: dict[str, Gaps] = {
    "poisson": lambda n, burstiness, rng: rng.standard_exponential(n),
    "gamma": lambda n, burstiness, rng: rng.gamma(burstiness, 1 / burstiness, n),
    "constant": lambda n, burstiness, rng: np.ones(n),
    "backlog": lambda n, burstiness, rng: np.zeros(n),
}


def check_process(process: str, rate_per_s: float | None, burstiness: float) -> None:
    """Raise ValueError for an unknown process or a rate or burstiness that is not > 0."""
    if process not in PROCESSES:
        raise ValueError(f"arrival process(={process}) must be one of {', '.join(PROCESSES)}.")
    if rate_per_s is None and process != "backlog":
        raise ValueError(f"rate must be given for arrival process {process}.")
    if rate_per_s is not None and not (rate_per_s > 0 and math.isfinite(rate_per_s)):
        raise ValueError(f"rate(={rate_per_s:g}) must be > 0.")
    if not (burstiness > 0 and math.isfinite(burstiness)):
        raise ValueError(f"burstiness(={burstiness:g}) must be > 0.")


def arrival_times(
    n: int,
    *,
    process: str,
    rate_per_s: float | None,
    burstiness: float = 1.0,
    rng: np.random.Generator,
) -> Floats:
    """(n,) arrival times in seconds, ascending from 0. Raises ValueError for a bad argument."""
    check_process(process, rate_per_s, burstiness)
    if n < 1:
        raise ValueError(f"num_requests(={n}) must be > 0.")
    gaps = PROCESSES[process](n - 1, burstiness, rng)
    times = np.concatenate(([0.0], np.cumsum(gaps)))
    return whole_ns(times / rate_per_s) if rate_per_s is not None else times
