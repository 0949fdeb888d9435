"""Traces for the engine: a few short requests in a pool that is too small for all of them.

Blocks of four tokens, eight tokens a step, so that longer prompts come in chunks.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvsim.traces import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A trace and the flags of the engine that serves it."""

    trace: Trace
    flags: dict[str, Any] = field(default_factory=dict)


def _case(
    name: str, prompts: list[int], outputs: list[int], times_s: list[float], **more: Any
) -> Case:
    names = ("num_samples", "prefix_row", "prefix_tokens", "cancel_s", "priority")
    columns = {key: np.array(more.pop(key)) for key in names if key in more}
    trace = Trace(
        name=name,
        prompt_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
        arrival_s=np.array(times_s),
        **columns,
    )
    limits = {"block_size": 4, "max_num_seqs": 4, "max_num_batched_tokens": 8}
    return Case(trace=trace, flags=limits | more)


SHARED = _case(
    "shared",
    [11, 11, 14, 4],
    [3, 5, 3, 4],
    [0.0, 0.008, 0.026, 0.049],
    prefix_row=[-1, 0, 0, 2],
    prefix_tokens=[0, 11, 11, 4],
    num_gpu_blocks=6,
    enable_prefix_caching=True,
)
"""Five blocks; all prompts begin alike; preempted requests are computed again."""

SWAPPED = _case(
    "swapped",
    [11, 8, 9],
    [3, 6, 4],
    [0.006, 0.014, 0.023],
    num_samples=[3, 1, 3],
    num_gpu_blocks=9,
    num_host_blocks=8,
    preemption_mode="swap",
)
"""Eight blocks; three samples of the first and the last; preempted requests are swapped out."""

FORKED = _case(
    "forked",
    [3, 14, 11, 10],
    [4, 5, 2, 3],
    [0.001, 0.002, 0.019, 0.032],
    num_samples=[2, 1, 2, 2],
    num_gpu_blocks=7,
)
"""Six blocks; two samples of three of them, whose KV is computed again."""

TWICE = _case(
    "twice",
    [8, 4, 4, 23, 4, 14, 9],
    [4, 6, 3, 11, 12, 7, 1],
    [0.002, 0.049, 0.053, 0.072, 0.075, 0.191, 0.275],
    num_samples=[2, 1, 4, 1, 2, 3, 3],
    priority=[2, 0, 0, 2, 2, 0, 2],
    block_size=3,
    max_num_seqs=8,
    num_gpu_blocks=14,
    scheduling_policy="priority",
)
"""Two samples are preempted again while their KV is computed again, the first one's done."""

SCHEDULERS = ("vllm_v0", "sarathi", "orca")
KINDS = ("shared", "fan_out", "plain", "swap", "fork", "fork_swap", "gone", *SCHEDULERS)


def drawn(kind: str, seed: int) -> Case:
    """A random case of a kind."""
    draw = random.Random(f"{kind} {seed}")
    count = draw.randint(3, 10)
    prompts = [draw.randint(1, 30) for _ in range(count)]
    outputs = [draw.randint(1, 14) for _ in range(count)]
    size = draw.choice([1, 2, 3, 4, 8])
    more: dict[str, Any] = {
        "block_size": size,
        "max_num_seqs": draw.choice([4, 6, 8]),
        "max_num_batched_tokens": draw.choice([8, 12, 20, 64]),
    }
    if kind in ("shared", "fan_out"):
        more["enable_prefix_caching"] = True
        more |= _beginnings(draw, prompts, outputs)
    if kind in ("fork", "fork_swap", "fan_out"):
        more["num_samples"] = [draw.randint(1, 4) for _ in range(count)]
    if kind == "fan_out":
        more["parallel_sampling"] = "fan_out"
    if kind in ("swap", "fork_swap", "gone"):
        more |= {"preemption_mode": "swap", "num_host_blocks": draw.choice([2, 5, 30])}
    if kind == "gone":
        patience_s = [draw.choice([np.nan, 0.001 * draw.randint(1, 400)]) for _ in prompts]
        more |= {"cancel_s": patience_s, "num_samples": [draw.choice([1, 1, 3]) for _ in prompts]}
    if kind in SCHEDULERS:
        more |= {"scheduler": kind, "max_num_batched_tokens": 64}
    longest = max(-(-(a + b) // size) for a, b in zip(prompts, outputs, strict=True))
    more["num_gpu_blocks"] = longest + 1 + draw.randint(1, 24 // size + 3)
    times_s = sorted(round(draw.random() * 0.3, 3) for _ in range(count))
    return _case(f"{kind} {seed}", prompts, outputs, times_s, **more)


def _beginnings(draw: random.Random, prompts: list[int], outputs: list[int]) -> dict[str, Any]:
    """Prompts that begin as earlier ones do, some with part of the answer."""
    rows, tokens = [-1], [0]
    for row in range(1, len(prompts)):
        host = draw.randrange(row)
        whole = prompts[host] + draw.choice([0, 0, outputs[host]])
        shared = draw.randint(0, min(prompts[row], whole))
        rows.append(host if shared else -1)
        tokens.append(shared)
    return {"prefix_row": rows, "prefix_tokens": tokens}
