"""How much an engine can serve, by the simulator: what a load of 75 % is 75 % of."""

from __future__ import annotations

import numpy as np

from ...calibration.engine.log_reader import Log
from ...calibration.step_cost import StepCost
from ...traces.trace import Trace
from ..moved import Moves
from ..result import FINISHED
from .closed_loop import simulate_like


def capacity_per_s(trace: Trace, like: Log, cost: StepCost, moves: Moves | None = None) -> float:
    """Requests per second while there is always somebody to serve: all of them arrive at once.

    Args:
        trace: whose requests they are.
        like: the log of a run with the same flags and pools.
        cost: step times.
        moves: what copies and swaps cost; None = no time.

    Raises:
        ValueError: none of them can be served.
    """
    result = simulate_like(like, trace.backlog(), cost, moves)
    done = result.status == FINISHED
    if not done.any():
        raise ValueError("trace must have a request that the pool can hold.")
    return float(done.sum() / result.requests["finish_s"][done].max())


def at_load(trace: Trace, load: float, capacity: float, *, seed: int) -> Trace:
    """The same requests with Poisson arrivals at a share of the capacity.

    Raises:
        ValueError: a load that is not positive.
    """
    if not load > 0:
        raise ValueError(f"load(={load:g}) must be > 0.")
    draw = np.random.default_rng(np.random.SeedSequence([seed, 0x10AD]))
    times = np.cumsum(draw.exponential(1 / (load * capacity), trace.num_roots))
    return trace.with_arrivals(np.round(times - times[0], 9))
