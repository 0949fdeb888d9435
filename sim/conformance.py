"""Replay a recorded run of the real scheduler and compare it step by step.

A case is a step log (JSON lines: a header with the engine's configuration, a line per step, a
summary) and the trace that its header names; ``tests/golden/README.md`` has the format. Compared
are, for every step: time and duration in nanoseconds, tokens per request in scheduling order with
what was computed before, blocks taken (with their ids) and refused, free blocks, queue lengths,
preempted and finished requests. A run whose summary has the status ``cut`` was recorded up to its
last line: it is compared so far, and requests unfinished by then have the output they may reach.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration.affine import AffineCost
from ..calibration.step_cost import NS_PER_S
from .allocators import Usage
from .deployment import Deployment
from .recorded_groups import is_known, kv_groups, kv_spec
from .recorded_tokens import FIRST_OUTPUT_ID, OUTPUT_IDS_APART, longest_common, recorded_prompts
from .replica import StepRecord
from .result import Result
from .schedulers.step import Event
from .simulation import simulate

Line = dict[str, Any]

_COMPARED = (
    *("t", "start", "dt", "run", "wait", "ntok", "ctx", "free"),
    *("sched", "ev", "pre", "hit", "evict", "fin", "free_end"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTrace:
    """The trace of a case; the simulator reads lengths and times only."""

    ids: tuple[str, ...]
    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    priority: NDArray[np.int64]
    prefix_row: NDArray[np.int64]
    prefix_tokens: NDArray[np.int64]
    parent: None = None
    delay_s: None = None
    cancel_s: NDArray[np.float64] | None = None
    tenant: NDArray[np.int64] | None = None
    hash_ids: None = None
    hash_offsets: None = None
    hash_block_size: None = None

    @property
    def tie_rank(self) -> list[int]:
        """Order of the ids as strings, which decides full ties."""
        order = {identifier: rank for rank, identifier in enumerate(sorted(self.ids))}
        return [order[identifier] for identifier in self.ids]


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
        return is_known(self.header["kv_spec"])

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
            scheduling_policy=header["policy"],
            watermark=header["watermark"],
            scheduler_reserve_full_isl=header["reserve_full_isl"],
            enable_prefix_caching=header["prefix_caching"],
            async_scheduling=header["async_scheduling"],
            kv_groups=kv_groups(header["kv_spec"], header["block_size"]),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of comparing one step log."""

    name: str
    num_steps: int
    supported: bool
    difference: Difference | None

    @property
    def differs(self) -> bool:
        """Whether a step differs, or nothing could be compared."""
        return not self.supported or self.difference is not None

    def __str__(self) -> str:
        if not self.supported:
            return f"{self.name}: not compared, its header switches on what kvsim has not"
        if self.difference is not None:
            return f"{self.name}: {self.difference}"
        return f"{self.name}: all {self.num_steps} steps match"

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "name": self.name,
            "num_steps": self.num_steps,
            "supported": self.supported,
            "difference": None if self.difference is None else str(self.difference),
        }


def compare_files(paths: Sequence[Path], trace_directory: str | None = None) -> list[Outcome]:
    """Replay step logs.

    Raises:
        ValueError: a file that is no step log, or a trace that is missing or another one.
    """
    outcomes = []
    for path in paths:
        case = load_case(path, None if trace_directory is None else Path(trace_directory))
        outcomes.append(
            Outcome(
                name=case.name,
                num_steps=len(case.steps),
                supported=case.supported,
                difference=first_difference(case) if case.supported else None,
            )
        )
    return outcomes


def load_case(path: Path, trace_directory: Path | None = None) -> Case:
    """Read a step log and its trace.

    The trace that the header names is looked for in ``trace_directory``, or else beside the log, in
    ``traces/`` and in ``../traces/``, plain or gzipped.

    Raises:
        ValueError: the file is no step log; the trace is missing or not the one recorded.
    """
    lines = _read_log(path)
    header = lines[0]["header"]
    if "kv_groups" in header:
        header["kv_spec"] = kv_spec(header["kv_groups"])
    data = _unpacked(_find_trace(path, header["trace"], trace_directory))
    if hashlib.sha256(data).hexdigest() != header["trace_sha256"]:
        raise ValueError(f"trace(={header['trace']!r}) is not the one that {path.name} recorded.")
    return Case(
        name=path.name.removesuffix(".jsonl.gz"),
        header=header,
        steps=lines[1:-1],
        summary=lines[-1]["summary"],
        trace=read_case_trace([json.loads(line) for line in data.decode().splitlines()]),
    )


def replay(case: Case, *, exact_steps: bool = False, check: bool = False) -> Result:
    """Simulate a case without a log, in macro-steps unless told otherwise."""
    return simulate(
        case.trace,
        deployment=case.deployment,
        cost=case.cost,
        num_gpu_blocks=case.header["num_blocks"],
        tie_rank=case.trace.tie_rank,
        exact_steps=exact_steps,
        check=check,
    )


def first_difference(case: Case) -> Difference | None:
    """Replay a case step by step; the first difference, or None where every line matches."""
    cut = case.summary.get("status") == "cut"
    simulated = _simulated_lines(case, most=len(case.steps) if cut else None)
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


class _EnoughError(Exception):
    """The lines that were recorded are there."""


def _simulated_lines(case: Case, *, most: int | None) -> list[Line]:
    """The lines of the replay, the first ``most`` of them unless it is None."""
    log = _Log(case, most)
    if most != 0:
        with suppress(_EnoughError):
            log.replay()
    return log.lines


class _Log:
    """Replays a case and writes the lines that the recorder of the real engine wrote."""

    def __init__(self, case: Case, most: int | None) -> None:
        self.lines: list[Line] = []
        self._case = case
        self._most = most
        self._ids = case.trace.ids
        self._block_slots = int(case.header["block_size"])
        self._usable = int(case.header["num_blocks"]) - 1
        self._evicted = 0

    def replay(self) -> None:
        """Simulate the case; raises _EnoughError once there are enough lines."""
        case = self._case
        simulate(
            case.trace,
            deployment=case.deployment,
            cost=case.cost,
            num_gpu_blocks=case.header["num_blocks"],
            tie_rank=case.trace.tie_rank,
            log_step=self._log,
        )

    def _log(self, record: StepRecord) -> None:
        step = record.step
        assert step.order is not None, "a log was asked for"
        assert step.events is not None, "a log was asked for"
        if not record.shape.num_tokens and not step.events:
            return  # asynchronous mode schedules a batch of nothing now and then
        evicted, self._evicted = self._evicted, record.num_evicted_blocks
        self.lines.append(
            {
                "t": record.scheduled_ns,
                "start": record.start_ns,
                "dt": record.duration_ns,
                "run": record.moment.num_running,
                "wait": record.moment.num_waiting,
                "ntok": record.shape.num_tokens,
                "ctx": record.shape.decode_context_tokens,
                "free": self._free_blocks(record.moment.usage),
                "sched": [[self._ids[r.index], n, before] for r, n, before in step.order],
                "ev": [self._event(event) for event in step.events],
                "pre": [self._ids[request.index] for request in step.preempted],
                "hit": {self._ids[request.index]: tokens for request, tokens in step.hits.items()},
                "evict": record.num_evicted_blocks - evicted,
                "fin": [self._ids[request.index] for request in record.left],
                "free_end": self._free_blocks(record.usage_after),
            }
        )
        if len(self.lines) == self._most:
            raise _EnoughError

    def _free_blocks(self, usage: Usage) -> int:
        return self._usable - usage.held // self._block_slots

    def _event(self, event: Event) -> list[object]:
        identifier = self._ids[event.request.index]
        if event.kind == "a":
            blocks = list(event.blocks)
            return ["a", identifier, event.tokens, event.hit_tokens, len(blocks), blocks]
        return ["f", identifier, event.tokens] if event.kind == "f" else ["p", identifier]


def _read_log(path: Path) -> list[Line]:
    try:
        lines = [json.loads(line) for line in _unpacked(path).decode().splitlines()]
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path.name} is no step log: {error}.") from error
    if len(lines) < 2 or "header" not in lines[0] or "summary" not in lines[-1]:
        raise ValueError(f"{path.name} is no step log: it needs a header and a summary line.")
    return lines


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def _find_trace(log: Path, name: str, directory: Path | None) -> Path:
    folders = [log.parent, log.parent / "traces", log.parent.parent / "traces"]
    for folder in folders if directory is None else [directory]:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    raise ValueError(f"trace(={name!r}) of {log.name} is not beside it, in traces/ or ../traces/.")


def _differ(recorded: Line, simulated: Line, key: str) -> bool:
    ours = simulated[key]
    if key == "start" and key not in recorded:
        return False  # lock step: it starts as it is scheduled
    nothing: Any = type(ours)() if isinstance(ours, list | dict) or key == "evict" else None
    theirs = recorded.get(key, nothing)
    if key == "ev":  # large cases record how many blocks were taken, not which
        short = any(event[0] == "a" and len(event) == 5 for event in theirs)
        ours = [event[:5] for event in ours] if short else ours
        theirs = [_flat(event) for event in theirs]
    return bool(theirs != ours)


def _flat(event: list[Any]) -> list[Any]:
    """Block ids are recorded in a list, or with several groups in one list for each."""
    if len(event) > 5 and event[5] and isinstance(event[5][0], list):
        return [*event[:5], [block for blocks in event[5] for block in blocks]]
    return event


def _nanoseconds(result: Result, name: str) -> list[int]:
    column = np.asarray(result.requests[f"{name}_s"], dtype=np.float64) * NS_PER_S
    return [int(value) for value in np.round(np.nan_to_num(column, nan=-1.0))]


def read_case_trace(rows: Sequence[Line]) -> CaseTrace:
    prompts = recorded_prompts(rows)
    outputs = [int(row["output_tokens"]) for row in rows]
    prefix_row, prefix_tokens = longest_common(
        [
            [*prompt, (FIRST_OUTPUT_ID + number * OUTPUT_IDS_APART, output)]
            for number, (prompt, output) in enumerate(zip(prompts, outputs, strict=True))
        ],
        [sum(count for _, count in prompt) for prompt in prompts],
    )
    return CaseTrace(
        ids=tuple(row["id"] for row in rows),
        arrival_s=np.array([row["arrival_s"] for row in rows], dtype=np.float64),
        prompt_tokens=np.array([sum(n for _, n in prompt) for prompt in prompts], dtype=np.int64),
        output_tokens=np.array(outputs, dtype=np.int64),
        priority=np.array([row.get("priority", 0) for row in rows], dtype=np.int64),
        cancel_s=_cancel_s(rows),
        prefix_row=prefix_row,
        prefix_tokens=prefix_tokens,
    )


def _cancel_s(rows: Sequence[Line]) -> NDArray[np.float64] | None:
    cancel_s = np.array([row.get("cancel_s", np.nan) for row in rows], dtype=np.float64)
    return None if np.isnan(cancel_s).all() else cancel_s
