"""Level two: the run's arrivals into the simulator alone, with its flags, its pools and a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...calibration.engine.log_reader import Log
from ...calibration.step_cost import StepCost
from ...traces.embedded import trace_from_json
from ...traces.trace import Trace
from ..deployment import Deployment
from ..moved import Moves
from ..result import Result
from ..simulation import simulate

_FIELDS = {field.name for field in fields(Deployment)}


def resimulate(log: Log, cost: StepCost, moves: Moves | None = None) -> Result:
    """What the simulator makes of a run's arrivals; a row for each of :func:`let_in`.

    Args:
        log: of the run.
        cost: step times.
        moves: what copies and swaps cost; None = no time.

    Raises:
        ValueError: a log whose trace was changed, or that let nobody in.
    """
    trace = trace_from_json(log.header.trace)
    rows = let_in(log, trace)
    return simulate_like(log, trace if len(rows) == len(trace) else trace.take(rows), cost, moves)


def simulate_like(log: Log, trace: Trace, cost: StepCost, moves: Moves | None = None) -> Result:
    """A trace through the server of a log: its flags, its pools."""
    flags = log.header.flags
    return simulate(
        trace,
        deployment=deployment_of(flags),
        cost=cost,
        num_gpu_blocks=int(flags["num_gpu_blocks"]),
        num_host_blocks=int(flags.get("num_host_blocks", 0)) or None,
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


def let_in(log: Log, trace: Trace) -> NDArray[np.int64]:
    """The rows of its trace that a run has taken in.

    Of a log that was cut off these are all that had arrived by its last step; who was still there
    then is not in the log, but had a share in its steps.

    Raises:
        ValueError: there is none.
    """
    if log.is_whole or trace.arrival_s is None:
        rows = np.array(sorted(one.request for one in log.requests), dtype=np.int64)
    else:
        last_s = max((step.start_s for step in log.steps), default=-1.0)
        rows = np.flatnonzero(~(trace.arrival_s > last_s)).astype(np.int64)
    if not len(rows):
        raise ValueError("log must have at least one request.")
    return rows
