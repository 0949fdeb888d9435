"""What an engine is handed for a trace: scheduler with ledger, contents, arrivals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...calibration.affine import AffineCost
from ...calibration.engine.arrivals import Arrivals as Arriving
from ...calibration.step_cost import NS_PER_S
from ..batch import RunningBatch
from ..content import content_paths
from ..deployment import Deployment
from ..engine import hash_block_size, make_scheduler, make_swap
from ..recorder import Recorder
from ..request import Request
from ..sequences import check_widths, copies, make_requests, shares, sharing_of, widths
from ..servable import Arrivals
from .content import TraceContent
from .driven import DrivenReplica
from .recorded import Journal, RecordedSwap, recorded_allocator
from .stepper import Stepper

NO_COST = AffineCost(base_s=1.0)
"""Stands where a simulation has step times; nobody asks it: the engine's clock is real."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Ready to be driven."""

    stepper: Stepper
    content: TraceContent
    arrivals: Arriving
    rows: list[list[Request]]
    """The sequences of each row of the trace."""
    prompt_tokens: list[int]


def check_engine(trace: Arrivals, deployment: Deployment) -> None:
    """Refuse what the engine does not run.

    Raises:
        ValueError: as it says.
    """
    needs = {
        "allocator": ("paged", deployment.allocator),
        "prefix_cache": ("hash", deployment.prefix_cache),
        "async_scheduling": (False, deployment.async_scheduling),
        "pinned_prefix_tokens": (0, deployment.pinned_prefix_tokens),
        "tensor_parallel_size": (1, deployment.tensor_parallel_size),
        "pipeline_parallel_size": (1, deployment.pipeline_parallel_size),
        "swap_overlap": (False, deployment.swap_overlap),
    }
    if deployment.scheduler == "static":
        raise ValueError(
            "scheduler(=static) must be another one: the engine computes no rows of padding."
        )
    if deployment.preemption_mode == "auto":
        raise ValueError(
            "preemption_mode(=auto) must be recompute, swap or swap_groups: the engine knows no "
            "step times to weigh."
        )
    for name, (wanted, given) in needs.items():
        if given != wanted:
            raise ValueError(f"{name}(={given}) must be {wanted}: the engine runs nothing else.")
    if deployment.tiers:
        raise ValueError(
            f"kv_offloading_size(={deployment.offloaded_gib:g}) must be 0: the engine has no tiers."
        )
    if deployment.kv_groups:
        raise ValueError("kv_groups must be empty: every layer of the engine keeps every token.")
    if sharing_of(trace) == "beams":
        raise ValueError("beam_width must be 0 in every row: the engine does not search.")
    check_widths(trace, deployment)
    total = trace.prompt_tokens + trace.output_tokens
    longest = int(np.argmax(total))
    if total[longest] > deployment.max_model_len:
        raise ValueError(
            f"trace has {total[longest]} tokens in row {longest}, which must be <= "
            f"max_model_len(={deployment.max_model_len}) of the engine."
        )
    if trace.arrival_s is None:
        raise ValueError("trace has lengths only: the engine needs arrival times.")


def make_parts(
    trace: Arrivals,
    deployment: Deployment,
    *,
    num_gpu_blocks: int,
    num_host_blocks: int = 0,
    check: bool = False,
) -> Parts:
    """Scheduler, ledger, contents and arrivals of a run.

    Args:
        trace: what arrives.
        deployment: the server's flags.
        num_gpu_blocks: of the pool, the null block included.
        num_host_blocks: for swaps.
        check: verify the ledger after every step.

    Raises:
        ValueError: what the engine does not run.
    """
    check_engine(trace, deployment)
    requests = make_requests(trace, deployment)
    found = widths(trace)
    rows = [[request] for request in requests]
    if found is not None:
        rows = [
            copies(one, width) if one.group is None else list(one.group.members)
            for one, width in zip(requests, found[0], strict=True)
        ]
    caching = deployment.enable_prefix_caching
    content = TraceContent(trace, rows, shared=caching)
    if caching:
        fan_out = None if found is None else [len(row) for row in rows]
        paths = content_paths(trace, hash_block_size(deployment), fan_out)
        for sequence, path in zip((one for row in rows for one in row), paths, strict=True):
            sequence.path = path
    journal, batch = Journal(num_host_blocks), RunningBatch()
    allocator = recorded_allocator(
        deployment, num_gpu_blocks, journal, sharing=shares(trace, deployment)
    )
    plain = make_swap(
        deployment, cost=NO_COST, moves=None, batch=batch, num_host_blocks=num_host_blocks
    )
    groups_only = deployment.preemption_mode == "swap_groups"
    swap = plain and RecordedSwap(num_host_blocks, journal, allocator, groups_only=groups_only)
    stepper = Stepper(rows, content=content, deployment=deployment, journal=journal)
    stepper.drive(
        DrivenReplica(
            allocator=allocator,
            batch=batch,
            scheduler=make_scheduler(
                deployment, allocator, batch, exact_steps=True, keep_log=True, swap=swap
            ),
            cost=NO_COST,
            recorder=Recorder(),
            on_finish=stepper.left,
            check=check,
        )
    )
    return Parts(
        stepper=stepper,
        content=content,
        arrivals=_arrivals(trace),
        rows=rows,
        prompt_tokens=trace.prompt_tokens.tolist(),
    )


def _arrivals(trace: Arrivals) -> Arriving:
    assert trace.arrival_s is not None, "check_engine() has looked"
    times_ns = np.round(np.asarray(trace.arrival_s) * NS_PER_S)
    timed = np.flatnonzero(~np.isnan(times_ns)).tolist()
    turns: dict[int, list[tuple[int, float]]] = {}
    if trace.delay_s is not None and trace.parent is not None:
        for row in np.flatnonzero(~np.isnan(trace.delay_s)).tolist():
            delay_ns = float(round(trace.delay_s[row] * NS_PER_S))
            turns.setdefault(int(trace.parent[row]), []).append((row, delay_ns))
    patience: dict[int, float] = {}
    if trace.cancel_s is not None:
        for row in np.flatnonzero(~np.isnan(trace.cancel_s)).tolist():
            patience[row] = float(round(trace.cancel_s[row] * NS_PER_S))
    return Arriving({row: float(times_ns[row]) for row in timed}, patience_ns=patience, turns=turns)
