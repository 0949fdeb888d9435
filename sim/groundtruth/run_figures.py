"""A run in figures: of an engine's log, or of a simulation, under the same names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...calibration.engine.log_reader import Log
from ...calibration.engine.periods import periods_s
from ..result import FINISHED, Result
from ..slo import latencies_of

Floats = NDArray[np.float64]
PERCENTILES = (50, 95, 99)
LATENCIES = ("ttft_s", "tpot_s", "e2e_s")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunFigures:
    """Scalars by name, and the columns that they and the figures come from."""

    scalars: Mapping[str, float]
    """``requests_per_s``, ``output_tokens_per_s``, ``ttft_p50_s`` ... ``e2e_p99_s``,
    ``mean_running``, ``kv_use`` (mean share of the pool that requests hold while steps run),
    ``num_preemptions``."""
    latencies_s: Mapping[str, Floats]
    """Of the finished requests, NaN where there is none."""
    times_s: Floats
    """Step by step, or run by run: when it began, after the first arrival."""
    durations_s: Floats
    running: Floats
    used_share: Floats
    """Of the pool."""


def of_log(log: Log) -> RunFigures:
    """Of a measured run.

    Raises:
        ValueError: no request finished.
    """
    done = [one for one in log.requests if one.status == FINISHED]
    if not done:
        raise ValueError("log has no request that finished.")
    stamps = np.array([[one.arrival_s, one.first_token_s, one.last_token_s] for one in done])
    arrival, first, last = stamps.T
    outputs = np.array([one.output_tokens for one in done])
    steps = log.steps
    pool = int(log.header.flags["num_gpu_blocks"]) - 1  # the null block
    return _figures(
        latencies=_latencies(arrival, first, last, outputs),
        outputs=outputs,
        begin_s=float(min(one.arrival_s for one in log.requests)),
        end_s=float(last.max()),
        times=np.array([step.start_s for step in steps]),
        durations=periods_s(steps),
        running=np.array([float(step.running) for step in steps]),
        used=np.array([step.used_blocks / pool for step in steps]),
        num_preemptions=sum(one.preemptions for one in done),
    )


def of_result(
    result: Result, *, shown: NDArray[np.bool_] | None = None, until_s: float = math.inf
) -> RunFigures:
    """Of a simulated run.

    Args:
        result: of the simulation.
        shown: rows to look at, where a log was cut off and lacks the others; None = all.
        until_s: when it was.

    Raises:
        ValueError: no request finished.
    """
    done = result.status == FINISHED
    if shown is not None:
        done = done & shown
    if not done.any():
        raise ValueError("the simulation finished no request.")
    requests, segments = result.requests, result.segments
    busy = (segments["num_steps"] > 0) & (segments["start_s"] < until_s)
    left_s = until_s - segments["start_s"][busy]
    held = sum(segments[name] for name in ("token_states", "reserved", "internal"))
    return _figures(
        latencies={name: values[done] for name, values in latencies_of(result).items()},
        outputs=requests["output_tokens"][done],
        begin_s=float(np.nanmin(requests["arrival_s"])),
        end_s=float(requests["finish_s"][done].max()),
        times=segments["start_s"][busy],
        durations=np.minimum(segments["duration_s"][busy], left_s),
        running=segments["num_running"][busy].astype(np.float64),
        used=np.asarray(held, dtype=np.float64)[busy] / result.pool_slots,
        num_preemptions=int(requests["num_preemptions"][done].sum()),
    )


def _latencies(
    arrival: Floats, first: Floats, last: Floats, outputs: NDArray[np.int64]
) -> dict[str, Floats]:
    tpot = np.full(len(outputs), np.nan)
    np.divide(last - first, outputs - 1, out=tpot, where=outputs > 1)
    return {"ttft_s": first - arrival, "tpot_s": tpot, "e2e_s": last - arrival}


def _figures(
    *,
    latencies: Mapping[str, Floats],
    outputs: NDArray[np.int64],
    begin_s: float,
    end_s: float,
    times: Floats,
    durations: Floats,
    running: Floats,
    used: Floats,
    num_preemptions: int,
) -> RunFigures:
    span_s, busy_s = end_s - begin_s, float(durations.sum())
    scalars = {
        "requests_per_s": len(outputs) / span_s,
        "output_tokens_per_s": int(outputs.sum()) / span_s,
    }
    for name, values in latencies.items():
        there = values[~np.isnan(values)]
        for percent in PERCENTILES:
            tail = float(np.percentile(there, percent)) if there.size else float("nan")
            scalars[f"{name[:-2]}_p{percent}_s"] = tail
    scalars |= {
        "mean_running": float(running @ durations) / span_s,
        "kv_use": float(used @ durations) / busy_s,
        "num_preemptions": float(num_preemptions),
    }
    return RunFigures(
        scalars=scalars,
        latencies_s=latencies,
        times_s=times - begin_s,
        durations_s=durations,
        running=running,
        used_share=used,
    )
