"""Published figures of step times beside ours: printed by the README tool, asserted by tests.

Decode law and loaded case: vLLM's FP8 KV-cache post, one H100, Llama-3.1-8B in bf16. Splitwise:
medians of DGX servers with Llama-2-70B, an early stack whose absolute figures are not ours to meet.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvsim.calibration.costs import step_cost
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.step_cost import NS_PER_S, Batch, StepCost
from kvsim.sim.job import simulate_server
from kvsim.sim.server import resolve
from kvsim.sim.summary import Summary
from kvsim.traces.trace import Trace

LAW_CONTEXTS = (256, 1024, 4096, 16_384, 32_768, 65_536, 125_000)
LAW_OUTPUT_TOKENS = 128
SLOPE_MS = 4.37e-5
"""Per token of context."""
INTERCEPT_MS = 6.44
LOADED_TOKENS_PER_S = 450.3
LOADED_TTFT_MEAN_S = 0.7636
PROMPTS = (512, 1024, 2048, 4096, 8192)
SPLITWISE_PROMPT_MS = {
    ("a100", 8): (94, 155, 274, 661, 1550),
    ("h100-sxm", 8): (53, 78, 137, 390, 845),
    ("a100", 4): (127, 227, 403, 965, 2279),
    ("h100-sxm", 4): (60, 106, 201, 464, 954),
    ("a100", 2): (197, 377, 688, 1485, 2990),
    ("h100-sxm", 2): (84, 158, 310, 643, 1340),
}


class Law(NamedTuple):
    """``ITL = intercept + slope * context``, ms."""

    slope_ms: float
    intercept_ms: float


def cost_of(source: str, model: str, gpu: str, **flags: object) -> StepCost:
    """A step cost by names."""
    return step_cost(source, model=load_model(model), gpu=load_gpu(gpu), **flags)  # type: ignore[arg-type]  # flags of step_cost


def decode_law(source: str) -> Law:
    """Least squares over the post's range, at the middle of the output."""
    cost = cost_of(source, "llama-3.1-8b", "h100-sxm")
    seen = [tokens + LAW_OUTPUT_TOKENS // 2 for tokens in LAW_CONTEXTS]
    itl_ms = [1e3 * cost.step_s(Batch(1, tokens, (), 0, tokens)) for tokens in seen]
    slope, intercept = np.polyfit(LAW_CONTEXTS, itl_ms, 1)
    return Law(float(slope), float(intercept))


def loaded_run(source: str) -> Summary:
    """150 requests of 20k tokens in and 2k out (each up to 15 % more or less), 8 clients."""
    rng = np.random.default_rng(0)
    trace = Trace(
        name="loaded",
        arrival_s=None,
        prompt_tokens=np.rint(20_000 * rng.uniform(0.85, 1.15, 150)).astype(np.int64),
        output_tokens=np.rint(2_000 * rng.uniform(0.85, 1.15, 150)).astype(np.int64),
    )
    server = resolve(
        model=load_model("llama-3.1-8b"),
        gpu=load_gpu("h100-sxm"),
        trace=trace,
        step_cost_spec=source,
        flags={"enable_prefix_caching": False},
    )
    return simulate_server(server, trace=trace, concurrency=8)[1]


def prompt_ms(source: str, gpu: str, tensor_parallel_size: int) -> list[float]:
    """Llama-2-70B, one prompt, the lengths of ``PROMPTS``."""
    cost = cost_of(source, "llama-2-70b", gpu, tensor_parallel_size=tensor_parallel_size)
    return [cost.step_ns(Batch(0, 0, ((n, 0),))) / NS_PER_S * 1e3 for n in PROMPTS]
