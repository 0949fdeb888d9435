"""The saturated window and the weighted percentiles, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.sim.backlog import measure, window
from kvsim.sim.deployment import Deployment
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import weighted_quantiles
from support.workloads import Columns


def test_window_opens_after_one_turnover_and_closes_with_the_queue() -> None:
    """2 seats, 7 requests of 1 and 3 steps in turn, 10 ms a step.

    steps  0    1  2    3    4  5   6    7 ..
    seat   r0   r2 (1)  r3 .. : ends at 1,2 then r1 at 3, so the second end is at step 2
    """
    n = 7
    trace = Columns(
        arrival_s=np.zeros(n),
        prompt_tokens=np.ones(n, dtype=np.int64),
        output_tokens=np.array([1, 3, 1, 3, 1, 3, 1]),
    )
    result = simulate(
        trace,
        deployment=Deployment(max_model_len=64, max_num_seqs=2),
        cost=AffineCost(base_s=0.01),
        num_gpu_blocks=100,
    )
    finish = np.sort(result.requests["finish_s"])
    scheduled_last = result.requests["scheduled_s"].max()
    begin_s, end_s, saturated = window(result)
    assert saturated
    assert begin_s == pytest.approx(finish[1])
    assert end_s == pytest.approx(scheduled_last), "the last one left the queue then"
    found = measure(result, seats=2)
    assert found.mean_running == pytest.approx(2.0)
    assert found.seat_bound == pytest.approx(1.0)
    assert found.memory_bound == 0
    inside = (result.requests["finish_s"] > begin_s) & (result.requests["finish_s"] <= end_s)
    assert found.num_finished == inside.sum()
    assert 0 < found.num_finished < n - 2
    outputs = trace.output_tokens[inside].sum()
    assert found.output_tokens_per_s == pytest.approx(outputs / (end_s - begin_s))


def test_weighted_quantiles_are_those_of_the_repeated_values() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values, weights = rng.random(9), rng.integers(0, 4, 9)
        weights[0] = 1
        flat = np.repeat(values, weights)
        found = weighted_quantiles(values, weights)
        assert found.mean == pytest.approx(flat.mean())
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
            assert getattr(found, name) == np.quantile(flat, q, method="inverted_cdf")


def test_a_queue_that_empties_before_one_turnover_is_no_saturation() -> None:
    """Ends at 10, 20, 30, 30 ms; the queue is empty at 20, when the second of two has ended."""
    trace = Columns(
        arrival_s=np.zeros(4),
        prompt_tokens=np.ones(4, dtype=np.int64),
        output_tokens=np.array([1, 3, 1, 1]),
    )
    result = simulate(
        trace,
        deployment=Deployment(max_model_len=64, max_num_seqs=2),
        cost=AffineCost(base_s=0.01),
        num_gpu_blocks=100,
    )
    assert window(result) == (0.0, pytest.approx(0.03), False)
