"""Serves: polls arrivals, asks whom to run, runs the step, tells what came of it, keeps times.

One step after another, nothing ahead: schedule, prepare, launch, wait, update. The scheduler's
clock is this loop's, so that an arrival is seen by the first schedule after its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .arrivals import Arrivals
from .clock import Clock
from .history import History
from .quiet import Compiles
from .records import RequestRecord, Scheduled, StepRecord
from .steps import Ended, Move, Row, Sampled, Steps, Work

NS_PER_S = 1e9


class Sink(Protocol):
    """Takes what happened."""

    def step(self, record: StepRecord) -> None: ...
    def request(self, record: RequestRecord) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How a run ended."""

    why: str
    """``done``, or ``time`` where arrivals were closed before the trace's end."""
    end_s: float
    num_steps: int
    num_left_out: int
    """Requests of the trace that were not let in any more."""
    num_unfinished: int
    """Let in, and never answered: nothing could run."""
    num_forced: int
    """Answers that were read before they were given (see ``history``)."""


class Device(Protocol):
    """Runs a step (see ``runner.Runner``)."""

    def prepare(self, rows: Sequence[Row], history: History) -> int: ...
    def launch(self, moves: Sequence[Move]) -> None: ...
    def wait(self, num_samples: int) -> Sampled: ...
    def gpu_s(self) -> float: ...


class Loop:
    """One run.

    Args:
        steps: scheduler and ledger.
        runner: the device.
        history: tokens.
        arrivals: requests and their times.
        clock: real, or stepping.
        sink: takes the records.
        prompt_tokens: of each request.
        stop_ns: no arrival is let in from then on.
    """

    def __init__(
        self,
        *,
        steps: Steps,
        runner: Device,
        history: History,
        arrivals: Arrivals,
        clock: Clock,
        sink: Sink,
        prompt_tokens: list[int],
        stop_ns: float = float("inf"),
    ) -> None:
        self._steps = steps
        self._runner = runner
        self._history = history
        self._arrivals = arrivals
        self._clock = clock
        self._sink = sink
        self._prompt_tokens = prompt_tokens
        self._stop_ns = stop_ns
        self._arrived_ns: dict[int, float] = {}
        self._num_steps = 0
        self._num_left_out = 0
        self._compiles = Compiles()

    def serve(self) -> Served:
        """Until everybody is answered."""
        with self._compiles.counted():
            self._clock.start()
            while self._turn():
                pass
        return Served(
            why="time" if self._num_left_out else "done",
            end_s=self._clock.now_ns() / NS_PER_S,
            num_steps=self._num_steps,
            num_left_out=self._num_left_out,
            num_unfinished=len(self._arrived_ns),
            num_forced=self._history.num_forced,
        )

    def _turn(self) -> bool:
        """A step, or a wait; False where nothing is left to do."""
        start_ns, begin_s = self._clock.now_ns(), self._stamp_s()
        self._let_in(start_ns)
        work = self._steps.schedule(start_ns)
        for ended in self._steps.ended():
            self._leave(ended, start_ns)
        if work is not None and work.rows:
            self._step(work, start_ns, begin_s)
            return True
        if work is not None:  # nobody runs, but somebody may have been swapped out
            self._runner.launch(work.moves)
            self._runner.wait(0)
            if work.goes_on:
                return True
        next_ns = self._arrivals.next_ns(somebody_waits=bool(self._arrived_ns))
        if next_ns is None:
            return False
        self._clock.wait_until(min(next_ns, self._stop_ns) if start_ns < self._stop_ns else next_ns)
        return True

    def _let_in(self, now_ns: float) -> None:
        due = self._arrivals.due(min(now_ns, self._stop_ns))
        if now_ns >= self._stop_ns:
            self._num_left_out += self._arrivals.close()
        for arrival_ns, request in due:
            self._arrived_ns[request] = arrival_ns
            rejected = self._steps.submit(request, arrival_ns)
            if rejected is not None:
                self._leave(rejected, now_ns)
        for request in self._arrivals.gone(now_ns):
            if request in self._arrived_ns:
                self._steps.cancel(request, now_ns)

    def _step(self, work: Work, start_ns: float, begin_s: float) -> None:
        runner, rows = self._runner, sorted(work.rows, key=_is_chunk)
        scheduled_s = self._stamp_s()
        bucket = runner.prepare(rows, self._history)
        prepared_s = self._stamp_s()
        runner.launch(work.moves)
        launched_s = self._stamp_s()
        samplers = [row for row in rows if row.takers]
        sampled = runner.wait(len(samplers))
        synced_s = self._stamp_s()
        end_ns = self._clock.after(work)
        self._take(samplers, sampled)
        for ended in self._steps.finish(end_ns):
            self._leave(ended, end_ns)
        done_s = self._stamp_s()
        self._num_steps += 1
        scale = self._clock.scale
        kinds = [move.kind for move in work.moves]
        self._sink.step(
            StepRecord(
                start_s=start_ns / NS_PER_S,
                schedule_s=scale * (scheduled_s - begin_s),
                prepare_s=scale * (prepared_s - scheduled_s),
                launch_s=scale * (launched_s - prepared_s),
                sync_s=scale * (synced_s - launched_s),
                update_s=scale * (done_s - synced_s),
                wall_s=scale * (done_s - begin_s),
                gpu_s=runner.gpu_s(),
                rows=tuple(
                    Scheduled(row.sequence, row.new_tokens, row.past_tokens) for row in work.rows
                ),
                bucket=bucket,
                running=work.running,
                waiting=work.waiting,
                used_blocks=work.used_blocks,
                preempted=work.preempted,
                copied_blocks=kinds.count("copy"),
                swapped_out_blocks=kinds.count("out"),
                swapped_in_blocks=kinds.count("in"),
                compiled=self._compiles.taken(),
            )
        )

    def _stamp_s(self) -> float:
        return self._clock.stamp_ns() / NS_PER_S

    def _take(self, samplers: list[Row], sampled: Sampled) -> None:
        for row, tokens in zip(samplers, sampled.tokens, strict=True):
            for sequence, rank in row.takers:
                self._history.take(sequence, row.past_tokens + row.new_tokens, tokens[rank])

    def _leave(self, ended: Ended, now_ns: float) -> None:
        self._sink.request(
            RequestRecord(
                request=ended.request,
                arrival_s=self._arrived_ns.pop(ended.request) / NS_PER_S,
                scheduled_s=ended.scheduled_ns / NS_PER_S,
                first_token_s=ended.first_token_ns / NS_PER_S,
                last_token_s=now_ns / NS_PER_S if ended.status == "finished" else float("nan"),
                prompt_tokens=self._prompt_tokens[ended.request],
                output_tokens=ended.output_tokens,
                preemptions=ended.num_preemptions,
                cached_tokens=ended.cached_tokens,
                status=ended.status,
            )
        )
        self._arrivals.answered(ended.request, now_ns)


def _is_chunk(row: Row) -> bool:
    return row.new_tokens > 1
