"""The simulator against queueing theory, where theory has the answer.

One-token answers with a cost per scheduled token make a server whose service time is deterministic
(M/D/1, Pollaczek-Khinchine). Long answers whose steps cost the same however many run make each
seat a server of its own (M/M/c, Erlang C). Random numbers are seeded: nothing here is left to luck.
"""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.sim.deployment import Deployment
from kvsim.sim.result import Result
from kvsim.sim.simulation import simulate
from support.workloads import Columns


def serve(trace: Columns, cost: AffineCost, *, seats: int, scheduler: str = "vllm") -> Result:
    deployment = Deployment(
        max_model_len=1 << 20,
        max_num_seqs=seats,
        max_num_batched_tokens=1 << 20,
        scheduler=scheduler,
    )
    return simulate(trace, deployment=deployment, cost=cost, num_gpu_blocks=1 << 20)


def poisson(rate_per_s: float, n: int, seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, n))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("scheduler", ["vllm", "orca", "static"])
def test_one_seat_is_m_d_1(load: float, scheduler: str) -> None:
    """Mean wait = load * service / (2 * (1 - load))."""
    service_s, n = 0.01, 60_000
    ones = np.ones(n, dtype=np.int64)
    trace = Columns(
        arrival_s=poisson(load / service_s, n, seed=7), prompt_tokens=ones, output_tokens=ones
    )
    result = serve(trace, AffineCost(base_s=service_s), seats=1, scheduler=scheduler)
    expected_s = load * service_s / (2 * (1 - load))
    assert result.requests["waited_s"].mean() == pytest.approx(expected_s, rel=0.06)


@pytest.mark.parametrize(("seats", "load"), [(1, 0.6), (4, 0.7), (8, 0.85)])
def test_many_seats_are_m_m_c(seats: int, load: float) -> None:
    """Erlang C: mean wait = C(c, a) * service / (c * (1 - load)), a = c * load.

    A step costs 1 ms whatever runs in it and a geometric answer of mean 1000 tokens is 1 s long,
    so a seat serves exponentially, up to the step that an arrival may miss.
    """
    step_s, mean_tokens, n = 1e-3, 1000, 25_000
    rng = np.random.default_rng(11)
    trace = Columns(
        arrival_s=poisson(seats * load / (step_s * mean_tokens), n, seed=13),
        prompt_tokens=np.ones(n, dtype=np.int64),
        output_tokens=rng.geometric(1 / mean_tokens, n),
    )
    result = serve(trace, AffineCost(base_s=step_s), seats=seats)
    offered = seats * load
    top = offered**seats / factorial(seats) / (1 - load)
    queued = top / (sum(offered**k / factorial(k) for k in range(seats)) + top)
    expected_s = queued * step_s * mean_tokens / (seats * (1 - load))
    assert result.requests["waited_s"].mean() == pytest.approx(expected_s, rel=0.12)


def test_littles_law() -> None:
    """Mean number in the system = throughput * mean time in it, for any workload."""
    n = 2_000
    rng = np.random.default_rng(3)
    trace = Columns(
        arrival_s=poisson(4.0, n, seed=5),
        prompt_tokens=rng.integers(1, 400, n),
        output_tokens=rng.integers(1, 200, n),
    )
    cost = AffineCost(base_s=2e-3, per_scheduled_token_s=1e-5, per_context_token_s=1e-7)
    result = serve(trace, cost, seats=16)
    requests, segments = result.requests, result.segments
    in_system_s = float((requests["finish_s"] - requests["arrival_s"]).sum())
    running_s = float(segments["num_running"] @ segments["duration_s"])
    assert in_system_s == pytest.approx(running_s + requests["waited_s"].sum(), rel=1e-9)
