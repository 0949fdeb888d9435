"""What each of several replicas gets of a trace, and whether they keep the objective together.

The split is round robin by session: the k-th session goes to replica ``k mod R`` (a request without
a session is one of its own), so that a session's prefixes stay where they are. Replicas that share
nothing but the router do not influence each other: R simulations, one for each share, *are* the
fleet behind that router.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...traces import Trace
from ...traces.columns import session_numbers
from ...traces.repeat import repeated_in_time
from ..job import Report
from ..parallel import run_each
from ..server import Server
from ..slo import SLO
from .extent import rate_of
from .probe import Probe, at_rate, probe

MOST_SHARES = 32
"""Replicas that are simulated; of more, the first ones."""
LEAST_REQUESTS, MOST_REQUESTS = 2_000, 40_000
"""Of each replica, and of all: a shorter trace is served in several turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A target rate put on all replicas together."""

    num_replicas: int
    rate_per_s: float
    """Of all replicas."""
    attainment: float
    """Share of the counted requests of all simulated replicas that keep every limit."""
    worst_attainment: float
    """Of the replica that keeps them least."""
    goodput_per_s: float
    output_tokens_per_s: float
    holds: bool
    num_simulated: int
    """Replicas that were simulated."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


def share_of(trace: Trace, replica: int, num_replicas: int) -> Trace:
    """The sessions that one replica gets, at their times."""
    if num_replicas == 1:
        return trace
    rows = np.flatnonzero(session_numbers(trace.parent, len(trace)) % num_replicas == replica)
    return trace.take(rows.astype(np.int64))


def confirm(
    server: Server,
    trace: Trace,
    rate_per_s: float,
    slo: SLO,
    *,
    num_replicas: int,
    report: Report | None = None,
) -> Confirmation:
    """Serve the trace at a rate by so many replicas.

    Args:
        server: each replica.
        trace: whose requests and pattern of arrivals are kept.
        rate_per_s: of all replicas together.
        slo: the objective, which holds over all requests together.
        num_replicas: behind a round robin by session.
        report: told about progress.
    """
    simulated = min(num_replicas, MOST_SHARES)
    wanted = min(LEAST_REQUESTS * num_replicas, MOST_REQUESTS)
    turns = max(1, -(-wanted // len(trace)))
    whole = at_rate(trace if turns == 1 else repeated_in_time(trace, turns), rate_per_s)
    shares = [share_of(whole, replica, num_replicas) for replica in range(simulated)]
    tasks: list[tuple[str, Callable[[], Probe]]] = [
        (f"replica {n}", partial(_serve, server, share, slo))
        for n, share in enumerate(shares, start=1)
    ]
    probes = run_each(tasks, title=f"{rate_per_s:.3g}/s on {num_replicas}", report=report)
    counted = sum(one.num_counted for one in probes)
    kept = sum(one.attainment * one.num_counted for one in probes)
    attainment = kept / counted if counted else 0.0
    return Confirmation(
        num_replicas=num_replicas,
        rate_per_s=rate_per_s,
        attainment=attainment,
        worst_attainment=min(one.attainment for one in probes),
        goodput_per_s=rate_per_s * attainment,
        output_tokens_per_s=num_replicas
        * sum(one.output_tokens_per_s for one in probes)
        / len(probes),
        holds=attainment >= slo.quantile and all(one.keeps_up for one in probes),
        num_simulated=len(probes),
    )


def _serve(server: Server, share: Trace, slo: SLO) -> Probe:
    """A share at the times at which it arrives."""
    return probe(server, share, rate_of(share), slo)
