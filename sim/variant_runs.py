"""Outcomes of a server with some inputs changed, with as few runs as that takes.

Two laws save runs. Under backlog everything is there at time 0, so a clock ``f`` times as slow does
the same in ``f`` times the time: rates are ``1 / f`` of the base's, requests at once are the same.
And a run whose pool never refused anybody goes the same way in any larger pool, and in any smaller
one that would never have refused anybody either:

    enough = most slots held at once + a block for each running request + the longest request

as long as no request finds what another one has cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Generic, NamedTuple, TypeVar

from ..traces import Trace
from .backlog import Backlog, most_held_slots
from .content import shared_prefixes
from .job import Report, simulate_server
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
        self._server, self._trace = server, trace
        self._concurrency, self._report = concurrency, report
        self._queue = queue_length(server, trace)
        caching = server.deployment.enable_prefix_caching
        self._alone = not caching or bool((shared_prefixes(trace)[0] < 0).all())
        self._over_trace = _Memory[Summary]()
        self._under_backlog = _Memory[Backlog]()
        self.num_runs = 0

    def know(self, result: Result, summary: Summary, backlog: Backlog) -> None:
        """The base's own runs, over the trace and under backlog."""
        base = Setting(blocks=self._server.num_gpu_blocks)
        self._over_trace.add(base, summary, enough=self._enough(result, base))
        enough = self._enough_blocks(backlog.most_held_slots, backlog.peak_running, base)
        self._under_backlog.add(base, backlog, enough=enough)

    def outcome(self, setting: Setting) -> Outcome:
        """Of the server and the trace so changed."""
        summary, backlog = self._summary(setting), self._backlog(setting)
        running = rate = None
        if backlog is not None:
            running, rate = backlog.mean_running, backlog.output_tokens_per_s / setting.clock
        return Outcome(
            mean_running=running,
            output_tokens_per_s=rate,
            ttft_p95_s=_finite(summary.ttft_s.p95),
            tpot_p95_s=_finite(summary.tpot_s.p95),
        )

    def _summary(self, setting: Setting) -> Summary:
        """Over the trace."""
        if (known := self._over_trace.find(setting)) is not None:
            return known.value
        self.num_runs += 1
        trace = self._trace_of(setting)
        if setting.rate != 1.0:
            trace = trace.speedup(setting.rate)
        result, summary = simulate_server(
            with_clock(self._server_of(setting), setting.clock),
            trace=trace,
            title=f"interval, trace: {setting}",
            concurrency=self._concurrency,
            report=self._report,
        )
        self._over_trace.add(setting, summary, enough=self._enough(result, setting))
        return summary

    def _backlog(self, asked: Setting) -> Backlog | None:
        """Of the base's clock; None where the server can run no request."""
        setting = asked._replace(clock=1.0, rate=1.0)
        if (known := self._under_backlog.find(setting)) is not None:
            return known.value
        self.num_runs += 1
        try:
            result, backlog = saturate(
                self._server_of(setting),
                self._trace_of(setting),
                title=f"interval, backlog: {setting}",
                num_requests=self._queue,
                report=self._report,
            )
        except ValueError:  # no request of the trace fits, or the first one that does not stalls
            return None
        self._under_backlog.add(setting, backlog, enough=self._enough(result, setting))
        return backlog

    def _server_of(self, setting: Setting) -> Server:
        return with_blocks(self._server, setting.blocks)

    def _trace_of(self, setting: Setting) -> Trace:
        length = self._server.deployment.max_model_len
        return with_outputs(self._trace, setting.outputs, max_model_len=length)

    def _enough(self, result: Result, setting: Setting) -> int | None:
        """Blocks from which on this run goes the same way, as far as that is known."""
        requests, segments = result.requests, result.segments
        refused = segments["blocked"].any() or requests["num_preemptions"].any()
        if not self._alone or refused or (requests["reject_reason"] != "").any():
            return None
        peak = int(segments["num_running"].max(initial=0))
        least = self._enough_blocks(most_held_slots(result), peak, setting)
        return setting.blocks if least is None else least

    def _enough_blocks(self, held_slots: int, running: int, setting: Setting) -> int | None:
        """In which nobody would have been refused; None where that takes more than there are."""
        flags, trace = self._server.deployment, self._trace_of(setting)
        if not self._alone or flags.watermark or flags.kv_groups:
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

    def add(self, setting: Setting, value: T, *, enough: int | None) -> None:
        self._of(setting).append(_Run(value, setting.blocks, enough))

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
