"""The one set of constants that every row of ``kvsim reproduce`` runs with; nothing is per row.

The PagedAttention paper's evaluation (Kwon et al., SOSP 2023, section 6.1): models and GPUs of its
Table 1, requests of at most 2,048 tokens, Poisson arrivals, an hour of them (15 minutes for
OPT-175B). Pools hold the slots that the table prints. All systems batch by iteration, whole prompts
and decodes in one (section 4.3; prompts in steps of their own, scheduler ``vllm_v0``, came to vLLM
later), first come first served, as many requests at once as memory holds. They differ in memory:
vLLM's is paged, blocks of 16, a watermark of 1 %, preemption by recompute; Orca's a buddy allocator
that reserves the maximum, a power of two, or what is needed.

Times come from ``--step-cost auto`` without CUDA graphs and without scheduling ahead, which vLLM
did not have then. Operators are those of a later software stack (the source line says which).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np

from ...traces import Trace, synthesize, workload_preset
from ...traces.arrivals import arrival_times
from ...traces.workload import Workload
from ..load import load_server
from ..server import Server

SEED = 1
MAX_MODEL_LEN = 2048
"""OPT's context."""
BLOCK_SIZE = 16
WATERMARK = 0.01
NO_LIMIT = 1_000_000
"""Of requests at once: the paper names no limit but memory."""
MAX_NUM_BATCHED_TOKENS = 2560
"""Of prompt tokens in an iteration: vLLM's default at the time."""
LATENCY_LEVEL_S = 0.5
"""Normalised latency, seconds per output token, up to which a rate counts as sustained: the middle
of the axes of Fig. 12, which end at 1."""
RATE_STEP = 1.02
"""A search for a rate ends when its bounds are this close."""
TRACE_S, SHORT_TRACE_S = 3600.0, 900.0
"""Length of a trace, full and quick."""
MOST_REQUESTS, MOST_QUICK_REQUESTS = 60_000, 10_000
"""Of a trace, full and quick: at Alpaca's rates an hour has 200,000."""
ORCA = {
    reservation: {
        "allocator": "contiguous",
        "reservation": reservation,
        "placement": "buddy",
        "scheduler": "orca",
    }
    for reservation in ("max", "pow2", "oracle")
}
VLLM: Mapping[str, object] = {
    "allocator": "paged",
    "scheduler": "orca",
    "watermark": WATERMARK,
}
SYSTEMS: Mapping[str, Mapping[str, object]] = {
    "vLLM": VLLM,
    "Orca (Oracle)": ORCA["oracle"],
    "Orca (Pow2)": ORCA["pow2"],
    "Orca (Max)": ORCA["max"],
}
_COMMON: Mapping[str, object] = {
    "enforce_eager": True,
    "async_scheduling": False,
    "enable_prefix_caching": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A column of Table 1."""

    model: str
    gpu: str
    num_gpus: int
    total_gb: int
    parameters_gb: int
    kv_gib: float
    """The paper's GB of KV are GiB: only so do they give its slots."""
    pool_slots: int
    """As printed, but for 13B, where Fig. 2 and 13 need the exact 12 GiB / 800 KiB."""
    slots_printed: str
    trace_s: float = TRACE_S

    @property
    def title(self) -> str:
        """The model as the paper writes it."""
        return self.model.upper()


MACHINES = {
    machine.model: machine
    for machine in (
        Machine(
            model="opt-13b",
            gpu="a100-40gb",
            num_gpus=1,
            total_gb=40,
            parameters_gb=26,
            kv_gib=12,
            pool_slots=15_728,
            slots_printed="15.7K",
        ),
        Machine(
            model="opt-66b",
            gpu="a100-40gb",
            num_gpus=4,
            total_gb=160,
            parameters_gb=132,
            kv_gib=21,
            pool_slots=9_700,
            slots_printed="9.7K",
        ),
        Machine(
            model="opt-175b",
            gpu="a100",
            num_gpus=8,
            total_gb=640,
            parameters_gb=346,
            kv_gib=264,
            pool_slots=60_074,
            slots_printed="60.1K",
            trace_s=SHORT_TRACE_S,
        ),
    )
}
OPT_13B = MACHINES["opt-13b"]
LLAMA_13B = replace(OPT_13B, model="llama-13b")
"""Fig. 16; its token takes as many bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How thorough a run is, and where public traces lie."""

    full: bool = False
    traces: Path | None = None
    """Folder with files as ``kvsim trace fetch`` names them, or with folders of them."""

    def trace_s(self, machine: Machine) -> float:
        """Seconds of arrivals."""
        return machine.trace_s if self.full else SHORT_TRACE_S

    @property
    def most_requests(self) -> int:
        """At which a trace ends before its time."""
        return MOST_REQUESTS if self.full else MOST_QUICK_REQUESTS

    def trace_file(self, *names: str) -> Path | None:
        """The first of these files that is there, gzipped or not."""
        if self.traces is None:
            return None
        for name in names:
            for path in (name, f"{name}.gz"):
                found = sorted(self.traces.glob(path)) + sorted(self.traces.glob(f"*/{path}"))
                if found:
                    return found[0]
        return None


def lengths(workload: str | Workload, num_requests: int) -> Trace:
    """Requests of a preset, without arrivals."""
    drawn = workload_preset(workload) if isinstance(workload, str) else workload
    return synthesize(workload=drawn, num_requests=num_requests, seed=SEED)


def arriving(trace: Trace, rate_per_s: float) -> Trace:
    """The same requests, Poisson arrivals: always the same draws, nearer or farther apart."""
    rng = np.random.default_rng(np.random.SeedSequence([SEED, 0xA221]))
    times = arrival_times(len(trace), process="poisson", rate_per_s=rate_per_s, rng=rng)
    return trace.with_arrivals(times)


def poisson_trace(
    workload: str | Workload, rate_per_s: float, machine: Machine, setting: Setting
) -> Trace:
    """Poisson arrivals for as long as the setting says."""
    wanted = max(2, ceil(rate_per_s * setting.trace_s(machine)))
    return arriving(lengths(workload, min(wanted, setting.most_requests)), rate_per_s)


@cache
def _server(machine: Machine, system: str, block_size: int) -> Server:
    return load_server(
        lengths("sharegpt", 2),
        hardware={"gpu": machine.gpu, "model": machine.model},
        flags={
            **_COMMON,
            **SYSTEMS[system],
            "block_size": block_size,
            "max_model_len": MAX_MODEL_LEN,
            "tensor_parallel_size": machine.num_gpus,
            "num_gpu_blocks_override": machine.pool_slots // block_size,
        },
    ).with_flags(max_num_seqs=NO_LIMIT, max_num_batched_tokens=MAX_NUM_BATCHED_TOKENS)


def server_of(
    machine: Machine, system: str, *, block_size: int = BLOCK_SIZE, **flags: object
) -> Server:
    """A system of the paper on one of its machines, with other flags where they are given."""
    server = _server(machine, system, block_size)
    return server.with_flags(**flags) if flags else server


def constants() -> dict[str, str]:
    """What holds for every row, in words."""
    server = server_of(OPT_13B, "vLLM")
    vllm = server.deployment
    return {
        "models and GPUs": "; ".join(
            f"{one.title} on {one.num_gpus} x {one.gpu}, {one.pool_slots:,} slots"
            for one in MACHINES.values()
        ),
        "step times": f"auto, without CUDA graphs: {server.cost.origin}",
        "vLLM": f"paged, blocks of {vllm.block_size}, watermark {vllm.watermark:g}, preemption by "
        f"{vllm.preemption_mode}",
        "Orca": "contiguous, buddy; reserves max_model_len (Max), the output rounded up to a power "
        "of two (Pow2), or what is needed (Oracle)",
        "scheduler": f"{vllm.scheduler} for all: iterations of whole prompts and decodes, first "
        f"come first served; max_model_len {MAX_MODEL_LEN}, max_num_batched_tokens "
        f"{MAX_NUM_BATCHED_TOKENS}, as many requests at once as memory holds",
        "lengths": "presets sharegpt and alpaca, fitted to the means of Fig. 11 and one figure of "
        "Fig. 2 of the paper",
        "sustained rate": f"the rate up to which mean(E2E / output tokens) stays below "
        f"{LATENCY_LEVEL_S:g} s, to {100 * (RATE_STEP - 1):.0f} %",
        "traces": f"Poisson, seed {SEED}; {TRACE_S / 60:.0f} min ({SHORT_TRACE_S / 60:.0f} for "
        f"OPT-175B), {MOST_REQUESTS:,} requests at most; in the quick set "
        f"{SHORT_TRACE_S / 60:.0f} min, {MOST_QUICK_REQUESTS:,} requests at most",
    }
