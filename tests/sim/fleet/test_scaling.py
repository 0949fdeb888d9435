"""Replicas that join and leave, by hand: times, queues, hours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.sim.fleet.autoscaling import Autoscaling
from kvsim.sim.fleet.result import FleetResult
from kvsim.sim.fleet.run import simulate_fleet
from kvsim.sim.fleet.spec import Change, Fleet
from support.fleets import fleet_of, lengths, pool_of, server_of
from support.workloads import Columns

ONE_SEAT = server_of(AffineCost(base_s=1.0), max_num_seqs=1)
"""A token a second, one request after the other."""


def scaled(trace: Columns, *, most: int | None = 1, **autoscaling: Any) -> FleetResult:
    pool = pool_of(ONE_SEAT, 1, autoscaling=Autoscaling(**autoscaling))
    return simulate_fleet(Fleet(pools=(pool,), max_ongoing_requests=most), trace, check=True)


def moments(found: FleetResult) -> list[tuple[float, str, int]]:
    columns = (found.changes[name].tolist() for name in ("at_s", "what", "replica"))
    return list(zip(*columns, strict=True))


def test_scale_out_by_hand() -> None:
    """Three answers of 10 s: at 10 s there are three for a target of one; two more join at 15 s."""
    found = scaled(
        lengths(3, output=10), target=1, interval_s=10, scale_out_delay_s=5, cooldown_s=12
    )
    assert moments(found) == [
        (0.0, "launched", 0),
        (0.0, "joined", 0),
        (10.0, "launched", 1),
        (10.0, "launched", 2),
        (15.0, "joined", 1),
        (15.0, "joined", 2),
    ]
    assert found.result.requests["finish_s"].tolist() == [10.0, 20.0, 25.0]
    assert [one.paid_s for one in found.replicas] == [25.0, 15.0, 15.0]
    assert found.replica_s == 55.0


def test_scale_in_waits_for_the_cooldown() -> None:
    """Wanted again: 1 from 20 s on, at most 12 s after the change at 10 s: at 30 s."""
    arrivals = np.array([0.0, 0.0, 0.0, 24.0, 38.0])
    found = scaled(
        lengths(5, output=10, arrival_s=arrivals),
        target=1,
        interval_s=10,
        scale_out_delay_s=5,
        cooldown_s=12,
    )
    left = [(at, number) for at, what, number in moments(found) if what == "draining"]
    assert left == [(30.0, 2), (30.0, 1)]
    assert found.replicas[1].left_s == 30.0


def test_the_tolerance_keeps_what_there_is() -> None:
    """Two requests for a target of 1.9 are within a tenth of it."""
    trace = lengths(2, output=10)
    kept = scaled(trace, most=None, target=1.9, interval_s=2)
    grown = scaled(trace, most=None, target=1.9, interval_s=2, tolerance=0.0)
    assert len(kept.replicas) == 1
    assert len(grown.replicas) == 2


def test_kv_usage_scales_too() -> None:
    """100 prompt tokens of 160 in the pool; more than a quarter of it is too much."""
    server = server_of(AffineCost(base_s=1.0), num_gpu_blocks=11, max_model_len=128)
    scaling = Autoscaling(metric="kv_usage", target=0.25, interval_s=3, scale_out_delay_s=1)
    pool = pool_of(server, 1, autoscaling=scaling)
    found = simulate_fleet(Fleet(pools=(pool,)), lengths(1, prompt=100, output=9))
    # 102 or 103 of 176 slots at 3 s: ceil(0.58 / 0.25) = 3
    assert len(found.replicas) == 3


def test_who_waits_goes_elsewhere() -> None:
    """Each replica runs one and has one in its queue; the one that leaves finishes its own."""
    fleet = fleet_of(ONE_SEAT, 2, changes=(Change(at_s=4.0, pool="gpu", replicas=-1),))
    found = simulate_fleet(fleet, lengths(4, output=10), check=True)
    assert found.num_rerouted == 1
    assert found.result.requests["finish_s"].tolist() == [10.0, 10.0, 20.0, 30.0]
    assert found.replicas[1].left_s == 10.0
    assert found.replicas[1].result.requests["index"].tolist() == [1]
    assert found.result.requests["waited_s"].tolist() == [0.0, 0.0, 10.0, 20.0]


def test_who_waits_for_a_place_elsewhere_may_give_up() -> None:
    """Replica 0 has its two; request 3 of replica 1 is back at the router when its client goes."""
    fleet = fleet_of(
        ONE_SEAT,
        2,
        max_ongoing_requests=2,
        changes=(Change(at_s=4.0, pool="gpu", replicas=-1),),
    )
    patience = np.array([np.nan, np.nan, np.nan, 6.5])
    found = simulate_fleet(fleet, lengths(4, output=10, cancel_s=patience), check=True)
    assert found.result.status.tolist() == ["finished"] * 3 + ["cancelled"]
    assert found.result.requests["finish_s"].tolist() == [10.0, 10.0, 20.0, 6.5]
    assert found.result.requests["output_tokens"].tolist() == [10, 10, 10, 0]


def test_the_last_one_stays() -> None:
    fleet = fleet_of(ONE_SEAT, 2, changes=(Change(at_s=1.0, pool="gpu", replicas=-5),))
    found = simulate_fleet(fleet, lengths(2, output=3))
    assert (found.result.status == "finished").all()
    assert sum(what == "draining" for _, what, _ in moments(found)) == 1


def test_who_is_not_wanted_any_more_never_joins() -> None:
    """Asked for at 2 s for two requests, and not ready when only one is left at 4 s."""
    found = scaled(
        lengths(2, output=3, arrival_s=np.array([0.0, 1.0])),
        most=None,
        target=1.5,
        interval_s=2,
        scale_out_delay_s=5,
        cooldown_s=0,
    )
    assert moments(found)[2:] == [(2.0, "launched", 1), (4.0, "withdrawn", 1)]
    assert found.replicas[1].paid_s == 2.0
    assert np.isnan(found.replicas[1].ready_s)


def test_a_stalled_fleet_ends() -> None:
    """Nothing will ever happen again: the autoscaler does not wait for it."""
    stuck = server_of(num_gpu_blocks=3, on_impossible="stall", max_model_len=256)
    pool = pool_of(stuck, 1, autoscaling=Autoscaling(target=5, interval_s=1))
    found = simulate_fleet(Fleet(pools=(pool,)), lengths(1, prompt=200, output=3))
    assert found.result.status.tolist() == ["unfinished"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"target": 0}, r"target_ongoing_requests\(=0\) must be > 0"),
        ({"target": 2, "metric": "kv_usage"}, r"target_kv_usage\(=2\) must be in \(0, 1\]"),
        ({"target": 1, "metric": "cpu"}, r"metric\(='cpu'\) is unknown"),
        ({"target": 1, "min_replicas": 0}, r"min_replicas\(=0\) must be > 0"),
        ({"target": 1, "max_replicas": 1, "min_replicas": 2}, r"max_replicas\(=1\) must be >= min"),
        ({"target": 1, "interval_s": 0}, r"interval\(=0\) must be > 0"),
        ({"target": 1, "cooldown_s": -1}, r"cooldown\(=-1\) must be >= 0"),
    ],
)
def test_wrong_autoscaling(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Autoscaling(**values)
