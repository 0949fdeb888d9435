"""Replay a recorded run of the real scheduler and compare it step by step.

A case is a step log (JSON lines: a header with the engine's configuration, a line per step, a
summary) and the trace that its header names; ``tests/golden/README.md`` has the format. Compared
are, for every step: time and duration in nanoseconds, tokens per request in scheduling order with
what was computed before, blocks taken (with their ids) and refused, free blocks, queue lengths,
preempted and finished requests.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration.affine import AffineCost
from ..calibration.step_cost import NS_PER_S
from .allocators import Usage
from .deployment import Deployment
from .replica import StepRecord
from .request import Request
from .result import Result
from .simulation import simulate

Line = dict[str, Any]

_COMPARED = (
    *("t", "dt", "run", "wait", "ntok", "ctx", "free"),
    *("sched", "ev", "pre", "fin", "free_end"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTrace:
    """The trace of a case; the simulator reads lengths and times only."""

    ids: tuple[str, ...]
    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    parent: None = None
    delay_s: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A recorded run."""

    name: str
    header: Mapping[str, Any]
    steps: Sequence[Line]
    summary: Mapping[str, Any]
    trace: CaseTrace

    @property
    def supported(self) -> bool:
        """Whether kvsim simulates all that the header switches on."""
        header = self.header
        return (
            not header["prefix_caching"]
            and not header["async_scheduling"]
            and header["policy"] == "fcfs"
            and header["kv_spec"] == "full"
        )

    @property
    def deployment(self) -> Deployment:
        """The recorded engine's flags."""
        header = self.header
        return Deployment(
            max_model_len=header["max_model_len"],
            max_num_seqs=header["max_num_seqs"],
            max_num_active_seqs=header["max_num_active_seqs"],
            max_num_batched_tokens=header["max_num_batched_tokens"],
            block_size=header["block_size"],
            enable_chunked_prefill=header["chunked_prefill"],
            long_prefill_token_threshold=header["long_prefill_token_threshold"],
            prefill_schedule_interval=header["prefill_schedule_interval"],
            watermark=header["watermark"],
            scheduler_reserve_full_isl=header["reserve_full_isl"],
            on_impossible="stall",
        )

    @property
    def cost(self) -> AffineCost:
        """The recorded engine's virtual clock."""
        base, per_token, per_context = (ns / NS_PER_S for ns in self.header["step_time_ns"])
        return AffineCost(
            base_s=base, per_scheduled_token_s=per_token, per_context_token_s=per_context
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first step in which two runs differ."""

    step: int
    key: str
    recorded: object
    simulated: object

    def __str__(self) -> str:
        return (
            f"step {self.step} differs in {self.key}:\n"
            f"  recorded  {self.recorded}\n  simulated {self.simulated}"
        )


def load_case(path: Path, trace_directory: Path) -> Case:
    """Read a step log and its trace.

    Raises:
        ValueError: the trace is missing or is not the one that was recorded.
    """
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    header = lines[0]["header"]
    trace_path = trace_directory / f"{header['trace']}.gz"
    if not trace_path.exists():
        raise ValueError(f"trace(={header['trace']!r}) of {path.name} is not in its traces folder.")
    data = gzip.decompress(trace_path.read_bytes())
    if hashlib.sha256(data).hexdigest() != header["trace_sha256"]:
        raise ValueError(f"trace(={header['trace']!r}) is not the one that {path.name} recorded.")
    return Case(
        name=path.name.removesuffix(".jsonl.gz"),
        header=header,
        steps=lines[1:-1],
        summary=lines[-1]["summary"],
        trace=_read_trace([json.loads(line) for line in data.decode().splitlines()]),
    )


def replay(case: Case, *, exact_steps: bool = False) -> Result:
    """Simulate a case without a log, in macro-steps unless told otherwise."""
    return simulate(
        case.trace,
        deployment=case.deployment,
        cost=case.cost,
        num_gpu_blocks=case.header["num_blocks"],
        exact_steps=exact_steps,
    )


def first_difference(case: Case) -> Difference | None:
    """Replay a case step by step; the first difference, or None where every line matches."""
    simulated = _Log(case).lines
    for number, (theirs, ours) in enumerate(zip(case.steps, simulated, strict=False)):
        for key in _COMPARED:
            if _differ(theirs, ours, key):
                return Difference(
                    step=number, key=key, recorded=theirs.get(key), simulated=ours[key]
                )
    if len(case.steps) != len(simulated):
        return Difference(
            step=min(len(case.steps), len(simulated)),
            key="number of steps",
            recorded=len(case.steps),
            simulated=len(simulated),
        )
    return None


def per_request_differences(case: Case, result: Result) -> list[str]:
    """Requests whose first schedule, TTFT, E2E (ns) or preemptions differ from the summary's."""
    names = case.summary["per_request_columns"]
    row_of = {identifier: row for row, identifier in enumerate(case.trace.ids)}
    columns = {name: _nanoseconds(result, name) for name in ("scheduled", "first_token", "finish")}
    arrival = _nanoseconds(result, "arrival")
    differences = []
    for values in case.summary["per_request"]:
        recorded = dict(zip(names, values, strict=True))
        row = row_of[recorded["id"]]
        simulated = {
            "first_scheduled_ns": columns["scheduled"][row],
            "ttft_ns": columns["first_token"][row] - arrival[row],
            "e2e_ns": columns["finish"][row] - arrival[row],
            "preemptions": int(result.requests["num_preemptions"][row]),
        }
        for name, value in simulated.items():
            if recorded[name] is not None and recorded[name] != value:
                differences.append(f"{recorded['id']} {name}: {recorded[name]} != {value}")
    return differences


class _Log:
    """Replays a case and writes the lines that the recorder of the real engine wrote."""

    def __init__(self, case: Case) -> None:
        self.lines: list[Line] = []
        self._ids = case.trace.ids
        self._block_size = int(case.header["block_size"])
        self._usable = int(case.header["num_blocks"]) - 1
        simulate(
            case.trace,
            deployment=case.deployment,
            cost=case.cost,
            num_gpu_blocks=case.header["num_blocks"],
            log_step=self._log,
        )

    def _log(self, record: StepRecord) -> None:
        step = record.step
        assert step.order is not None, "a log was asked for"
        assert step.events is not None, "a log was asked for"
        self.lines.append(
            {
                "t": record.start_ns,
                "dt": record.duration_ns,
                "run": record.num_running,
                "wait": record.num_waiting,
                "ntok": record.shape.num_tokens,
                "ctx": record.shape.decode_context_tokens,
                "free": self._free_blocks(record.usage),
                "sched": [[self._ids[r.index], n, before] for r, n, before in step.order],
                "ev": [self._event(*event) for event in step.events],
                "pre": [self._ids[request.index] for request in step.preempted],
                "fin": [self._ids[request.index] for request in record.left],
                "free_end": self._free_blocks(record.usage_after),
            }
        )

    def _free_blocks(self, usage: Usage) -> int:
        return self._usable - usage.held // self._block_size

    def _event(self, kind: str, request: Request, tokens: int, blocks: list[int]) -> list[object]:
        identifier = self._ids[request.index]
        if kind == "a":
            return ["a", identifier, tokens, 0, len(blocks), blocks]
        return ["f", identifier, tokens] if kind == "f" else ["p", identifier]


def _differ(recorded: Line, simulated: Line, key: str) -> bool:
    ours = simulated[key]
    theirs: Any = recorded.get(key, [] if isinstance(ours, list) else None)
    if key == "ev":  # large cases record how many blocks were taken, not which
        short = any(event[0] == "a" and len(event) == 5 for event in theirs)
        ours = [event[:5] for event in ours] if short else ours
    return bool(theirs != ours)


def _nanoseconds(result: Result, name: str) -> list[int]:
    column = np.asarray(result.requests[f"{name}_s"], dtype=np.float64) * NS_PER_S
    return [int(value) for value in np.round(np.nan_to_num(column, nan=-1.0))]


def _read_trace(rows: Sequence[Line]) -> CaseTrace:
    return CaseTrace(
        ids=tuple(row["id"] for row in rows),
        arrival_s=np.array([row["arrival_s"] for row in rows], dtype=np.float64),
        prompt_tokens=np.array([_prompt_tokens(row) for row in rows], dtype=np.int64),
        output_tokens=np.array([row["output_tokens"] for row in rows], dtype=np.int64),
    )


def _prompt_tokens(row: Line) -> int:
    if "prompt_tokens" in row:
        return int(row["prompt_tokens"])
    if "prompt_token_ids" in row:
        return len(row["prompt_token_ids"])
    if "prompt_ranges" in row:
        return sum(int(count) for _, count in row["prompt_ranges"])
    num_blocks = len(row["hash_ids"])
    return num_blocks * int(row.get("block_size", 512))
