"""Fleets of small servers, made of random workloads or of a clock in round numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.step_cost import StepCost
from kvsim.sim.deployment import Deployment
from kvsim.sim.fleet.spec import Fleet, Pool
from kvsim.sim.result import Result
from support.workloads import Columns, FakeMoves


@dataclass(frozen=True, kw_only=True)
class SmallServer:
    """What a replica is made from."""

    deployment: Deployment
    cost: StepCost = field(default_factory=lambda: AffineCost(base_s=1e-3))
    num_gpu_blocks: int = 1 << 16
    moves: FakeMoves = field(default_factory=FakeMoves)


def pool_of(server: SmallServer, replicas: int = 1, name: str = "gpu", **more: Any) -> Pool:
    return Pool(name=name, server=server, num_replicas=replicas, **more)


def fleet_of(server: SmallServer, replicas: int = 1, **more: Any) -> Fleet:
    return Fleet(pools=(pool_of(server, replicas),), **more)


def server_of(
    cost: StepCost | None = None, *, num_gpu_blocks: int = 1 << 16, **flags: Any
) -> SmallServer:
    deployment = Deployment(**{"max_model_len": 1 << 15, "max_num_seqs": 64} | flags)
    return SmallServer(
        deployment=deployment,
        cost=cost or AffineCost(base_s=1e-3),
        num_gpu_blocks=num_gpu_blocks,
    )


def poisson(rate_per_s: float, n: int, seed: int) -> NDArray[np.float64]:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, n))


def lengths(n: int, *, prompt: int = 1, output: int = 1, **more: Any) -> Columns:
    """Equal requests, all there at 0 unless said otherwise."""
    columns = {
        "arrival_s": np.zeros(n),
        "prompt_tokens": np.full(n, prompt),
        "output_tokens": np.full(n, output),
    }
    return Columns(**(columns | more))


def assert_same_bits(one: Result, other: Result) -> None:
    """Every column and every figure, to the last bit."""
    for name in ("requests", "segments", "openings", "pauses", "loads"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert list(ours) == list(theirs)
        for column in theirs:
            np.testing.assert_array_equal(ours[column], theirs[column], err_msg=column)
            assert ours[column].dtype == theirs[column].dtype, column
    np.testing.assert_array_equal(one.gaps_s, other.gaps_s)
    np.testing.assert_array_equal(one.gap_ends_s, other.gap_ends_s)
    for name in (
        "pool_slots",
        "num_steps",
        "peak_waiting",
        "num_length_capped",
        "looked_up_tokens",
        "moved",
        "tiers",
    ):
        assert getattr(one, name) == getattr(other, name), name
