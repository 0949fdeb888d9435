"""Sarathi-Serve's Table 4 (Agrawal et al., OSDI 2024): what each of its two techniques brings.

The paper gives no rate; here it is the load at which ``kvsim plan`` makes a plan, 0.8 of what the
server finishes under backlog. Values depend on it and are not compared, orderings are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...calibration.gpus import load_gpu
from ...calibration.models import load_model
from ...traces import synthesize, workload_preset
from ..job import simulate_server
from ..plan import DEFAULT_LOAD
from ..saturated import saturate
from ..server import Server, resolve
from .claim import Chart, Check, Claim, Series, within
from .setup import SEED, Setting, arriving

PAPER = "Sarathi-Serve"
NUM_REQUESTS, TOKEN_BUDGET, NUM_GPUS = 128, 1024, 2
VARIANTS: Mapping[str, Mapping[str, object]] = {
    "hybrid batches only": {"enable_chunked_prefill": False},
    "chunked prefill only": {"mixed_batches": False},
    "both": {},
}
TABLE_4 = {  # workload: variant: P50 TTFT, P99 TBT, seconds
    "openchat-sharegpt4": {
        "hybrid batches only": (0.53, 0.68),
        "chunked prefill only": (1.04, 0.17),
        "both": (0.76, 0.14),
    },
    "arxiv-summarization": {
        "hybrid batches only": (3.78, 1.38),
        "chunked prefill only": (5.38, 0.20),
        "both": (3.90, 0.17),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    ttft_p50_s: float
    tbt_p99_s: float


def table_4(setting: Setting) -> Claim:
    """Two orderings on each of two workloads."""
    found = {workload: _times(workload) for workload in TABLE_4}
    checks: list[Check] = []
    for workload, times in found.items():
        hybrid, chunks, both = (times[name] for name in VARIANTS)
        checks += (
            _step(f"{workload}: P50 TTFT, both / hybrid only", both, hybrid, "ttft_p50_s"),
            _step(f"{workload}: P50 TTFT, chunks only / both", chunks, both, "ttft_p50_s"),
            _step(f"{workload}: P99 TBT, chunks only / both", chunks, both, "tbt_p99_s"),
            _step(f"{workload}: P99 TBT, hybrid only / chunks only", hybrid, chunks, "tbt_p99_s"),
        )
    return Claim(
        name="sarathi-table-4",
        paper=PAPER,
        source="Agrawal et al., Sarathi-Serve, OSDI 2024, Table 4",
        says="Hybrid batches alone have the shortest P50 TTFT and the longest P99 time between "
        "tokens, chunked prefill alone the longest TTFT; both together the shortest time between "
        "tokens.",
        how=f"Yi-34B on {NUM_GPUS} A100 80 GB, {NUM_REQUESTS} requests, a budget of {TOKEN_BUDGET} "
        f"tokens, scheduler sarathi; Poisson at {DEFAULT_LOAD:g} of the backlogged rate, as the "
        "paper names none. Orderings only.",
        checks=tuple(checks),
        charts=tuple(_chart(workload, times) for workload, times in found.items()),
    )


def _times(workload: str) -> dict[str, _Times]:
    preset = workload_preset(workload)
    many = synthesize(workload=preset, num_requests=4 * NUM_REQUESTS, seed=0)
    _, backlog = saturate(_server(workload, {}), many)
    trace = synthesize(workload=preset, num_requests=NUM_REQUESTS, seed=SEED)
    timed = arriving(trace, DEFAULT_LOAD * backlog.requests_per_s)
    times = {}
    for name, flags in VARIANTS.items():
        _, summary = simulate_server(_server(workload, flags), trace=timed)
        times[name] = _Times(ttft_p50_s=summary.ttft_s.p50, tbt_p99_s=summary.itl_s.p99)
    return times


def _server(workload: str, flags: Mapping[str, object]) -> Server:
    """Yi-34B with the context of its 200K variant, which arxiv_summarization needs."""
    model = replace(load_model("yi-34b"), max_position_embeddings=200_000)
    return resolve(
        model=model,
        gpu=load_gpu("a100"),
        trace=synthesize(workload=workload_preset(workload), num_requests=4 * NUM_REQUESTS, seed=0),
        flags={
            "scheduler": "sarathi",
            "tensor_parallel_size": NUM_GPUS,
            "max_num_batched_tokens": TOKEN_BUDGET,
            **flags,
        },
    )


def _step(what: str, longer: _Times, shorter: _Times, name: str) -> Check:
    found = getattr(longer, name) / getattr(shorter, name)
    return within(what, 1.0, float("inf"), found, unit="x", printed="longer", shape=True)


def _chart(workload: str, times: dict[str, _Times]) -> Chart:
    printed = TABLE_4[workload]
    labels = [f"{name}: {word}" for word in ("P50 TTFT", "P99 TBT") for name in VARIANTS]
    ours = [times[name].ttft_p50_s for name in VARIANTS]
    ours += [times[name].tbt_p99_s for name in VARIANTS]
    theirs = [printed[name][column] for column in (0, 1) for name in VARIANTS]
    return Chart(
        title=workload,
        y_title="seconds",
        labels=tuple(labels),
        series=(
            Series(name="ours", y=tuple(ours)),
            Series(name="paper", y=tuple(theirs), paper=True),
        ),
    )
