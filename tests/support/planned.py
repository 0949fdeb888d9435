"""Rate searches and decisions made by hand: no simulation, so that arithmetic says who wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvsim.sim.planner import decide as deciding
from kvsim.sim.planner import sizing
from kvsim.sim.planner.decide import decide
from kvsim.sim.planner.decision import Decision
from kvsim.sim.planner.grid import grid_of
from kvsim.sim.planner.probe import Probe
from kvsim.sim.planner.question import Question
from kvsim.sim.planner.search import RateSearch
from kvsim.sim.planner.shares import Confirmation
from kvsim.sim.server import Server
from kvsim.sim.slo import SLO
from kvsim.traces import Trace
from kvsim.traces.intake import Intake, take_in

OBJECTIVE = SLO(ttft_s=2.0, tpot_s=0.05)
TOKENS = 100.0
"""Output of a request, on average."""
HARDWARE: dict[str, Any] = {
    "gpu": "a100",
    "model": "llama-3.1-8b",
    "quantization": None,
    "price": None,
}
FLAGS: dict[str, Any] = {
    "block_size": 16,
    "kv_cache_dtype": "auto",
    "tensor_parallel_size": 1,
    "max_num_seqs": None,
    "max_num_batched_tokens": None,
    "enable_prefix_caching": None,
    "max_model_len": None,
    "gpu_memory_utilization": None,
    "step_cost": "affine:0.01,0.0001,0.0000001",
}


def a_probe(rate_per_s: float, **values: Any) -> Probe:
    """One that holds, of a server with nothing to wait for."""
    given: dict[str, Any] = {
        "rate_per_s": rate_per_s,
        "attainment": 1.0,
        "goodput_per_s": rate_per_s,
        "holds": True,
        "ttft_s": 0.1,
        "tpot_s": 0.02,
        "e2e_s": 2.0,
        "output_tokens_per_s": rate_per_s * TOKENS,
        "mean_running": 10.0,
        "num_preemptions": 0,
        "memory_bound": 0.0,
        "seat_bound": 0.0,
        "num_counted": 1000,
    }
    return Probe(**(given | values))


def a_search(rate_per_s: float, *, tpot_s: float = 0.061) -> RateSearch:
    """It holds so much; at 0 nothing, as TPOT is too long already with nothing to do."""
    if rate_per_s:
        probe = a_probe(rate_per_s)
        return RateSearch(
            slo=OBJECTIVE,
            probes=(probe,),
            saturated_per_s=1.2 * rate_per_s,
            best=probe,
            bound_by="compute",
        )
    probe = a_probe(0.1, attainment=0.0, goodput_per_s=0.0, holds=False, tpot_s=tpot_s)
    return RateSearch(
        slo=OBJECTIVE, probes=(probe,), saturated_per_s=5.0, best=None, bound_by="bandwidth"
    )


def fake_searches(monkeypatch: pytest.MonkeyPatch, rate: Callable[[Server], float]) -> list[str]:
    """A server holds the rate that is said here; returns the titles searched, as they come."""
    searched: list[str] = []

    def search(server: Server, trace: Trace, slo: SLO, *, title: str, **_: object) -> RateSearch:
        searched.append(title)
        return a_search(rate(server))

    def confirm(
        server: Server, trace: Trace, rate_per_s: float, slo: SLO, *, num_replicas: int, **_: object
    ) -> Confirmation:
        return a_confirmation(rate_per_s, num_replicas, holds=True)

    monkeypatch.setattr("kvsim.sim.parallel.num_cores", lambda: 1)
    monkeypatch.setattr(sizing, "search_rate", search)
    monkeypatch.setattr(deciding, "confirm", confirm)
    return searched


def a_confirmation(rate_per_s: float, num_replicas: int, *, holds: bool) -> Confirmation:
    kept = 0.99 if holds else 0.9
    return Confirmation(
        num_replicas=num_replicas,
        rate_per_s=rate_per_s,
        attainment=kept,
        worst_attainment=kept,
        goodput_per_s=kept * rate_per_s,
        output_tokens_per_s=TOKENS * rate_per_s,
        holds=holds,
        num_simulated=num_replicas,
    )


def a_trace(**intake: Any) -> Trace:
    given = {"workload": "sharegpt", "num_requests": 40, "rate_per_s": 4.0}
    return take_in(Intake(**(given | intake))).trace


def decided(
    hardware: dict[str, Any] | None = None,
    flags: dict[str, Any] | None = None,
    *,
    trace: Trace | None = None,
    **question: Any,
) -> Decision:
    """A decision over values; tuples are compared."""
    grid = grid_of({**HARDWARE, **(hardware or {})}, {**FLAGS, **(flags or {})})
    wanted = Question(slo=OBJECTIVE, **question)
    return decide(grid, a_trace() if trace is None else trace, wanted)


def reason(decision: Decision, title: str) -> str:
    """Why the server of that title lost."""
    return next(one.reason for one in decision.losers if one.title == title)
