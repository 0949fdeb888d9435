"""Preemption by swap and by recompute over whole runs: the PagedAttention paper's Fig. 19 (b).

OPT-13B on one A100 of 40 GB, 400 requests of the ShareGPT preset at 2 a second: past what the
server holds, so that about 200 times a request is preempted. The metric is the paper's: mean of
end-to-end latency over output tokens. The scheduler is vLLM v0's, whose preemption by swap it is.
"""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.sim.server import resolve
from kvsim.sim.simulation import simulate
from kvsim.traces.intake import Intake, take_in

SIZES = (1, 16, 64, 128)
LEAST_PREEMPTIONS = 100


def normalised_latency_s(block_size: int, mode: str) -> float:
    trace = take_in(Intake(workload="sharegpt", num_requests=400, rate_per_s=2.0)).trace
    server = resolve(
        model=load_model("opt-13b"),
        gpu=load_gpu("a100-40gb"),
        trace=trace,
        max_model_len=2048,
        step_cost_spec="datasheet",
        flags={
            "block_size": block_size,
            "scheduler": "vllm_v0",
            "preemption_mode": mode,
            **({"swap_space": 64.0} if mode == "swap" else {}),
        },
    )
    result = simulate(
        trace,
        deployment=server.deployment,
        cost=server.cost,
        num_gpu_blocks=server.num_gpu_blocks,
        moves=server.moves,
    )
    rows = result.requests
    assert rows["num_preemptions"].sum() > LEAST_PREEMPTIONS
    assert (result.moved.num_swaps > LEAST_PREEMPTIONS) == (mode == "swap")
    return float(np.mean((rows["finish_s"] - rows["arrival_s"]) / rows["output_tokens"]))


@pytest.fixture(scope="module")
def latencies() -> dict[tuple[int, str], float]:
    modes = ("swap", "recompute")
    return {(size, mode): normalised_latency_s(size, mode) for size in SIZES for mode in modes}


def test_swap_is_bad_in_small_blocks(latencies: dict[tuple[int, str], float]) -> None:
    assert latencies[1, "swap"] > 1.5 * latencies[1, "recompute"]
    assert latencies[1, "swap"] > 1.5 * latencies[16, "swap"]


@pytest.mark.parametrize("size", [16, 64])
def test_both_are_comparable_in_blocks_of_16_to_64(
    size: int, latencies: dict[tuple[int, str], float]
) -> None:
    assert latencies[size, "recompute"] == pytest.approx(latencies[size, "swap"], rel=0.1)


@pytest.mark.parametrize("size", SIZES)
def test_recompute_is_never_a_fifth_above_swap(
    size: int, latencies: dict[tuple[int, str], float]
) -> None:
    assert latencies[size, "recompute"] <= 1.2 * latencies[size, "swap"]


@pytest.mark.parametrize("size", [64, 128])
def test_swap_is_a_little_better_in_large_blocks(
    size: int, latencies: dict[tuple[int, str], float]
) -> None:
    """In blocks of 256 and with other seeds as well."""
    assert latencies[size, "swap"] < latencies[size, "recompute"]
