"""The run under backlog: the trace's lengths over and over, all there at time 0.

The queue holds four turnovers: as many requests as the pool holds at once, four times, within
bounds that keep the run short and its figures steady.
"""

from __future__ import annotations

from ..traces import Trace
from ..traces.repeat import repeated
from .backlog import Backlog, measure
from .job import Report, simulate_server
from .map_recorder import MapRecorder
from .result import Result
from .sequences import mean_width, shares, sharing_of
from .servable import servable_rows
from .server import Server

MIN_BACKLOG, MAX_BACKLOG = 2_000, 40_000
TURNOVERS = 4
MAX_SEARCHED = 16_000
"""Beams of a backlog: every step of a search draws who survives, so that it is ten times slower."""


def saturate(
    server: Server,
    trace: Trace,
    *,
    title: str = "",
    num_requests: int | None = None,
    memory_map: MapRecorder | None = None,
    report: Report | None = None,
) -> tuple[Result, Backlog]:
    """Run a server with requests like the trace's that never run out.

    Args:
        server: what serves.
        trace: whose lengths and contents the requests have; its times are not used.
        title: what to tell ``report``.
        num_requests: in the queue at time 0; by default :func:`queue_length`.
        memory_map: looks at the pool now and then.
        report: told about progress.

    Raises:
        ValueError: the server can run no request of the trace, or finishes none.
    """
    wanted = queue_length(server, trace) if num_requests is None else num_requests
    rows = servable_rows(trace, server.deployment, server.num_gpu_blocks)
    if not len(rows):
        raise ValueError(f"trace(={trace.name!r}) has no request that the server can run.")
    queue = repeated(trace, rows, wanted)
    result, _ = simulate_server(
        server, trace=queue, title=title, memory_map=memory_map, report=report
    )
    flags = server.deployment
    per_request = mean_width(trace) if shares(trace, flags) else 1.0  # they sit down together
    return result, measure(result, seats=max(1, int(flags.limits.seats / per_request)))


def queue_length(server: Server, trace: Trace) -> int:
    """Requests that make a backlog for this server; those of several sequences count as several."""
    width, most, limit = mean_width(trace), most_at_once(server, trace), MAX_BACKLOG
    if sharing_of(trace) == "beams":
        most, limit = min(most, server.deployment.limits.seats), MAX_SEARCHED
    sequences = min(max(TURNOVERS * most, MIN_BACKLOG), limit)
    return max(1, round(sequences / width))


def most_at_once(server: Server, trace: Trace) -> int:
    """A guess of how many sequences of the trace the pool holds: half-done ones, on average."""
    tokens = trace.prompt_tokens.mean() + trace.output_tokens.mean() / 2
    return int(server.num_gpu_blocks * server.deployment.block_size / tokens) + 1
