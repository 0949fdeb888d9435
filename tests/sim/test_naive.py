"""kvsim against a token-by-token model that shares nothing with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.sim.deployment import Deployment
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import summarise
from support.naive import naive
from support.workloads import COSTS, Columns, deployments, traces


def compare(trace: Columns, deployment: Deployment, cost_name: str, blocks: int) -> None:
    cost = COSTS[cost_name]
    rows, gaps_ns, token_slot_ns, held_slot_ns = naive(trace, deployment, cost, blocks)
    result = simulate(trace, deployment=deployment, cost=cost, num_gpu_blocks=blocks)
    columns = result.requests
    of = [row.index for row in rows]
    assert (np.flatnonzero(columns["status"] == "finished") == of).all()
    close = {"rtol": 1e-9, "atol": 1e-12}
    for name in ("scheduled", "waited"):
        values = [getattr(row, f"{name}_ns") / 1e9 for row in rows]
        np.testing.assert_allclose(columns[f"{name}_s"][of], values, **close, err_msg=name)
    for name, at in (("first_token_s", 0), ("finish_s", -1)):
        values = [row.times_ns[at] / 1e9 for row in rows]
        np.testing.assert_allclose(columns[name][of], values, **close, err_msg=name)
    for name in ("num_preemptions", "wasted_tokens"):
        assert columns[name][of].tolist() == [getattr(row, name) for row in rows], name
    segments = result.segments
    emitted = segments["num_steps"] @ segments["num_decodes"] + len(result.gaps_s)
    assert emitted == len(gaps_ns)
    if len(gaps_ns):
        itl = summarise(result).itl_s
        assert itl.mean == pytest.approx(gaps_ns.mean() / 1e9, rel=1e-9)
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            rank = max(1, int(np.ceil(q * len(gaps_ns)))) - 1
            assert getattr(itl, name) == pytest.approx(gaps_ns[rank] / 1e9, rel=1e-6), name
    duration = segments["duration_s"]
    held = segments["token_states"] + segments["reserved"] + segments["internal"]
    assert segments["token_states"] @ duration == pytest.approx(token_slot_ns / 1e9, rel=1e-9)
    assert held @ duration == pytest.approx(held_slot_ns / 1e9, rel=1e-9)


@pytest.mark.parametrize("scheduler", ["vllm", "vllm_v0", "sarathi"])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_workloads(scheduler: str, data: st.DataObject) -> None:
    drawn = data.draw(traces())
    n = len(drawn.prompt_tokens)
    gaps_ms = data.draw(st.lists(st.sampled_from([0, 1, 7, 40]), min_size=n, max_size=n))
    trace = replace(
        drawn, arrival_s=np.cumsum(gaps_ms) / 1e3, parent=None, delay_s=None, cancel_s=None
    )
    deployment, blocks = data.draw(
        deployments(allocator=("paged", "max", "buddy"), scheduler=scheduler)
    )
    deployment = replace(
        deployment,
        scheduling_policy="fcfs",
        enable_prefix_caching=False,
        async_scheduling=False,
        kv_groups=(),
    )
    compare(trace, deployment, data.draw(st.sampled_from(sorted(COSTS))), blocks)


@pytest.mark.parametrize("blocks", [400, 30], ids=["roomy", "tight"])
@pytest.mark.parametrize("cost", sorted(COSTS))
@pytest.mark.parametrize(("n", "prompt"), [(14, 108), (24, 108), (24, 300)])
def test_decodes_left_out_of_a_step(n: int, prompt: int, cost: str, blocks: int) -> None:
    """A held prefill is passed by one-token prompts; when it goes on, they get no budget."""
    trace = Columns(
        arrival_s=np.array([0.0, 0.0] + [0.021] * n),
        prompt_tokens=np.array([1, prompt] + [1] * n),
        output_tokens=np.array([100, 4] + [60] * n),
    )
    deployment = Deployment(
        max_model_len=512,
        max_num_batched_tokens=17,
        long_prefill_token_threshold=16,
        prefill_schedule_interval=5,
    )
    compare(trace, deployment, cost, blocks)
