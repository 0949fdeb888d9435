"""Level two: the run's arrivals into the simulator alone, with its flags, its pools and a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ...calibration.engine.log_reader import Log
from ...calibration.step_cost import StepCost
from ...traces import Trace
from ..deployment import Deployment
from ..moved import Moves
from ..result import Result
from ..simulation import simulate

_FIELDS = {field.name for field in fields(Deployment)}


def resimulate(
    log: Log, cost: StepCost, trace: Trace | None = None, moves: Moves | None = None
) -> Result:
    """What the simulator makes of a run's arrivals.

    Args:
        log: of the run.
        cost: step times.
        trace: that was served; needed where prompts begin alike, as a log holds lengths only.
        moves: what copies and swaps cost; None = no time.

    Raises:
        ValueError: another trace than the log's, or none where one is needed.
    """
    flags = log.header.flags
    num_host_blocks = int(flags.get("num_host_blocks", 0))
    return simulate(
        arrivals_of(log) if trace is None else _those_let_in(log, trace),
        deployment=deployment_of(flags),
        cost=cost,
        num_gpu_blocks=int(flags["num_gpu_blocks"]),
        num_host_blocks=num_host_blocks or None,
        moves=moves,
    )


def deployment_of(flags: Mapping[str, Any]) -> Deployment:
    """The server's flags, as a log's head has them.

    Raises:
        ValueError: a flag that this version does not know, with another value than none.
    """
    given = {name: value for name, value in flags.items() if name in _FIELDS}
    lists = {name: tuple(given[name]) for name in ("kv_groups", "tiers") if given.get(name)}
    return Deployment(**{**given, "kv_groups": (), "tiers": (), **lists})


def arrivals_of(log: Log) -> Trace:
    """The requests of a log as a trace: arrivals and lengths.

    Raises:
        ValueError: none, or some with a cached beginning, which lengths do not say.
    """
    if not log.requests:
        raise ValueError("log has no request.")
    if any(one.cached_tokens for one in log.requests):
        raise ValueError(
            "trace must be given: prompts of the log begin alike, and it holds lengths only."
        )
    rows = sorted(log.requests, key=lambda one: (one.arrival_s, one.request))
    return Trace(
        name=str(log.header.trace.get("name", "log")),
        arrival_s=np.round(np.array([one.arrival_s for one in rows]), 9),
        prompt_tokens=np.array([one.prompt_tokens for one in rows]),
        output_tokens=np.array([max(1, one.output_tokens) for one in rows]),
    )


def _those_let_in(log: Log, trace: Trace) -> Trace:
    """The requests of the trace that the run has taken in, at the times it saw them."""
    digest = log.header.trace.get("digest")
    if digest != trace.digest:
        raise ValueError(
            f"trace(={trace.name!r}) must be the one that the log served, "
            f"{log.header.trace.get('name')!r}."
        )
    arrived = {one.request: one.arrival_s for one in log.requests}
    rows = np.array(sorted(arrived), dtype=np.int64)
    part = trace.take(rows)
    if part.delay_s is not None or part.arrival_s is None:
        return part  # later turns come after the answers, here as there
    return replace(part, arrival_s=np.array([arrived[row] for row in rows.tolist()]))
