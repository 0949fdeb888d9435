"""A server of several stages, simulated: macro-steps, capacity, what it tells its reader."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.sim.candidate import Candidate
from kvsim.sim.deployment import Deployment
from kvsim.sim.job import simulate_server
from kvsim.sim.serve_command import serve_command
from kvsim.sim.server import Server, resolve
from kvsim.traces.trace import Trace

BURST = Trace(
    arrival_s=np.linspace(0.0, 2.0, 60),
    prompt_tokens=np.arange(60) * 97 % 3000 + 1,
    output_tokens=np.arange(60) * 31 % 200 + 1,
    name="burst",
)


def server(stages: int, model: str = "llama-3.1-70b", trace: Trace = BURST) -> Server:
    return resolve(
        model=load_model(model),
        gpu=load_gpu("h200"),
        trace=trace,
        flags={
            "tensor_parallel_size": 2,
            "pipeline_parallel_size": stages,
            "max_num_batched_tokens": 2048,
        },
    )


@pytest.mark.parametrize("model", ["llama-3.1-70b", "gemma-3-27b"])
@pytest.mark.parametrize("stages", [2, 3])
def test_macro_steps_equal_single_steps(model: str, stages: int) -> None:
    made = server(stages, model)
    fast, slow = (
        simulate_server(made, trace=BURST, exact_steps=exact)[0].requests for exact in (False, True)
    )
    for name in ("first_token_s", "finish_s"):
        assert fast[name] == pytest.approx(slow[name], rel=1e-9)


def test_prompts_fill_the_stages() -> None:
    """Under a backlog of long prompts P stages prefill almost P times as much."""
    prompts = Trace(
        arrival_s=np.zeros(40),
        prompt_tokens=np.full(40, 8000),
        output_tokens=np.ones(40, dtype=int),
        name="prompts",
    )
    one, four = (
        simulate_server(server(p, trace=prompts), trace=prompts)[1].makespan_s for p in (1, 4)
    )
    assert 3 < one / four < 4


def test_what_the_reader_is_told() -> None:
    made = server(4)
    assert "h200, TP 2, PP 4, paged" in made.setting
    assert made.notes[0].startswith("Pipeline stages: the 4 batches in flight are folded into one")
    assert "The pool is that of stage 4 of 4" in made.notes[1]
    assert "--pipeline-parallel-size 4" in serve_command(made)
    assert "pipeline" not in serve_command(server(1))


def test_all_its_gpus_are_paid() -> None:
    """8 GPUs at 1 USD an hour, 1,000 tokens a second: 8 / 3.6 USD a million."""
    made = server(4)
    priced = replace(made, gpu=replace(made.gpu, price_usd_per_hour=1.0))
    backlog: Any = SimpleNamespace(output_tokens_per_s=1000.0)
    unused: Any = None
    one = Candidate(
        server=priced, summary=unused, result=unused, backlog=backlog, memory_backlog=None
    )
    assert one.usd_per_million_output_tokens == pytest.approx(8 / 3.6)


def test_limits_of_a_round() -> None:
    """A step of the simulation is a round: each batch in flight has a budget of its own."""
    flags = Deployment(
        max_model_len=4096,
        tensor_parallel_size=2,
        pipeline_parallel_size=4,
        max_num_batched_tokens=1000,
        long_prefill_token_threshold=100,
    )
    assert flags.num_gpus == 8
    assert flags.limits.max_num_batched_tokens == 4000
    assert flags.limits.long_prefill_token_threshold == 400
    assert flags.limits.max_num_seqs == flags.max_num_seqs
    assert flags.max_in_flight_tokens == 4000
    with pytest.raises(ValueError, match=r"pipeline_parallel_size\(=0\) must be > 0."):
        Deployment(max_model_len=4096, pipeline_parallel_size=0)
