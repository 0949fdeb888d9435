"""Small random workloads for the laws, and a minimal trace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.costs import step_cost
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.kv_groups import KVGroup
from kvsim.calibration.models import load_model
from kvsim.calibration.profile.cost import measured_cost
from kvsim.calibration.step_cost import Batch, Line, StepCost
from kvsim.sim.deployment import Deployment
from kvsim.sim.result import Result
from kvsim.sim.schedulers import SCHEDULERS as EVERY_SCHEDULER
from kvsim.sim.schedulers import TRANSFORMERS
from kvsim.sim.schedulers.policies import POLICIES
from kvsim.sim.simulation import simulate
from support.profiles import split_profile


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a simulation reads of a trace."""

    arrival_s: NDArray[np.float64] | None
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    parent: NDArray[np.int64] | None = None
    delay_s: NDArray[np.float64] | None = None
    priority: NDArray[np.int64] | None = None
    tenant: NDArray[np.int64] | None = None
    cancel_s: NDArray[np.float64] | None = None
    hash_ids: NDArray[np.uint64] | None = None
    hash_offsets: NDArray[np.int64] | None = None
    hash_block_size: int | None = None
    prefix_row: NDArray[np.int64] | None = None
    prefix_tokens: NDArray[np.int64] | None = None
    num_samples: NDArray[np.int64] | None = None
    beam_width: NDArray[np.int64] | None = None


class BendingCost(StepCost):
    """A cost whose decode line bends with the context, as interpolated tables do."""

    def __init__(self, knee_tokens: int = 200) -> None:
        self.knee_tokens = knee_tokens

    def step_ns(self, batch: Batch) -> float:
        beyond = max(0, batch.decode_context_tokens - self.knee_tokens)
        attention = sum(new * (past + new) for new, past in batch.chunks)
        return (
            1.1e6
            + 1234.5 * batch.num_tokens
            + 7.7 * batch.decode_context_tokens
            + 13.3 * beyond
            + 0.01 * attention
        )

    def decode_line(self, batch: Batch) -> Line:
        context, growth = batch.decode_context_tokens, batch.num_decodes
        first = self.step_ns(batch)
        if context >= self.knee_tokens or growth == 0:
            return Line(first, (7.7 + 13.3) * growth, 1 << 62)
        return Line(first, 7.7 * growth, (self.knee_tokens - context) // growth + 1)

    def describe(self) -> dict[str, object]:
        return {"source": "test", "knee_tokens": self.knee_tokens}


COSTS: dict[str, StepCost] = {
    "affine": AffineCost(base_s=5e-3, per_scheduled_token_s=2e-5, per_context_token_s=1e-8),
    "bending": BendingCost(),
    "silicon": step_cost("silicon", model=load_model("llama-3.1-8b"), gpu=load_gpu("a100")),
    "derived": step_cost("derived", model=load_model("llama-3.1-8b"), gpu=load_gpu("l4")),
    "measured": measured_cost(
        split_profile(), model=load_model("llama-3.1-8b"), gpu=load_gpu("h200")
    ),
}

ALLOCATORS = [
    ("paged", "max", "buddy"),
    *[
        ("contiguous", reservation, placement)
        for reservation in ("max", "pow2", "oracle")
        for placement in ("buddy", "first_fit", "best_fit")
    ],
    ("virtual", "max", "buddy"),
]
PAGE_BYTES = 64 << 10
SCHEDULERS = ["vllm", "vllm_v0", "sarathi", "orca", "static", "transformers"]
"""To draw from; the last stands for both of its kind."""
FORKING = [name for name in EVERY_SCHEDULER if name not in TRANSFORMERS]
"""Schedulers under which a request may have several sequences, and a policy may order the queue."""
ORDERS = [("fcfs", name) for name in EVERY_SCHEDULER] + [
    (policy, name) for policy in POLICIES if policy != "fcfs" for name in FORKING
]
"""Every scheduler under every policy that it takes."""


@dataclass(frozen=True, kw_only=True)
class FakeMoves:
    """What moving KV costs, in round numbers: in takes longer than out, a call has a price."""

    block_bytes: int = 1000
    per_copied_block_ns: int = 3_000
    per_swapped_block_ns: int = 50_000

    def copy_ns(self, num_blocks: int) -> float:
        return 5_000 + self.per_copied_block_ns * num_blocks

    def copy_bytes_ns(self, num_bytes: int) -> float:
        return 5_000 + self.per_copied_block_ns * num_bytes // self.block_bytes

    def swap_ns(self, num_blocks: int, *, inward: bool = False) -> float:
        if not num_blocks:
            return 0.0
        return 20_000 + (2 if inward else 1) * self.per_swapped_block_ns * num_blocks


SHARING = ["alone", "n", "beams", "mix", "fan_out"]
"""What sequences requests have; ``mix``: some search, some sample, some have one."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A trace whose requests may have several sequences, and who serves it."""

    trace: Columns
    deployment: Deployment
    num_gpu_blocks: int
    num_host_blocks: int
    concurrency: int | None
    cost: StepCost
    moves: FakeMoves = FakeMoves()

    def run(self, *, exact_steps: bool, **more: Any) -> Result:
        """One simulation, its ledgers checked."""
        return simulate(
            self.trace,
            deployment=self.deployment,
            cost=self.cost,
            num_gpu_blocks=self.num_gpu_blocks,
            concurrency=self.concurrency,
            exact_steps=exact_steps,
            check=True,
            moves=self.moves,
            num_host_blocks=self.num_host_blocks,
            **more,
        )


@st.composite
def traces(draw: st.DrawFn, *, most: int = 25, longest: int = 120) -> Columns:
    """Requests in bursts and pauses, some of them later turns of a session."""
    n = draw(st.integers(1, most))
    lengths = st.lists(st.integers(1, longest), min_size=n, max_size=n)
    prompts, outputs = draw(lengths), draw(lengths)
    prefix_row, prefix_tokens = _prefixes(draw, prompts, outputs)
    gaps_ms = draw(st.lists(st.sampled_from([0, 0, 1, 7, 40, 900]), min_size=n, max_size=n))
    arrival_s = np.cumsum(gaps_ms) / 1e3
    parent = np.full(n, -1)
    delay_s = np.full(n, np.nan)
    for child in range(1, n):
        if draw(st.integers(0, 4)) == 0:
            parent[child] = draw(st.integers(0, child - 1))
            delay_s[child] = draw(st.sampled_from([0.0, 0.01, 1.0]))
    arrival_s = np.where(parent >= 0, np.nan, arrival_s)
    return Columns(
        arrival_s=arrival_s,
        prompt_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
        parent=parent,
        delay_s=delay_s,
        priority=np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))),
        tenant=np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))),
        cancel_s=_patience(draw, n),
        prefix_row=prefix_row,
        prefix_tokens=prefix_tokens,
    )


@st.composite
def workloads(
    draw: st.DrawFn, *, allocator: tuple[str, str, str], scheduler: str, most: int = 14
) -> Workload:
    """Samples, beams, a pinned prefix; victims are swapped or computed again; memory is short."""
    trace = draw(traces(most=most, longest=draw(st.sampled_from([6, 40]))))
    deployment, _ = draw(deployments(allocator=allocator, scheduler=scheduler))
    alone = scheduler in TRANSFORMERS
    sharing = draw(st.sampled_from(["alone", "fan_out"] if alone else SHARING))
    paged = allocator[0] == "paged"
    cached = sharing in ("alone", "fan_out") and deployment.enable_prefix_caching
    ahead = sharing in ("alone", "fan_out") and deployment.async_scheduling
    mode, pinned = "recompute", 0
    if paged and not ahead and (alone or not cached):
        mode = draw(st.sampled_from(["recompute", "swap", "auto", "swap_groups"]))
        pinned = 0 if alone else draw(st.sampled_from([0, 0, 3, 8, 20]))
    widest = draw(st.sampled_from([2, 4]))
    alike = mode == "recompute" and not pinned and sharing in ("alone", "fan_out")
    deployment = replace(
        deployment,
        max_num_seqs=draw(st.sampled_from([widest, 5, 64])),
        enable_prefix_caching=cached,
        async_scheduling=ahead,
        kv_groups=deployment.kv_groups if alike else (),
        parallel_sampling="fan_out" if sharing == "fan_out" else "fork",
        preemption_mode=mode,
        pinned_prefix_tokens=pinned,
        swap_overlap=draw(st.booleans()) and mode != "recompute",
        beam_seed=draw(st.integers(0, 3)),
    )
    trace = _with_sequences(draw, trace, sharing, widest)
    if trace.arrival_s is not None:
        trace = replace(trace, arrival_s=trace.arrival_s * draw(st.sampled_from([0.0, 0.1, 1.0])))
    return Workload(
        trace=trace,
        deployment=deployment,
        num_gpu_blocks=_short_pool(draw, trace, deployment),
        num_host_blocks=draw(st.sampled_from([1, 9, 40, 1000])),
        concurrency=draw(st.sampled_from([None, None, 1, 4])),
        cost=COSTS[draw(st.sampled_from(["affine", "bending", "silicon"]))],
        moves=FakeMoves(per_swapped_block_ns=draw(st.sampled_from([0, 20_000, 2_000_000]))),
    )


def _short_pool(draw: st.DrawFn, trace: Columns, deployment: Deployment) -> int:
    """Blocks for about one request, or for a few."""
    size, width = deployment.block_size, np.ones(len(trace.prompt_tokens), dtype=np.int64)
    for column in (trace.num_samples, trace.beam_width):
        width = width if column is None else np.maximum(width, column)
    if deployment.allocator == "contiguous":
        most = deployment.max_model_len * int(width.max()) // size + 1
    else:
        blocks = -(-(trace.prompt_tokens + trace.output_tokens) // size)
        most = int((width * blocks).max()) * max(1, len(deployment.kv_groups))
    share = draw(st.sampled_from([0.6, 1.0, 1.0, 1.3, 2.0, 5.0]))
    return int(share * most) - (-deployment.pinned_prefix_tokens // size) + 2


def _with_sequences(draw: st.DrawFn, trace: Columns, sharing: str, widest: int) -> Columns:
    n = len(trace.prompt_tokens)
    samples, beams = (
        np.array(draw(st.lists(st.integers(least, widest), min_size=n, max_size=n)))
        for least in (1, 0)
    )
    return replace(
        trace,
        num_samples=samples if sharing in ("n", "mix", "fan_out") else None,
        beam_width=beams if sharing in ("beams", "mix") else None,
    )


def _patience(draw: st.DrawFn, n: int) -> NDArray[np.float64] | None:
    """Some clients give up: at once, soon or late."""
    if draw(st.integers(0, 2)):
        return None
    seconds = st.sampled_from([np.nan, np.nan, np.nan, 1e-3, 0.02, 0.5, 3.0])
    return np.array(draw(st.lists(seconds, min_size=n, max_size=n)))


def _prefixes(
    draw: st.DrawFn, prompts: list[int], outputs: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Prompts that begin as an earlier request's prompt, or as its prompt and answer."""
    rows, tokens = np.full(len(prompts), -1), np.zeros(len(prompts), dtype=np.int64)
    for row in range(1, len(prompts)):
        other = draw(st.integers(-1, row - 1))
        if other >= 0:
            most = min(prompts[row], prompts[other] + outputs[other])
            rows[row], tokens[row] = other, draw(st.integers(0, most))
    return rows, tokens


@st.composite
def deployments(
    draw: st.DrawFn, *, allocator: tuple[str, str, str], scheduler: str
) -> tuple[Deployment, int]:
    """Flags in many combinations, with a pool from roomy to tight."""
    kind, reservation, placement = allocator
    block_size = draw(st.sampled_from([1, 3, 8, 16]))
    deployment = Deployment(
        allocator=kind,
        reservation=reservation,
        placement=placement,
        scheduler=scheduler,
        block_size=block_size,
        max_model_len=draw(st.sampled_from([64, 128, 256])),
        max_num_seqs=draw(st.sampled_from([1, 3, 64])),
        max_num_batched_tokens=draw(st.sampled_from([4, 17, 64, 2048])),
        enable_chunked_prefill=draw(st.booleans()) or scheduler not in ("vllm", "sarathi"),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 16])),
        prefill_schedule_interval=draw(st.sampled_from([1, 1, 3])),
        mixed_batches=scheduler != "sarathi" or draw(st.booleans()),
        scheduling_policy=draw(
            st.sampled_from(
                ["fcfs"]
                if scheduler in TRANSFORMERS
                else ["fcfs", "fcfs", "priority", "sjf", "fair", "fair"]
            )
        ),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.1])),
        scheduler_reserve_full_isl=draw(st.booleans()),
    )
    if kind == "virtual":  # pages of 1 to 16 tokens, some with a rest that holds none
        row = PAGE_BYTES // block_size - draw(st.sampled_from([0, 0, 300]))
        deployment = replace(deployment, page_bytes=PAGE_BYTES, kv_row_bytes=row)
    if scheduler == "vllm":
        deployment = replace(
            deployment,
            async_scheduling=draw(st.booleans()),
            enable_prefix_caching=kind == "paged" and draw(st.booleans()),
            kv_groups=draw(_groups(block_size)) if kind == "paged" else (),
        )
    if scheduler in TRANSFORMERS:
        caching = kind == "paged" and draw(st.booleans())
        either = draw(st.sampled_from(TRANSFORMERS))
        deployment = replace(deployment, enable_prefix_caching=caching, scheduler=either)
    slots = draw(st.sampled_from([260, 400, 1000, 4000])) * max(1, len(deployment.kv_groups))
    return deployment, slots // block_size + 2


@st.composite
def _groups(draw: st.DrawFn, block_size: int) -> tuple[KVGroup, ...]:
    """Mostly one group of full attention; else windows or chunks beside full groups."""
    if draw(st.integers(0, 2)):
        return ()
    full = KVGroup(kind="full", num_layers=1, block_size=block_size, page_bytes=1)
    kind = draw(st.sampled_from(["sliding_window", "chunked_local"]))
    span = block_size * draw(st.integers(1, 3)) + (block_size == 1)
    other = replace(full, kind=kind, window_tokens=span)
    return (full,) * draw(st.integers(0, 2)) + (other,) * draw(st.integers(1, 3))
