"""The PagedAttention paper's runs without a timing model (Kwon et al., SOSP 2023, Fig. 2 and 13).

OPT-13B on a 40 GB A100: a pool of 15,728 slots, requests of at most 2,048 tokens, every iteration
equally long, requests always waiting.
"""

from __future__ import annotations

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
    """Means over the saturated window."""
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
    return measure(result, seats=NO_LIMIT)


def orca(preset: str, reservation: str) -> Backlog:
    """Iteration-level batching over a buddy allocator."""
    return backlog(preset, allocator="contiguous", reservation=reservation, scheduler="orca")


def paged(preset: str) -> Backlog:
    """vLLM as in the paper: 1 % watermark, recompute preemption."""
    return backlog(preset, watermark=0.01)
