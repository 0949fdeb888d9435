"""A run in real time on a CPU, with its log; and what the engine refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.calibration.engine.log_reader import read_log
from kvsim.calibration.engine.shape import TOY
from kvsim.sim.deployment import Deployment
from kvsim.sim.groundtruth.serve import EngineRun, serve_trace
from kvsim.traces import Trace
from kvsim.traces.embedded import trace_from_json

FLAGS = Deployment(max_model_len=32, block_size=4, max_num_seqs=4, max_num_batched_tokens=16)
RUN = EngineRun(shape=TOY, deployment=FLAGS, num_gpu_blocks=9, device="cpu")


def trace(**columns: Any) -> Trace:
    """Three short requests, the last one a moment later."""
    return Trace(
        name="three",
        **{
            "prompt_tokens": np.array([6, 5, 9]),
            "output_tokens": np.array([2, 3, 2]),
            "arrival_s": np.array([0.0, 0.0, 0.05]),
            **columns,
        },
    )


def test_a_run_and_its_log(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl.gz"
    said: list[tuple[str, int, int]] = []
    serve_trace(trace(), RUN, path, lambda *what: said.append(what))
    log = read_log(path)
    assert log.is_whole
    assert log.end["why"] == "done"
    assert log.end["num_steps"] == len(log.steps)
    assert log.header.model["name"] == "toy"
    assert log.header.flags["num_gpu_blocks"] == 9
    assert log.header.hardware["clock"] == "wall"
    assert trace_from_json(log.header.trace).digest == trace().digest
    assert said[-1][1] == said[-1][2]
    assert sum(one.output_tokens for one in log.requests) == 7
    computed = sum(step.num_tokens for step in log.steps)
    assert computed == sum(trace().prompt_tokens + trace().output_tokens - 1)
    for one in log.requests:
        assert one.arrival_s <= one.scheduled_s < one.first_token_s < one.last_token_s
    for before, after in zip(log.steps, log.steps[1:], strict=False):
        assert before.start_s + before.wall_s <= after.start_s + 2e-7, "one step at a time"
    for step in log.steps:
        parts = step.schedule_s + step.prepare_s + step.launch_s + step.sync_s + step.update_s
        assert parts == pytest.approx(step.wall_s, abs=1e-6)
        assert step.gpu_s != step.gpu_s
        assert 0 < step.used_blocks <= 8


def test_after_its_minutes_nobody_is_let_in(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    late = trace(arrival_s=np.array([0.0, 0.0, 3600.0]))
    serve_trace(late, replace(RUN, minutes=0.001), path)
    log = read_log(path)
    assert (log.end["why"], log.end["num_left_out"]) == ("time", 1)
    assert sorted(one.request for one in log.requests) == [0, 1], "those let in are answered"


@pytest.mark.parametrize(
    ("columns", "flags", "message"),
    [
        (
            {"output_tokens": np.array([2, 3, 24])},
            {},
            r"^trace has 33 tokens in row 2, which must be <= max_model_len\(=32\) of the engine.$",
        ),
        ({"arrival_s": None}, {}, "^trace has lengths only: the engine needs arrival times.$"),
        (
            {"beam_width": np.array([2, 0, 0])},
            {},
            "^beam_width must be 0 in every row: the engine does not search.$",
        ),
        (
            {},
            {"allocator": "contiguous"},
            r"^allocator\(=contiguous\) must be paged: the engine runs nothing else\.$",
        ),
        ({}, {"scheduler": "static"}, r"^scheduler\(=static\) must be another one: "),
        ({}, {"async_scheduling": True}, r"^async_scheduling\(=True\) must be False: "),
        ({}, {"tensor_parallel_size": 2}, r"^tensor_parallel_size\(=2\) must be 1: "),
        ({}, {"preemption_mode": "auto"}, r"^preemption_mode\(=auto\) must be recompute, swap "),
    ],
)
def test_what_the_engine_does_not_run(
    tmp_path: Path, columns: dict[str, Any], flags: dict[str, Any], message: str
) -> None:
    run = replace(RUN, deployment=replace(FLAGS, **flags), num_host_blocks=4)
    path = tmp_path / "run.jsonl"
    with pytest.raises(ValueError, match=message):
        serve_trace(trace(**columns), run, path)
    assert not path.exists()


def test_pools_and_devices_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^num_gpu_blocks\(=1\) must be >= 2"):
        replace(RUN, num_gpu_blocks=1)
    with pytest.raises(ValueError, match=r"^minutes\(=0\) must be > 0\.$"):
        replace(RUN, minutes=0.0)
    with pytest.raises(ValueError, match=r"^num_host_blocks\(=0\) must be > 0 with preemption"):
        replace(RUN, deployment=replace(FLAGS, preemption_mode="swap"))


def test_no_card_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^device\(=cuda\) must be an NVIDIA GPU"):
        serve_trace(trace(), replace(RUN, device="cuda"), tmp_path / "run.jsonl")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 1 << 30))
    with pytest.raises(ValueError, match=r"^gpu_memory\(=1\.0 GiB\) must be >= "):
        serve_trace(trace(), replace(RUN, device="cuda"), tmp_path / "run.jsonl")
