"""Outcomes of a server with some inputs changed, with as few runs as that takes.

Two laws save runs. Under backlog everything is there at time 0, so a clock ``f`` times as slow does
the same in ``f`` times the time: rates are ``1 / f`` of the base's, requests at once are the same.
And a run whose pool never refused anybody goes the same way in any larger pool, and in any smaller
one that would never have refused anybody either:

    enough = most slots held at once + a block for each running request + the longest request

as long as no request finds what another one has cached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Generic, NamedTuple, TypeVar

from ..traces import Trace
from .backlog import Backlog, most_held_slots
from .content import shared_prefixes
from .job import Report, simulate_server
from .parallel import Task, jobs_for, run_each
from .result import Result
from .saturated import queue_length, saturate
from .server import Server
from .summary import Summary
from .variants import with_blocks, with_clock, with_outputs

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a server does under backlog and over the trace; None where nothing finished."""

    mean_running: float | None
    """Requests at once under backlog."""
    output_tokens_per_s: float | None
    """Under backlog."""
    ttft_p95_s: float | None
    tpot_p95_s: float | None


class Setting(NamedTuple):
    """Where the inputs stand; all but the blocks relative to the base."""

    blocks: int
    clock: float = 1.0
    outputs: float = 1.0
    rate: float = 1.0

    def __str__(self) -> str:
        """What is not as in the base, blocks always: ``28,162 blocks, steps x 1.14``."""
        changed = {"steps": self.clock, "outputs": self.outputs, "rate": self.rate}
        parts = [f"{name} x {value:.3g}" for name, value in changed.items() if value != 1.0]
        return ", ".join([f"{self.blocks:,} blocks", *parts])


class Runs:
    """Runs what is asked for, unless it follows from a run made before.

    Ask for few blocks before many: they may prove to be plenty.

    Args:
        server: the base.
        trace: the base's.
        concurrency: clients of a closed loop.
        report: told about progress.
    """

    def __init__(
        self,
        server: Server,
        trace: Trace,
        *,
        concurrency: int | None = None,
        report: Report | None = None,
    ) -> None:
        caching = server.deployment.enable_prefix_caching
        self._variant = _Variant(
            server=server,
            trace=trace,
            concurrency=concurrency,
            queue=queue_length(server, trace),
            alone=not caching or bool((shared_prefixes(trace)[0] < 0).all()),
        )
        self._report = report
        self._over_trace = _Memory[Summary]()
        self._under_backlog = _Memory[Backlog | None]()
        self.num_runs = 0

    def know(self, result: Result, summary: Summary, backlog: Backlog) -> None:
        """The base's own runs, over the trace and under backlog."""
        base, variant = Setting(blocks=self._variant.server.num_gpu_blocks), self._variant
        self._over_trace.add(base, _Run(summary, base.blocks, variant.enough(result, base)))
        enough = variant.enough_blocks(backlog.most_held_slots, backlog.peak_running, base)
        self._under_backlog.add(base, _Run(backlog, base.blocks, enough))

    def prepare(self, settings: Iterable[Setting]) -> None:
        """Run what these settings take, several at a time.

        Of settings that differ in their blocks alone, the fewest come first, in a round of their
        own: what follows from them is not run.
        """
        wanted, variant = sorted(settings), self._variant
        while True:
            traces = {one._replace(blocks=0): one for one in reversed(self._over_trace.new(wanted))}
            queues = {
                one._replace(blocks=0): one
                for one in reversed(self._under_backlog.new(map(_of_queue, wanted)))
            }
            if not (traces or queues):
                return
            over, under = list(traces.values()), list(queues.values())
            tasks: list[Task[_Run[Summary] | _Run[Backlog | None]]] = [
                *((f"trace, {one}", partial(variant.over_trace, one)) for one in over),
                *((f"backlog, {one}", partial(variant.under_backlog, one)) for one in under),
            ]
            self.num_runs += len(tasks)
            found = run_each(
                tasks,
                title="interval",
                jobs=jobs_for(len(over) * len(variant.trace) + len(under) * variant.queue),
                report=self._report,
            )
            for setting, run in zip(over, found, strict=False):
                self._over_trace.add(setting, run)  # type: ignore[arg-type]
            for setting, run in zip(under, found[len(over) :], strict=True):
                self._under_backlog.add(setting, run)  # type: ignore[arg-type]

    def outcome(self, setting: Setting) -> Outcome:
        """Of the server and the trace so changed."""
        self.prepare([setting])
        summary = self._over_trace.find(setting)
        backlog = self._under_backlog.find(_of_queue(setting))
        assert summary is not None, "it was prepared"
        assert backlog is not None, "it was prepared"
        running = rate = None
        if backlog.value is not None:
            running = backlog.value.mean_running
            rate = backlog.value.output_tokens_per_s / setting.clock
        return Outcome(
            mean_running=running,
            output_tokens_per_s=rate,
            ttft_p95_s=_finite(summary.value.ttft_s.p95),
            tpot_p95_s=_finite(summary.value.tpot_s.p95),
        )


def _of_queue(setting: Setting) -> Setting:
    """Under backlog, of the base's clock."""
    return setting._replace(clock=1.0, rate=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """What a run of a setting takes; it is sent to other processes."""

    server: Server
    trace: Trace
    concurrency: int | None
    queue: int
    """Requests of the base's backlog."""
    alone: bool
    """No request finds what another one has cached."""

    def over_trace(self, setting: Setting) -> _Run[Summary]:
        """Of the trace as it arrives."""
        trace = self._trace_of(setting)
        if setting.rate != 1.0:
            trace = trace.speedup(setting.rate)
        result, summary = simulate_server(
            with_clock(self._server_of(setting), setting.clock),
            trace=trace,
            concurrency=self.concurrency,
        )
        return _Run(summary, setting.blocks, self.enough(result, setting))

    def under_backlog(self, setting: Setting) -> _Run[Backlog | None]:
        """None where the server can run no request."""
        server, trace = self._server_of(setting), self._trace_of(setting)
        try:
            result, backlog = saturate(server, trace, num_requests=self.queue)
        except ValueError:  # no request of the trace fits, or the first one that does not stalls
            return _Run(None, setting.blocks, None)
        return _Run(backlog, setting.blocks, self.enough(result, setting))

    def _server_of(self, setting: Setting) -> Server:
        return with_blocks(self.server, setting.blocks)

    def _trace_of(self, setting: Setting) -> Trace:
        length = self.server.deployment.max_model_len
        return with_outputs(self.trace, setting.outputs, max_model_len=length)

    def enough(self, result: Result, setting: Setting) -> int | None:
        """Blocks from which on this run goes the same way, as far as that is known."""
        requests, segments = result.requests, result.segments
        refused = segments["blocked"].any() or requests["num_preemptions"].any()
        if not self.alone or refused or (requests["reject_reason"] != "").any():
            return None
        peak = int(segments["num_running"].max(initial=0))
        least = self.enough_blocks(most_held_slots(result), peak, setting)
        return setting.blocks if least is None else least

    def enough_blocks(self, held_slots: int, running: int, setting: Setting) -> int | None:
        """In which nobody would have been refused; None where that takes more than there are."""
        flags, trace = self.server.deployment, self._trace_of(setting)
        if not self.alone or flags.watermark or flags.kv_groups:
            return None
        longest = int((trace.prompt_tokens + trace.output_tokens).max())
        slots = held_slots + flags.block_size * (running + 1) + longest
        blocks = -(-slots // flags.block_size) + 1  # the null block
        return blocks if blocks <= setting.blocks else None


class _Run(NamedTuple, Generic[T]):
    value: T
    blocks: int
    enough: int | None
    """From so many blocks on, the value is the same."""


class _Memory(Generic[T]):
    """Runs by their settings."""

    def __init__(self) -> None:
        self._runs: dict[Setting, list[_Run[T]]] = {}

    def add(self, setting: Setting, run: _Run[T]) -> None:
        self._of(setting).append(run)

    def new(self, settings: Iterable[Setting]) -> list[Setting]:
        """Those that are not known."""
        return [setting for setting in settings if self.find(setting) is None]

    def find(self, setting: Setting) -> _Run[T] | None:
        """The run itself, or one that goes the same way in so many blocks."""
        blocks = setting.blocks
        for run in self._of(setting):
            if run.blocks == blocks or (run.enough is not None and run.enough <= blocks):
                return run
        return None

    def _of(self, setting: Setting) -> list[_Run[T]]:
        return self._runs.setdefault(setting._replace(blocks=0), [])


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
