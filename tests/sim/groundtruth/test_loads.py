"""What a load is a share of: the rate that the simulator says the engine serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.engine.log_reader import read_log
from kvsim.sim.groundtruth.loads import at_load, capacity_per_s
from kvsim.traces import Trace
from support import virtual_engine as virtual


def test_the_capacity_by_hand(tmp_path: Path) -> None:
    """Seats for 4, and 8 requests of 2 + 3 tokens: two waves of 3 steps of 10 ms."""
    log = read_log(virtual.serve(tmp_path / "log.jsonl", virtual.chat(1, 3)))
    eight = Trace(
        name="eight",
        prompt_tokens=np.full(8, 2),
        output_tokens=np.full(8, 3),
        arrival_s=np.arange(8.0),
    )
    assert capacity_per_s(eight, log, AffineCost(base_s=0.010)) == pytest.approx(8 / 0.060)


def test_a_capacity_needs_somebody_who_fits(tmp_path: Path) -> None:
    log = read_log(virtual.serve(tmp_path / "log.jsonl", virtual.chat(1, 3)))
    large = Trace(
        name="large",
        prompt_tokens=np.array([900]),
        output_tokens=np.array([3]),
        arrival_s=np.zeros(1),
    )
    with pytest.raises(ValueError, match=r"^trace must have a request that the pool can hold\.$"):
        capacity_per_s(large, log, AffineCost(base_s=0.010))


def test_arrivals_at_a_load() -> None:
    trace = at_load(virtual.chat(1, 2000), 0.5, 40.0, seed=7)
    assert trace.arrival_s is not None
    assert trace.arrival_s[0] == 0
    assert 2000 / trace.arrival_s[-1] == pytest.approx(20.0, rel=0.1)
    assert np.array_equal(trace.prompt_tokens, virtual.chat(1, 2000).prompt_tokens)
    with pytest.raises(ValueError, match=r"^load\(=0\) must be > 0\.$"):
        at_load(trace, 0.0, 40.0, seed=7)
