"""The PagedAttention paper without a timing model (Kwon et al., SOSP 2023, Fig. 2 and 13).

OPT-13B on a 40 GB A100: a pool of 15,728 slots, requests of at most 2,048 tokens, every iteration
equally long, requests always waiting. Lengths are the presets', which are fitted to the means of
Fig. 11 and to one figure of Fig. 2, not to what is asserted here.
"""

from __future__ import annotations

import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.sim.backlog import Backlog, measure
from kvsim.sim.deployment import Deployment
from kvsim.sim.simulation import simulate
from kvsim.traces import synthesize, workload_preset

POOL_SLOTS = 15_728
BLOCK_SIZE = 16
NO_LIMIT = 1_000_000
FIG_2 = {  # token states, reservation, internal, external and others
    "max": (0.204, 0.133, 0.573, 0.089),
    "pow2": (0.268, 0.179, 0.136, 0.416),
    "oracle": (0.382, 0.252, 0.0, 0.366),
}
FIG_13 = {
    ("sharegpt", "max"): 7.00,
    ("sharegpt", "pow2"): 9.81,
    ("sharegpt", "oracle"): 13.62,
    ("alpaca", "max"): 7.00,
    ("alpaca", "pow2"): 43.24,
    ("alpaca", "oracle"): 72.75,
}


def backlog(preset: str, *, num_requests: int = 4_000, **flags: object) -> Backlog:
    trace = synthesize(workload=workload_preset(preset), num_requests=num_requests, seed=1)
    deployment = Deployment(
        max_model_len=2048,
        max_num_seqs=NO_LIMIT,
        max_num_batched_tokens=NO_LIMIT,
        block_size=BLOCK_SIZE,
        **flags,  # type: ignore[arg-type]
    )
    result = simulate(
        trace.backlog(),
        deployment=deployment,
        cost=AffineCost(base_s=0.02),
        num_gpu_blocks=POOL_SLOTS // BLOCK_SIZE,
    )
    found = measure(result)
    assert found.saturated
    return found


def orca(preset: str, reservation: str) -> Backlog:
    return backlog(preset, allocator="contiguous", reservation=reservation, scheduler="orca")


def test_orca_max_is_exact() -> None:
    found = orca("sharegpt", "max")
    assert found.mean_running == pytest.approx(7.0, abs=1e-9)
    assert found.pool_share.external == pytest.approx(1 - 7 * 2048 / POOL_SLOTS, abs=1e-9)
    assert found.pool_share.external == pytest.approx(0.0885, abs=5e-5)


@pytest.mark.parametrize("reservation", FIG_2)
def test_where_the_bytes_go(reservation: str) -> None:
    share = orca("sharegpt", reservation).pool_share
    *inside, external = FIG_2[reservation]
    assert (share.token_states, share.reserved, share.internal) == pytest.approx(inside, abs=0.025)
    assert share.external == pytest.approx(external, abs=0.04)
    assert share.free == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("preset", "reservation"), FIG_13)
def test_batched_requests(preset: str, reservation: str) -> None:
    printed = FIG_13[preset, reservation]
    assert orca(preset, reservation).mean_running == pytest.approx(printed, rel=0.12)


def test_paged_waste_is_under_four_per_cent() -> None:
    """vLLM as in the paper: 1 % watermark; all that holds no KV is waste."""
    share = backlog("sharegpt", watermark=0.01).pool_share
    assert 1 - share.token_states < 0.04
    assert share.external == 0.0


def test_paged_runs_two_to_five_times_as_many() -> None:
    """The paper: 4.3 times Orca (Max), 2.2 times Orca (Oracle), at 2 requests a second."""
    paged = backlog("sharegpt", watermark=0.01).mean_running
    assert 4.0 < paged / orca("sharegpt", "max").mean_running < 5.5
    assert 2.0 < paged / orca("sharegpt", "oracle").mean_running < 3.0
