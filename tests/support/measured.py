"""A published run of a real server and kvsim's own run of it, from several sources of step times.

300 ShareGPT requests on one RTX PRO 6000, Llama-3.1-8B, vLLM 0.19.0, prefix caching on (few prompts
repeat). The measured figures are those of the recording's own summary. In that run the KV cache
never binds and its fill was not recorded: nothing here speaks of KV pressure.
"""

from __future__ import annotations

from pathlib import Path

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.sim.job import simulate_server
from kvsim.sim.result import Result
from kvsim.sim.server import Server, resolve
from kvsim.sim.summary import Summary
from kvsim.traces import load_trace

FOLDER = "measured/rtx-pro-6000-llama-3.1-8b"
TRACE = f"{FOLDER}/trace.jsonl.gz"
KERNELS = f"{FOLDER}/profile"
MEASURED = {
    "makespan_s": 65.93,
    "output_tokens_per_s": 2969.3,
    "ttft_s p50": 9.44,
    "ttft_s p95": 18.40,
    "tpot_s p50": 33.4e-3,
    "tpot_s p95": 36.9e-3,
    "e2e_s p50": 29.62,
    "e2e_s p95": 36.62,
    "peak_running": 128,
    "peak_waiting": 104,
}
PEER = {
    "ttft_s p50": -0.086,
    "ttft_s p95": -0.024,
    "tpot_s p50": 0.0,
    "tpot_s p95": 0.003,
    "e2e_s p50": -0.012,
    "e2e_s p95": -0.013,
}
"""Errors that LLMServingSim 2 publishes for this very run, from its own profile of the card."""


def figure(summary: Summary, name: str) -> float:
    """One of the figures by name."""
    field, _, quantile = name.partition(" ")
    value = getattr(summary, field)
    return float(getattr(value, quantile) if quantile else value)


def simulated_run(path: Path, step_cost: str = "silicon") -> tuple[Server, Summary]:
    """The run as kvsim has it."""
    server, _, summary = simulated(path, step_cost)
    return server, summary


def simulated(path: Path, step_cost: str = "silicon") -> tuple[Server, Result, Summary]:
    """The same, with its columns."""
    trace = load_trace(path, trace_block_size=16)
    server = resolve(
        model=load_model("llama-3.1-8b"),
        gpu=load_gpu("rtx-pro-6000"),
        trace=trace,
        step_cost_spec=step_cost,
        flags={"max_num_seqs": 128, "max_num_batched_tokens": 2048},
    )
    return server, *simulate_server(server, trace=trace)
