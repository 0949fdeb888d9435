"""One simulation of one server, with its summary: what a command or a sweep runs."""

from __future__ import annotations

from collections.abc import Callable

from ..traces import Trace
from .map_recorder import MapRecorder
from .provenance import digests, settings, sources
from .result import Result
from .server import Server
from .simulation import simulate
from .summary import Summary, summarise

Report = Callable[[str, int, int], None]
"""Told what is simulated, how many requests of it are done, and of how many."""


def simulate_server(
    server: Server,
    *,
    trace: Trace,
    title: str = "",
    concurrency: int | None = None,
    exact_steps: bool = False,
    report: Report | None = None,
    memory_map: MapRecorder | None = None,
) -> tuple[Result, Summary]:
    """Replay a trace through a server.

    Args:
        server: what serves.
        trace: with arrival times, or lengths alone with ``concurrency``.
        title: what to tell ``report``; by default the allocator.
        concurrency: clients of a closed loop.
        exact_steps: one engine step at a time.
        report: told about progress.
        memory_map: looks at the pool now and then.

    Raises:
        ValueError: no requests, or no arrival times.
    """
    total, name = len(trace), title or server.deployment.title
    if report is not None:
        report(name, 0, total)
    result = simulate(
        trace,
        deployment=server.deployment,
        cost=server.cost,
        num_gpu_blocks=server.num_gpu_blocks,
        concurrency=concurrency,
        exact_steps=exact_steps,
        progress=None if report is None else lambda done: report(name, done, total),
        memory_map=memory_map,
        moves=server.moves,
    )
    if report is not None:
        report(name, total, total)
    moved = bool(result.moved)
    marks = digests(server, trace_digest=trace.digest, moved=moved, concurrency=concurrency)
    given = settings(server, trace, concurrency=concurrency)
    return result, summarise(
        result, settings=given, sources=sources(server, moved=moved), digests=marks
    )
