"""Engine versions whose memory accounting is known, each a frozen value.

    0.11  (stands for 0.7 to 0.16) sampler sorts; graphs are captured into memory nobody asked for
    0.19  (0.17 to 0.20) sampler filters in place; utilisation 0.90; graphs still not counted
    0.24  (0.21 to 0.28) utilisation 0.92, estimated CUDA graphs are taken from the pool
    0.29  (0.29 to 0.32) model runner V2: penalty counters for every seat, small profiled sampler
    0.33  (0.33) the profiled sampler is the full one; freed blocks no longer hold memory back

Read in the packages vllm 0.19.0 and 0.33.0 (``v1/worker/gpu_worker.py``, ``utils/mem_utils.py``,
``v1/sample``, ``v1/worker/gpu``, ``engine/arg_utils.py``); 0.11, 0.24 and 0.29 were not read, their
values are inferred from start-up logs. What a scheduler does (the order of the free queue, for one)
is simulated as 0.33 does it, whatever the version: how older ones differ was not checked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MIB = 1 << 20
LATEST = "vllm==0.33"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineVersion:
    """What one engine version counts when it sizes the KV pool, and its defaults."""

    name: str
    """As given to ``--engine``: ``vllm==0.33``."""
    gpu_memory_utilization: float
    counts_graphs: bool
    """Whether the estimated CUDA graphs are taken from the requested memory."""
    has_top_tier: bool
    """Whether cards of 160 GiB and more have batch limits of their own."""
    largest_graph_tokens: int
    """Largest batch captured on a data-centre Blackwell card (elsewhere 512)."""
    model_runner: int
    """1 or 2: who keeps state for the sampler, and how graphs are estimated."""
    sampler_bytes_per_logit: float
    """At the sampler's peak in the profiling run, the 16-bit logits included."""
    sampler_state_bytes_per_logit: float
    """Kept for every seat and word: counters of the output, two bit masks."""
    sampler_rows: int
    """Rows of the vocabulary in fp32 that the top-k kernel keeps, one per multiprocessor."""
    keeps_expert_workspace: bool
    """Whether the buffers of the expert layers stay allocated."""
    benchmarks_embedding: bool
    """Whether compiling allocates a second embedding table (a warm compile cache does not)."""
    may_hold_segment: bool
    """Whether memory as large as that table may stay reserved after it is freed."""
    kernel_bytes: int
    """CUDA modules and library workspaces on Ampere and Ada."""
    wide_kernel_bytes: int
    """The same on Hopper and newer: more kernels per layer."""
    fuses_all_reduce: bool
    """Whether Hopper and data-centre Blackwell get workspaces for all-reduce fused with a norm."""


_0_11 = EngineVersion(
    name="vllm==0.11",
    gpu_memory_utilization=0.90,
    counts_graphs=False,
    has_top_tier=False,
    largest_graph_tokens=512,
    model_runner=1,
    sampler_bytes_per_logit=38,
    sampler_state_bytes_per_logit=0,
    sampler_rows=0,
    keeps_expert_workspace=False,
    benchmarks_embedding=False,
    may_hold_segment=False,
    kernel_bytes=20 * MIB,
    wide_kernel_bytes=133 * MIB,
    fuses_all_reduce=False,
)
_0_19 = replace(
    _0_11,
    name="vllm==0.19",
    sampler_bytes_per_logit=14,
    sampler_rows=132,
    keeps_expert_workspace=True,
    benchmarks_embedding=True,
    kernel_bytes=112 * MIB,
    wide_kernel_bytes=256 * MIB,
    fuses_all_reduce=True,
)
_0_24 = replace(
    _0_19,
    name="vllm==0.24",
    gpu_memory_utilization=0.92,
    counts_graphs=True,
    sampler_rows=0,
    may_hold_segment=True,
)
_0_29 = replace(
    _0_24,
    name="vllm==0.29",
    model_runner=2,
    sampler_bytes_per_logit=2,
    sampler_state_bytes_per_logit=4.25,
    wide_kernel_bytes=307 * MIB,
)
_0_33 = replace(
    _0_29,
    name="vllm==0.33",
    has_top_tier=True,
    largest_graph_tokens=1024,
    sampler_bytes_per_logit=14,
    may_hold_segment=False,
)
ENGINES = {engine.name: engine for engine in (_0_11, _0_19, _0_24, _0_29, _0_33)}
FIRST_MINOR = ((33, "0.33"), (29, "0.29"), (21, "0.24"), (17, "0.19"), (0, "0.11"))
"""The first minor version that each value stands for."""


def load_engine(name: str) -> EngineVersion:
    """A known engine version: ``vllm==0.33``; a patch number behind it is forgiven.

    Raises:
        ValueError: unknown; the sentence lists the known ones.
    """
    parts = name.strip().lower().removeprefix("vllm==").removeprefix("v").split(".")
    found = ENGINES.get("vllm==" + ".".join(parts[:2]))
    if found is None or not all(part.isdigit() for part in parts):
        known = ", ".join(ENGINES)
        raise ValueError(f"engine(={name!r}) is unknown; known: {known}.")
    return found


def engine_of_release(version: str) -> EngineVersion:
    """The value that stands for a release as a log prints it, ``0.28.1rc1.dev50`` say.

    A build without a tag calls itself ``0.1.dev...``: it stands for the newest.

    Raises:
        ValueError: no version number.
    """
    parts = version.removeprefix("v").split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        raise ValueError(f"version(={version!r}) is no release number of vLLM.")
    untagged = parts[:2] == ["0", "1"] and parts[2:] and parts[2].startswith("dev")
    minor = 99 if int(parts[0]) or untagged else int(parts[1])
    stands = next(value for first, value in FIRST_MINOR if minor >= first)
    return ENGINES[f"vllm=={stands}"]
