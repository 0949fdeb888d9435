"""One simulation of a fleet with its summary: what a command or a planner runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...traces import Trace
from ..ignored import ignored
from ..job import Report
from ..provenance import digest, digests, settings, sources
from ..summary import Summary, summarise
from .figures import busy, server_of
from .result import FleetResult
from .run import simulate_fleet
from .spec import Fleet


def run_fleet(
    fleet: Fleet,
    *,
    trace: Trace,
    title: str = "",
    concurrency: int | None = None,
    exact_steps: bool = False,
    report: Report | None = None,
) -> tuple[FleetResult, Summary]:
    """Replay a trace through a fleet of servers.

    Args:
        fleet: its pools are of :class:`~kvsim.sim.server.Server`.
        trace: with arrival times, or lengths alone with ``concurrency``.
        title: what to tell ``report``; by default the router.
        concurrency: clients of a closed loop, of the whole fleet.
        exact_steps: one engine step at a time.
        report: told about progress.

    Raises:
        ValueError: as :func:`simulate_fleet`.
    """
    total, name = len(trace), title or fleet.router
    if report is not None:
        report(name, 0, total)
    found = simulate_fleet(
        fleet,
        trace,
        concurrency=concurrency,
        exact_steps=exact_steps,
        progress=None if report is None else lambda done: report(name, done, total),
    )
    if report is not None:
        report(name, total, total)
    return found, _summary(found, trace, concurrency)


def _summary(found: FleetResult, trace: Trace, concurrency: int | None) -> Summary:
    """Of all requests; of one replica for good byte for byte that of its server."""
    fleet, result = found.fleet, found.result
    servers = [server_of(pool.server) for pool in fleet.pools]
    moved = bool(result.moved)
    given = settings(servers[0], trace, concurrency=concurrency)
    origins = sources(servers[0], moved=moved)
    marks = digests(servers[0], trace_digest=trace.digest, moved=moved, concurrency=concurrency)
    if not fleet.is_one_server:
        names = [pool.name for pool in fleet.pools]
        pools = dict(zip(names, servers, strict=True))
        given |= {"fleet": fleet.to_json(), "pools": {n: s.setting for n, s in pools.items()}}
        origins |= {"pools": {n: sources(s, moved=moved) for n, s in pools.items()}}
        each = [digests(s, trace_digest=trace.digest, moved=moved) for s in servers]
        together = {name: digest([one[name] for one in each]) for name in each[0]}
        marks = {**together, "trace": trace.digest, "fleet": digest(fleet.to_json())}
    summary = summarise(result, settings=given, sources=origins, digests=marks)
    return summary if fleet.is_one_server else _of_all_pools(summary, found)


def _of_all_pools(summary: Summary, found: FleetResult) -> Summary:
    """Shares of the time in which anything runs are of each replica's own pool and time.

    ``peak_running`` is of all replicas together, ``peak_waiting`` of the longest queue.
    """
    own = [one.result for one in found.replicas]
    times = [one.segments["duration_s"][busy(one.segments)].sum() for one in own]
    slot_s = sum(one.pool_slots * time for one, time in zip(own, times, strict=True))

    def share(name: str) -> float:
        held = sum(float(one.segments[name] @ one.segments["duration_s"]) for one in own)
        return float(held / slot_s) if slot_s else 0.0

    return replace(
        summary,
        peak_running=_peak_running(found),
        effective_kv_utilisation=share("token_states"),
        shared_saved=share("saved"),
    )


def _peak_running(found: FleetResult) -> int:
    """Most requests that ran at once, on all replicas."""
    starts, ends, counts = [], [], []
    for one in found.replicas:
        start, running = one.result.segments["start_s"], one.result.segments["num_running"]
        end = start + one.result.segments["duration_s"]
        end[:-1] = np.minimum(end[:-1], start[1:])  # an end may pass the next start by a last bit
        starts.append(start)
        ends.append(end)
        counts.append(running)
    running = np.concatenate(counts)
    times = np.concatenate([*ends, *starts])  # at one time ends come first
    deltas = np.concatenate([-running, running])
    return int(np.cumsum(deltas[np.argsort(times, kind="stable")]).max(initial=0))


def fleet_notes(found: FleetResult, trace: Trace) -> tuple[str, ...]:
    """What a reader should know of the trace and of the servers, each once."""
    servers = [server_of(pool.server) for pool in found.fleet.pools]
    notes = [*trace.notes, *(note for server in servers for note in server.notes)]
    for server in servers:
        notes += ignored(trace, server.deployment, concurrency=None)
    if found.fleet.disaggregated:
        notes.append(
            "Prefill and decode: KV waits in host memory at both ends, outside the pools; the "
            "first token of an answer comes from the decode replica."
        )
    return tuple(dict.fromkeys(notes))
