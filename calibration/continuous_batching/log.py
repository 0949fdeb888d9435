"""A replay as the log of a run (``calibration.engine.log``), to be read like the other engine's.

A sequence is a row of the trace. What the library does not say is worked out: the first step of a
request is when it was scheduled, what that step found computed was cached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from ..engine.log import Header, LogWriter
from ..engine.loop import Served
from ..engine.records import RequestRecord, Scheduled, StepRecord
from .records import Arrival, BatchingLog, BatchingStep

NAME = "transformers"
"""Of the engine, before its version."""


def write_log(
    path: Path, header: Header, log: BatchingLog, arrivals: Sequence[Arrival], *, num_left_out: int
) -> Served:
    """Write a replay, each request behind its last step.

    Args:
        path: of the log.
        header: what it ran on; its flags have ``num_gpu_blocks``, the null block included.
        log: what happened.
        arrivals: what was played.
        num_left_out: requests of the trace that were not played: their time had not come.
    """
    usable = int(header.flags["num_gpu_blocks"]) - 1
    left: dict[float, list[RequestRecord]] = {}
    for one in request_records(log, arrivals):
        left.setdefault(one.last_token_s, []).append(one)
    served = Served(
        why="time" if num_left_out else "done",
        end_s=max((step.end_s for step in log.steps), default=0.0),
        num_steps=len(log.steps),
        num_left_out=num_left_out,
        num_unfinished=0,
        num_forced=0,
    )
    with LogWriter(path, header) as writer:
        for step in log.steps:
            writer.step(step_record(step, usable))
            for request in left.get(step.end_s, ()):
                writer.request(request)
        writer.end(asdict(served))
    return served


def step_record(step: BatchingStep, num_blocks: int) -> StepRecord:
    """One step, in a pool of so many blocks."""
    return StepRecord(
        start_s=step.start_s,
        schedule_s=step.scheduled_s - step.start_s,
        prepare_s=step.prepared_s - step.scheduled_s,
        launch_s=step.launched_s - step.prepared_s,
        sync_s=step.synced_s - step.launched_s,
        update_s=step.end_s - step.synced_s,
        wall_s=step.end_s - step.start_s,
        gpu_s=step.gpu_s,
        rows=tuple(Scheduled(*given) for given in step.given),
        bucket=0,
        running=step.num_running,
        waiting=step.num_waiting,
        used_blocks=num_blocks - step.num_free_blocks - step.num_cached_blocks,
        preempted=len(step.offloaded),
        swapped_out_blocks=step.swapped_out_blocks,
        swapped_in_blocks=step.swapped_in_blocks,
        compiled=step.compiled,
    )


def request_records(log: BatchingLog, arrivals: Sequence[Arrival]) -> Iterator[RequestRecord]:
    """The requests, in order of their rows."""
    first: dict[int, tuple[float, int]] = {}
    preemptions: dict[int, int] = {}
    for step in log.steps:
        for row, _, past in step.given:
            first.setdefault(row, (step.start_s, past))
        for row, _ in step.offloaded:
            preemptions[row] = preemptions.get(row, 0) + 1
    for answer in log.answers:
        scheduled_s, cached = first[answer.row]
        arrival = arrivals[answer.row]
        yield RequestRecord(
            request=answer.row,
            arrival_s=arrival.arrival_s,
            scheduled_s=scheduled_s,
            first_token_s=answer.token_s[0],
            last_token_s=answer.token_s[-1],
            prompt_tokens=len(arrival.prompt),
            output_tokens=len(answer.tokens),
            preemptions=preemptions.get(answer.row, 0),
            cached_tokens=cached,
        )
