"""The first vLLM engine: prompts first, then decodes, never both in a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.sim.deployment import Deployment
from kvsim.sim.replica import StepRecord
from kvsim.sim.result import Result
from kvsim.sim.serve_command import serve_command
from kvsim.sim.server import Server, resolve
from kvsim.sim.simulation import simulate
from support.workloads import COSTS, Columns, FakeMoves


def _run(
    *requests: tuple[float, int, int], num_gpu_blocks: int = 400, **flags: Any
) -> tuple[Result, list[StepRecord]]:
    """Requests as (arrival in seconds, prompt, output)."""
    arrival, prompt, output = zip(*requests, strict=True)
    trace = Columns(
        arrival_s=np.array(arrival), prompt_tokens=np.array(prompt), output_tokens=np.array(output)
    )
    steps: list[StepRecord] = []
    result = simulate(
        trace,
        deployment=Deployment(max_model_len=512, scheduler="vllm_v0", **flags),
        cost=COSTS["affine"],
        num_gpu_blocks=num_gpu_blocks,
        log_step=steps.append,
        check=True,
        moves=FakeMoves(),
        num_host_blocks=100,
    )
    return result, steps


def _kinds(steps: list[StepRecord]) -> str:
    """``p`` for a step of prompts, ``d`` for one of decodes."""
    for step in steps:
        assert not (step.shape.chunks and step.shape.num_decodes), "never both"
    return "".join("p" if step.shape.chunks else "d" for step in steps if step.shape.num_tokens)


def test_a_new_prompt_holds_the_decodes_up() -> None:
    result, steps = _run((0.0, 20, 10), (0.012, 30, 3))
    assert _kinds(steps) == "pddpddddddd"
    assert len(result.gaps_s) == 1, "one token of the first request came late"
    assert [len(step.step.held_back) for step in steps if step.shape.chunks] == [0, 1]


def test_as_many_whole_prompts_as_the_budget_holds() -> None:
    _, steps = _run(*[(0.0, 40, 2)] * 5, max_num_batched_tokens=100)
    assert [len(step.step.chunks) for step in steps if step.shape.chunks] == [2, 2, 1]
    assert _kinds(steps) == "pppd"


def test_a_preempted_request_comes_back_first() -> None:
    """Blocks of 16: 8 usable, both need 4 and then 5."""
    result, _ = _run((0.0, 60, 20), (0.0, 60, 20), (0.001, 10, 2), num_gpu_blocks=9)
    requests = result.requests
    assert requests["num_preemptions"].tolist() == [0, 1, 0]
    assert requests["finish_s"][0] < requests["finish_s"][1]
    assert result.pauses["admitted_s"][0] <= requests["scheduled_s"][2]


def test_the_watermark_stays_free() -> None:
    """10 of 100 blocks: of 99, 90 can be had; a prompt that wants more never is."""
    fits, over = (0.0, 80 * 4, 2), (0.0, 91 * 4, 2)
    flags: dict[str, Any] = {"block_size": 4, "watermark": 0.1, "num_gpu_blocks": 100}
    result, _ = _run(fits, over, (0.0, 40, 2), (0.0, 4, 2), **flags)
    assert result.status.tolist() == ["finished", "rejected", "finished", "finished"]
    assert "the watermark leaves" in result.requests["reject_reason"][1]
    scheduled = result.requests["scheduled_s"]
    assert scheduled[0] < scheduled[2], "80 blocks are held: 10 more would leave only 9"
    assert scheduled[3] == scheduled[2], "first come, first served"
    without, _ = _run(fits, over, **{**flags, "watermark": 0.0})
    assert (without.status == "finished").all()


def test_a_prompt_over_the_budget_is_rejected() -> None:
    result, _ = _run((0.0, 101, 2), (0.0, 99, 2), max_num_batched_tokens=100)
    assert result.status.tolist() == ["rejected", "finished"]
    assert "max_num_batched_tokens(=100)" in result.requests["reject_reason"][0]


def _server(**flags: Any) -> Server:
    trace = Columns(
        arrival_s=np.zeros(1), prompt_tokens=np.array([3000]), output_tokens=np.array([100])
    )
    return resolve(
        model=load_model("llama-3.1-8b"),
        gpu=load_gpu("h100-sxm"),
        trace=trace,
        flags={"scheduler": "vllm_v0", **flags},
    )


def test_its_own_defaults() -> None:
    flags = _server().deployment
    assert (flags.max_num_batched_tokens, flags.max_num_seqs) == (4096, 256)
    assert flags.watermark == 0.01
    assert not flags.async_scheduling
    assert _server(watermark=0.0).deployment.watermark == 0.0


def test_what_the_engine_refuses_to_start_with() -> None:
    with pytest.raises(ValueError, match=r"max_num_batched_tokens\(=2048\) must be >= max_model"):
        _server(max_num_batched_tokens=2048)
    with pytest.raises(ValueError, match=r"max_num_batched_tokens\(=4096\) must be >= max_num_seq"):
        _server(max_num_seqs=5000, max_num_batched_tokens=4096)


@pytest.mark.parametrize("scheduler", ["vllm_v0", "sarathi"])
def test_no_command_line_for_what_vllm_has_not(scheduler: str) -> None:
    assert serve_command(_server(scheduler=scheduler)).startswith("# vLLM has no")


def test_who_was_swapped_out_comes_back_among_the_decodes() -> None:
    """12 usable blocks of 16, 4 each: the first needs a fifth, the third gives way.

    It comes back when the second has ended; until then no prompt is let in, though there is room.
    """
    requests = [(0.0, 60, 30), (0.0, 60, 8), (0.0, 60, 30), (0.035, 10, 2)]
    result, steps = _run(*requests, preemption_mode="swap", num_gpu_blocks=13)
    assert result.requests["num_preemptions"].tolist() == [0, 0, 1, 0]
    assert result.moved.num_swaps == 1
    assert result.requests["wasted_tokens"].sum() == 0
    (back,) = (step for step in steps for _, tokens in step.step.chunks if tokens == 1)
    assert back.shape.num_decodes == 2, "beside the first"
    assert not back.step.held_back
    assert back.start_ns < result.requests["scheduled_s"][3] * 1e9
