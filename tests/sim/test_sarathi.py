"""Stall-free batching: what each of its two techniques brings, and who gets tokens in which order.

Sarathi-Serve, Table 4: Yi-34B on two A100, 128 requests, a budget of 1024 tokens. The paper gives
no rate; here it is the load at which a plan is made, 0.8 of what the server finishes under backlog.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.sim.deployment import Deployment
from kvsim.sim.plan import DEFAULT_LOAD
from kvsim.sim.replica import StepRecord
from kvsim.sim.saturated import saturate
from kvsim.sim.server import Server, resolve
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import summarise
from kvsim.traces import Trace
from kvsim.traces.presets import workload_preset
from kvsim.traces.workload import Arrivals, synthesize
from support.workloads import COSTS, Columns

YI_34B_200K = replace(load_model("yi-34b"), max_position_embeddings=200_000)
WORKLOADS = ("openchat-sharegpt4", "arxiv-summarization")
VARIANTS: dict[str, dict[str, Any]] = {
    "hybrid only": {"enable_chunked_prefill": False},
    "chunks only": {"mixed_batches": False},
    "both": {},
}


def _trace(workload: str, *, rate_per_s: float, num_requests: int, seed: int) -> Trace:
    arrivals = Arrivals(rate_per_s=rate_per_s)
    preset = workload_preset(workload, arrivals=arrivals)
    return synthesize(workload=preset, num_requests=num_requests, seed=seed)


def _server(trace: Trace, cost: str, **flags: Any) -> Server:
    return resolve(
        model=YI_34B_200K,
        gpu=load_gpu("a100"),
        trace=trace,
        step_cost_spec=cost,
        flags={
            "scheduler": "sarathi",
            "tensor_parallel_size": 2,
            "max_num_batched_tokens": 1024,
            **flags,
        },
    )


@cache
def _rate_per_s(workload: str, cost: str) -> float:
    trace = _trace(workload, rate_per_s=1.0, num_requests=512, seed=0)
    _, backlog = saturate(_server(trace, cost), trace, title="backlog")
    return DEFAULT_LOAD * backlog.requests_per_s


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("cost", ["silicon", "datasheet"])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_orderings_of_the_papers_table_4(workload: str, cost: str, seed: int) -> None:
    rate_per_s = _rate_per_s(workload, cost)
    trace = _trace(workload, rate_per_s=rate_per_s, num_requests=128, seed=seed)
    ttft_s, tbt_s = {}, {}
    for name, flags in VARIANTS.items():
        server = _server(trace, cost, **flags)
        summary = summarise(
            simulate(
                trace,
                deployment=server.deployment,
                cost=server.cost,
                num_gpu_blocks=server.num_gpu_blocks,
            )
        )
        ttft_s[name], tbt_s[name] = summary.ttft_s.p50, summary.itl_s.p99
    assert ttft_s["hybrid only"] < ttft_s["both"] < ttft_s["chunks only"]
    assert tbt_s["both"] < tbt_s["chunks only"] < tbt_s["hybrid only"]


def _steps(trace: Columns, **flags: Any) -> list[StepRecord]:
    steps: list[StepRecord] = []
    deployment = Deployment(max_model_len=512, scheduler="sarathi", **flags)
    simulate(
        trace,
        deployment=deployment,
        cost=COSTS["affine"],
        num_gpu_blocks=400,
        log_step=steps.append,
        check=True,
    )
    return steps


def _work(step: StepRecord) -> tuple[int, int]:
    """Decodes and prompt tokens of a step."""
    return step.shape.num_decodes, sum(tokens for tokens, _ in step.shape.chunks)


MIXED = Columns(
    arrival_s=np.array([0.0] * 20),
    prompt_tokens=np.array([30, 200, 7, 90] * 5),
    output_tokens=np.array([40, 3, 60, 20] * 5),
)


def test_every_decode_has_its_token_in_every_step() -> None:
    steps = _steps(MIXED, max_num_batched_tokens=32)
    assert not any(step.step.held_back for step in steps)
    assert all(sum(_work(step)) <= 32 for step in steps)
    both = [step for step in steps if min(_work(step)) > 0]
    assert len(both) > 20


def test_a_prompt_that_has_begun_goes_on_before_a_new_one() -> None:
    steps = _steps(MIXED, max_num_batched_tokens=32)
    order = [request.index for step in steps for request, tokens in step.step.chunks if tokens > 1]
    assert order == sorted(order), "first come, first served, one after the other"


def test_chunks_and_decodes_in_turns() -> None:
    steps = _steps(MIXED, max_num_batched_tokens=32, mixed_batches=False)
    work = [_work(step) for step in steps]
    assert all(0 in pair for pair in work)
    kinds = "".join("c" if chunk else "d" for _, chunk in work)
    begun = kinds.index("d")
    waiting = kinds[begun : kinds.rindex("c")]
    assert "cc" not in waiting, "decodes have every other step"
    assert "dd" not in waiting, "so do chunks while there are any"


def test_whole_prompts_beside_decodes() -> None:
    steps = _steps(MIXED, max_num_batched_tokens=100, enable_chunked_prefill=False)
    chunks = [step.step.chunks for step in steps if step.step.chunks]
    whole = {request.prompt_tokens for step in chunks for request, tokens in step if tokens > 1}
    assert whole == {30, 200, 7, 90}
    for step in chunks:
        tokens = [tokens for _, tokens in step]
        assert len(tokens) == 1 or sum(tokens) <= 100, "one that is longer is alone"


def test_a_prompt_takes_its_memory_when_it_is_admitted() -> None:
    trace = Columns(
        arrival_s=np.zeros(1), prompt_tokens=np.array([100]), output_tokens=np.array([5])
    )
    first = _steps(trace, max_num_batched_tokens=10)[0]
    assert first.step.chunks[0][1] == 10
    assert first.moment.usage.held == 112  # seven blocks of 16
