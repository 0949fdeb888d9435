"""Reductions of a result."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.sim import summary
from kvsim.sim.deployment import Deployment
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import inter_token_times, plain
from support.workloads import Columns


def test_a_long_run_is_summed_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean stays exact, the percentiles close: a week of steps does not fit the memory."""
    rng = np.random.default_rng(2)
    trace = Columns(
        arrival_s=np.sort(rng.uniform(0, 30, 80)),
        prompt_tokens=rng.integers(1, 500, 80),
        output_tokens=rng.integers(1, 900, 80),
    )
    result = simulate(
        trace,
        deployment=Deployment(max_model_len=2048),
        cost=AffineCost(base_s=5e-3, per_context_token_s=1e-6),
        num_gpu_blocks=4000,
    )
    whole = inter_token_times(result)
    monkeypatch.setattr(summary, "_MOST_STEPS_LISTED", 10)
    parts = inter_token_times(result)
    assert parts.mean == pytest.approx(whole.mean, rel=1e-12)
    for name in ("p50", "p90", "p95", "p99"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=5e-3)


def test_plain_values() -> None:
    assert plain({"a": (1, 2.123456789123, float("nan"), float("inf"), None, "x", True)}) == {
        "a": [1, 2.12345679, None, None, None, "x", True]
    }
    with pytest.raises(TypeError, match="ndarray"):
        plain(np.zeros(2))
