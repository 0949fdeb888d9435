"""Queues that theory has the answer to, as the simulator serves them.

One-token answers with a cost per step make a server whose service time is constant (M/D/1). Long
answers whose steps cost the same however many run make each seat a server of its own (M/M/c), and
so do replicas of one seat behind a router. Random numbers are seeded: nothing here is left to luck.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import factorial, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvsim.calibration.affine import AffineCost
from kvsim.sim.deployment import Deployment
from kvsim.sim.fleet.run import simulate_fleet
from kvsim.sim.planner.search import RateSearch, search_rate
from kvsim.sim.result import Result
from kvsim.sim.server import Server
from kvsim.sim.simulation import simulate
from kvsim.sim.slo import SLO
from kvsim.traces import Trace
from support.fleets import fleet_of, lengths, poisson, server_of
from support.steady import STEP_S as SEAT_STEP_S
from support.steady import alike, steady_server
from support.workloads import Columns

MEAN_TOKENS, STEP_S = 1000, 1e-3
NUM_BATCHES = 20
SEAT_TOKENS = 200
SEAT_SERVICE_S = SEAT_TOKENS * SEAT_STEP_S
SEAT_SLO = SLO(e2e_s=12.0, quantile=0.9)


class Waited(NamedTuple):
    """Mean wait, s: by theory, and as simulated with the doubt of a sample of that length."""

    theory_s: float
    found_s: float
    sampling_s: float

    @property
    def error(self) -> float:
        """Simulated over theory, less one."""
        return self.found_s / self.theory_s - 1

    @property
    def doubt(self) -> float:
        """One standard error of the simulated mean, of theory."""
        return self.sampling_s / self.theory_s


def waited(theory_s: float, waits_s: NDArray[np.float64]) -> Waited:
    """The standard error is that of 20 batch means: neighbours wait for the same queue."""
    means = [part.mean() for part in np.array_split(waits_s, NUM_BATCHES)]
    error_s = np.std(means, ddof=1) / sqrt(NUM_BATCHES)
    return Waited(float(theory_s), float(waits_s.mean()), float(error_s))


def erlang_c_wait_s(servers: int, load: float, service_s: float = 1.0) -> float:
    """Mean wait of M/M/c: C(c, a) * service / (c * (1 - load)), a = c * load."""
    offered = servers * load
    top = offered**servers / factorial(servers) / (1 - load)
    queued = top / (sum(offered**k / factorial(k) for k in range(servers)) + top)
    return queued * service_s / (servers * (1 - load))


def serve(trace: Columns, cost: AffineCost, *, seats: int, scheduler: str = "vllm") -> Result:
    """One server whose memory does not bind."""
    deployment = Deployment(
        max_model_len=1 << 20,
        max_num_seqs=seats,
        max_num_batched_tokens=1 << 20,
        scheduler=scheduler,
    )
    return simulate(trace, deployment=deployment, cost=cost, num_gpu_blocks=1 << 20)


def m_d_1(load: float, scheduler: str = "vllm") -> Waited:
    """One seat (Pollaczek-Khinchine): load * service / (2 * (1 - load))."""
    service_s, n = 0.01, 60_000
    ones = np.ones(n, dtype=np.int64)
    trace = Columns(
        arrival_s=poisson(load / service_s, n, seed=7), prompt_tokens=ones, output_tokens=ones
    )
    result = serve(trace, AffineCost(base_s=service_s), seats=1, scheduler=scheduler)
    return waited(load * service_s / (2 * (1 - load)), result.requests["waited_s"])


def m_m_c(seats: int, load: float) -> Waited:
    """Many seats (Erlang C).

    A step costs 1 ms whatever runs in it and a geometric answer of mean 1000 tokens is 1 s long,
    so a seat serves exponentially, up to the step that an arrival may miss. The service time and
    the rate are those that were drawn, not those that were meant.
    """
    n = 25_000
    outputs = answers(n)
    arrivals = poisson(seats * load / (STEP_S * MEAN_TOKENS), n, seed=13)
    trace = Columns(
        arrival_s=arrivals, prompt_tokens=np.ones(n, dtype=np.int64), output_tokens=outputs
    )
    result = serve(trace, AffineCost(base_s=STEP_S), seats=seats)
    service_s = outputs.mean() * STEP_S
    drawn = n / arrivals[-1] * service_s / seats
    return waited(erlang_c_wait_s(seats, drawn, service_s), result.requests["waited_s"])


def waits_s(
    replicas: int, load: float, router: str, *, outputs: NDArray[np.int64], **more: object
) -> NDArray[np.float64]:
    """Of each request of a fleet of one-seat replicas."""
    step_s = STEP_S if outputs.max() > 1 else 1.0
    n = len(outputs)
    trace = lengths(n, arrival_s=poisson(replicas * load, n, seed=13), output_tokens=outputs)
    cost = AffineCost(base_s=step_s)
    server = server_of(cost, max_num_seqs=1, block_size=1 << 14, num_gpu_blocks=99)
    found = simulate_fleet(fleet_of(server, replicas, router=router, **more), trace)
    return found.result.requests["waited_s"]


def answers(n: int) -> NDArray[np.int64]:
    """Geometric lengths: exponential service."""
    return np.random.default_rng(11).geometric(1 / MEAN_TOKENS, n)


def m_m_n(replicas: int, load: float, router: str = "least_outstanding") -> Waited:
    """One queue at the router: Erlang C for any router, with what was drawn."""
    n = 12_000
    outputs, arrivals = answers(n), poisson(replicas * load, n, seed=13)
    found = waits_s(replicas, load, router, outputs=outputs, max_ongoing_requests=1)
    service_s = outputs.mean() * STEP_S
    drawn = n / arrivals[-1] * service_s / replicas
    return waited(erlang_c_wait_s(replicas, drawn, service_s), found)


def m_d_n(replicas: int, load: float) -> Waited:
    """Cosmetatos (1975): half the wait of M/M/c, corrected; within 2 % of the exact values."""
    correction = (1 - load) * (replicas - 1) * (sqrt(4 + 5 * replicas) - 2) / (16 * load * replicas)
    ones = np.ones(20_000, dtype=np.int64)
    found = waits_s(replicas, load, "round_robin", outputs=ones, max_ongoing_requests=1)
    return waited(erlang_c_wait_s(replicas, load) / 2 * (1 + correction), found)


def e_m_1_each(replicas: int, load: float) -> Waited:
    """Every N-th arrival of a Poisson stream: GI/M/1 with Erlang-N times between arrivals.

    Mean wait = s / (1 - s) services, where s = (rate / (rate + 1 - s)) ** N.
    """
    rate, s = replicas * load, 0.5
    for _ in range(200):
        s = (rate / (rate + 1 - s)) ** replicas
    found = waits_s(replicas, load, "round_robin", outputs=answers(12_000))
    return waited(s / (1 - s), found)


def exponential_seat(number: int = 8_000, *, seed: int = 5) -> tuple[Server, Trace]:
    """One seat, steps of 10 ms, geometric answers of 200 tokens: exponential service, 2 s."""
    outputs = np.random.default_rng(seed + 12).geometric(1 / SEAT_TOKENS, number)
    trace = arriving(number, rate_per_s=1.0, outputs=outputs, seed=seed)
    return steady_server(trace, blocks=1_000, max_num_seqs=1), trace


def arriving(number: int, *, rate_per_s: float, outputs: NDArray[np.int64], seed: int = 5) -> Trace:
    """Poisson arrivals of prompts of one token."""
    times = np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, number))
    return replace(
        alike(number, prompt=1, output=1, every_s=1.0),
        arrival_s=np.round(times, 9),
        output_tokens=outputs.astype(np.int64),
    )


def rate_of_theory() -> float:
    """P(E2E > t) = exp(-(mu - lambda) t), so lambda = mu - ln(1 / (1 - q)) / t."""
    assert SEAT_SLO.e2e_s is not None
    return 1 / SEAT_SERVICE_S - log(1 / (1 - SEAT_SLO.quantile)) / SEAT_SLO.e2e_s


@cache
def rate_found(seed: int = 5) -> RateSearch:
    """The rate that the planner finds for that seat."""
    server, trace = exponential_seat(seed=seed)
    return search_rate(server, trace, SEAT_SLO, jobs=1)
