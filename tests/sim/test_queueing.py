"""The simulator against queueing theory, where theory has the answer (``support/queues.py``)."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from support.fleets import poisson
from support.queues import m_d_1, m_m_c, serve
from support.workloads import Columns


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("scheduler", ["vllm", "orca", "static"])
def test_one_seat_is_m_d_1(load: float, scheduler: str) -> None:
    assert abs(m_d_1(load, scheduler).error) < 0.06


@pytest.mark.parametrize(("seats", "load"), [(1, 0.6), (4, 0.7), (8, 0.85)])
def test_many_seats_are_m_m_c(seats: int, load: float) -> None:
    assert abs(m_m_c(seats, load).error) < 0.12


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
