"""Fleets against queueing theory, where theory has the answer.

Replicas of one seat whose steps cost the same serve an answer of a geometric number of tokens for
an exponential time, one of a single token for a constant one. Random numbers are seeded.
"""

from __future__ import annotations

from math import factorial, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from kvsim.calibration.affine import AffineCost
from kvsim.sim.fleet.run import simulate_fleet
from support.fleets import fleet_of, lengths, poisson, server_of

MEAN_TOKENS, STEP_S = 1000, 1e-3


def erlang_c_wait_s(servers: int, load: float, service_s: float = 1.0) -> float:
    """Mean wait of M/M/c."""
    offered = servers * load
    top = offered**servers / factorial(servers) / (1 - load)
    queued = top / (sum(offered**k / factorial(k) for k in range(servers)) + top)
    return queued * service_s / (servers * (1 - load))


def waits_s(
    replicas: int, load: float, router: str, *, outputs: NDArray[np.int64], **more: object
) -> NDArray[np.float64]:
    step_s = STEP_S if outputs.max() > 1 else 1.0
    n = len(outputs)
    trace = lengths(n, arrival_s=poisson(replicas * load, n, seed=13), output_tokens=outputs)
    cost = AffineCost(base_s=step_s)
    server = server_of(cost, max_num_seqs=1, block_size=1 << 14, num_gpu_blocks=99)
    found = simulate_fleet(fleet_of(server, replicas, router=router, **more), trace)
    return found.result.requests["waited_s"]


def answers(n: int) -> NDArray[np.int64]:
    return np.random.default_rng(11).geometric(1 / MEAN_TOKENS, n)


@pytest.mark.parametrize(
    ("router", "replicas", "load"),
    [
        ("least_outstanding", 4, 0.7),
        *(
            pytest.param(router, *fleet, marks=pytest.mark.slow)
            for router in ("round_robin", "least_kv")
            for fleet in ((1, 0.6), (2, 0.8), (5, 0.7))
        ),
    ],
)
def test_one_queue_is_m_m_n(router: str, replicas: int, load: float) -> None:
    """Who waits at the router goes to the first replica that is free: Erlang C for any router."""
    n = 12_000
    outputs, arrivals = answers(n), poisson(replicas * load, n, seed=13)
    found = waits_s(replicas, load, router, outputs=outputs, max_ongoing_requests=1)
    service_s = outputs.mean() * STEP_S  # and the rate: as they were drawn, not as meant
    drawn = n / arrivals[-1] * service_s / replicas
    expected_s = erlang_c_wait_s(replicas, drawn, service_s)
    assert found.mean() == pytest.approx(expected_s, rel=0.08)


@pytest.mark.parametrize(
    ("replicas", "load"), [(2, 0.8), pytest.param(4, 0.7, marks=pytest.mark.slow)]
)
def test_one_queue_is_m_d_n(replicas: int, load: float) -> None:
    """Cosmetatos (1975): half the wait of M/M/c, corrected; within 2 % of the exact values."""
    correction = (1 - load) * (replicas - 1) * (sqrt(4 + 5 * replicas) - 2) / (16 * load * replicas)
    expected_s = erlang_c_wait_s(replicas, load) / 2 * (1 + correction)
    ones = np.ones(20_000, dtype=np.int64)
    found = waits_s(replicas, load, "round_robin", outputs=ones, max_ongoing_requests=1)
    assert found.mean() == pytest.approx(expected_s, rel=0.06)


@pytest.mark.parametrize(
    ("replicas", "load"), [(2, 0.7), pytest.param(4, 0.8, marks=pytest.mark.slow)]
)
def test_round_robin_is_e_m_1_each(replicas: int, load: float) -> None:
    """Every N-th arrival of a Poisson stream: GI/M/1 with Erlang-N times between arrivals.

    Mean wait = s / (1 - s) services, where s = (rate / (rate + 1 - s)) ** N.
    """
    rate, s = replicas * load, 0.5
    for _ in range(200):
        s = (rate / (rate + 1 - s)) ** replicas
    found = waits_s(replicas, load, "round_robin", outputs=answers(12_000))
    assert found.mean() == pytest.approx(s / (1 - s), rel=0.12)


@pytest.mark.slow
def test_the_shortest_queue_lies_between() -> None:
    """Worse than one queue for all, better than taking turns."""
    outputs = answers(4_000)
    one_queue = waits_s(4, 0.85, "round_robin", outputs=outputs, max_ongoing_requests=1).mean()
    shortest = waits_s(4, 0.85, "least_outstanding", outputs=outputs).mean()
    turns = waits_s(4, 0.85, "round_robin", outputs=outputs).mean()
    assert one_queue < 0.9 * shortest
    assert shortest < 0.9 * turns
