"""One simulation of a fleet with its figures: what a command or a planner runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ...traces import Trace
from ..ignored import ignored
from ..job import Report
from ..provenance import digest, digests, settings, sources
from ..result import FINISHED
from ..server import Server
from ..summary import Summary, latencies, plain, summarise
from .result import FleetResult, ReplicaResult
from .run import simulate_fleet
from .spec import Fleet

SCHEMA = "kvsim-fleet/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaFigures:
    """One replica of a fleet."""

    replica: int
    pool: str
    role: str
    gpu: str
    num_requests: int
    """That it served, wholly or its part of them."""
    request_share: float
    """Of all that were served in its role."""
    output_tokens_per_s: float
    """Generated there, over the time for which it was ready."""
    ttft_p95_s: float
    """Of a prefill replica until the KV could set out."""
    e2e_p95_s: float
    mean_running: float
    """Over the time for which it was ready."""
    peak_waiting: int
    num_preemptions: int
    prefix_hit_ratio: float
    busy_share: float
    """Share of the time for which it was ready in which it had anything to do."""
    paid_hours: float
    usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFigures:
    """What a fleet comes to."""

    replicas: tuple[ReplicaFigures, ...]
    peak_replicas: int
    """Most that were paid for at once."""
    replica_hours: float
    gpu_hours: float
    usd: float | None
    """None where a GPU has no price."""
    usd_per_million_output_tokens: float | None
    imbalance: float
    """Most requests of a replica over the mean, in the role where it is worst; 1 = even."""
    num_rerouted: int
    num_transfers: int
    sent_bytes: int
    received_bytes: int
    mean_transfer_s: float
    """From the end of the prefill to the last byte, the wait for the link included."""


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
    servers = [_server(pool.server) for pool in fleet.pools]
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
    busy = [one.segments["duration_s"][_busy(one.segments)].sum() for one in own]
    slot_s = sum(one.pool_slots * time for one, time in zip(own, busy, strict=True))

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


def fleet_figures(found: FleetResult) -> FleetFigures:
    """The figures of a simulated fleet of servers."""
    served = {role: _num_served(found, role) for role in {one.role for one in found.replicas}}
    rows = tuple(_figures(found, one, served[one.role]) for one in found.replicas)
    costs = [one.usd for one in rows]
    usd = None if any(cost is None for cost in costs) else float(sum(c for c in costs if c))
    tokens = int(found.result.requests["generated_tokens"][found.result.status == FINISHED].sum())
    num_gpus = {p.name: p.server.deployment.num_gpus for p in found.fleet.pools}
    waits = found.transfers["end_s"] - found.transfers["asked_s"]
    return FleetFigures(
        replicas=rows,
        peak_replicas=_peak(found),
        replica_hours=found.replica_s / 3600,
        gpu_hours=sum(num_gpus[one.pool] * one.paid_s for one in found.replicas) / 3600,
        usd=usd,
        usd_per_million_output_tokens=None if usd is None or not tokens else usd / tokens * 1e6,
        imbalance=max(
            max(r.num_requests for r in rows if r.role == role)
            * sum(r.role == role for r in rows)
            / max(total, 1)
            for role, total in served.items()
        ),
        num_rerouted=found.num_rerouted,
        num_transfers=len(waits),
        sent_bytes=found.sent_bytes,
        received_bytes=found.received_bytes,
        mean_transfer_s=float(waits.mean()) if len(waits) else 0.0,
    )


def fleet_json(found: FleetResult, summary: Summary) -> dict[str, object]:
    """All figures as plain values."""
    figures = fleet_figures(found)
    names = list(found.changes)
    rows = zip(*(found.changes[name].tolist() for name in names), strict=True)
    return {
        "schema": SCHEMA,
        "fleet": plain(found.fleet.to_json()),
        **{k: plain(v) for k, v in asdict(figures).items() if k != "replicas"},
        "replicas": [plain(asdict(one)) for one in figures.replicas],
        "changes": [plain(dict(zip(names, row, strict=True))) for row in rows],
        "summary": summary.to_json(),
    }


def fleet_notes(found: FleetResult, trace: Trace) -> tuple[str, ...]:
    """What a reader should know of the trace and of the servers, each once."""
    servers = [_server(pool.server) for pool in found.fleet.pools]
    notes = [*trace.notes, *(note for server in servers for note in server.notes)]
    for server in servers:
        notes += ignored(trace, server.deployment, concurrency=None)
    if found.fleet.disaggregated:
        notes.append(
            "Prefill and decode: KV waits in host memory at both ends, outside the pools; the "
            "first token of an answer comes from the decode replica."
        )
    return tuple(dict.fromkeys(notes))


def _figures(found: FleetResult, one: ReplicaResult, served: int) -> ReplicaFigures:
    server = _server(next(p.server for p in found.fleet.pools if p.name == one.pool))
    requests, segments = one.result.requests, one.result.segments
    ready_s = max(one.left_s - one.ready_s, 0.0) if one.ready_s == one.ready_s else 0.0
    per_s = 1.0 / ready_s if ready_s > 0 else 0.0
    times = latencies(one.result)
    price = server.gpu.price_usd_per_hour
    hours = one.paid_s / 3600
    asked = one.result.looked_up_tokens
    done = one.result.status == FINISHED
    return ReplicaFigures(
        replica=one.number,
        pool=one.pool,
        role=one.role,
        gpu=server.gpu.name,
        num_requests=len(requests["index"]),
        request_share=len(requests["index"]) / served if served else 0.0,
        output_tokens_per_s=float(requests["generated_tokens"][done].sum()) * per_s,
        ttft_p95_s=times["ttft_s"].p95,
        e2e_p95_s=times["e2e_s"].p95,
        mean_running=float(segments["num_running"] @ segments["duration_s"]) * per_s,
        peak_waiting=one.result.peak_waiting,
        num_preemptions=int(requests["num_preemptions"].sum()),
        prefix_hit_ratio=_hits(one) / asked if asked else 0.0,
        busy_share=float(segments["duration_s"][_busy(segments)].sum()) * per_s,
        paid_hours=hours,
        usd=None if price is None else price * server.deployment.num_gpus * hours,
    )


def _hits(one: ReplicaResult) -> int:
    """Tokens found in its own cache; what a decode replica was sent is none."""
    return 0 if one.role == "decode" else int(one.result.requests["cached_tokens"].sum())


def _busy(segments: Mapping[str, Any]) -> Any:
    return (segments["num_steps"] > 0) | (segments["num_running"] > 0)


def _num_served(found: FleetResult, role: str) -> int:
    return sum(len(one.result.requests["index"]) for one in found.replicas if one.role == role)


def _peak(found: FleetResult) -> int:
    begin = np.array([one.launched_s for one in found.replicas])
    end = np.array([one.left_s for one in found.replicas])
    return int(max(((begin <= at) & (at < end)).sum() for at in begin)) if len(begin) else 0


def _server(served: object) -> Server:
    assert isinstance(served, Server), "a fleet with figures is one of servers"
    return served
