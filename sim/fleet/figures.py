"""What a fleet comes to: a row per replica, hours and money, the balance between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..result import FINISHED
from ..server import Server
from ..summary import Summary, latencies, plain
from .result import FleetResult, ReplicaResult

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


def _figures(found: FleetResult, one: ReplicaResult, served: int) -> ReplicaFigures:
    server = server_of(next(p.server for p in found.fleet.pools if p.name == one.pool))
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
        busy_share=float(segments["duration_s"][busy(segments)].sum()) * per_s,
        paid_hours=hours,
        usd=None if price is None else price * server.deployment.num_gpus * hours,
    )


def _hits(one: ReplicaResult) -> int:
    """Tokens found in its own cache; what a decode replica was sent is none."""
    return 0 if one.role == "decode" else int(one.result.requests["cached_tokens"].sum())


def _num_served(found: FleetResult, role: str) -> int:
    return sum(len(one.result.requests["index"]) for one in found.replicas if one.role == role)


def _peak(found: FleetResult) -> int:
    begin = np.array([one.launched_s for one in found.replicas])
    end = np.array([one.left_s for one in found.replicas])
    return int(max(((begin <= at) & (at < end)).sum() for at in begin)) if len(begin) else 0


def busy(segments: Mapping[str, Any]) -> Any:
    return (segments["num_steps"] > 0) | (segments["num_running"] > 0)


def server_of(served: object) -> Server:
    assert isinstance(served, Server), "a fleet with figures is one of servers"
    return served
