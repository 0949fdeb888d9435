"""A published run of a real server against the ``datasheet`` source, which was not fitted to it.

300 ShareGPT requests on one RTX PRO 6000, Llama-3.1-8B, vLLM 0.19.0. The measured figures are those
of ``measured/README.md``. The claim is the source's own band; the actual errors are in the README.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.sim.job import simulate_server
from kvsim.sim.server import resolve
from kvsim.sim.summary import Summary
from kvsim.traces import load_trace

MEASURED = {
    "makespan_s": 65.93,
    "output_tokens_per_s": 2969.3,
    "tpot_s p50": 33.4e-3,
    "tpot_s p95": 36.9e-3,
    "e2e_s p50": 29.62,
    "e2e_s p95": 36.62,
}


def figure(summary: Summary, name: str) -> float:
    field, _, quantile = name.partition(" ")
    value = getattr(summary, field)
    return float(getattr(value, quantile) if quantile else value)


def test_the_truth_lies_in_the_band(shared_file: Callable[[str], Path]) -> None:
    path = shared_file("measured/rtx-pro-6000-llama-3.1-8b/trace.jsonl.gz")
    trace = load_trace(path, trace_block_size=16)
    server = resolve(
        model=load_model("llama-3.1-8b"),
        gpu=load_gpu("rtx-pro-6000"),
        trace=trace,
        flags={"max_num_seqs": 128, "max_num_batched_tokens": 2048},
    )
    _, summary = simulate_server(server, trace=trace)
    assert summary.num_finished == 300
    assert summary.peak_running == 128
    band = server.cost.band
    for name, measured in MEASURED.items():
        simulated = figure(summary, name)
        if name == "output_tokens_per_s":  # a rate: slower steps, fewer tokens
            simulated, measured = 1 / simulated, 1 / measured
        assert simulated * band.low <= measured <= simulated * band.high, name
        assert simulated == pytest.approx(measured, rel=0.13), name
