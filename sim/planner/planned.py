"""A plan with the decision before it: choose a server, then show what it does at its rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...traces.intake import Taken, with_poisson
from ..job import Report
from ..plan import Plan, make_plan, with_default_arrivals
from .decide import decide
from .decision import Decision
from .extent import rate_of
from .grid import Grid
from .probe import at_rate
from .question import Question
from .shares import share_of
from .sure import made_sure


def make_planned(
    grid: Grid,
    taken: Taken,
    question: Question | None,
    *,
    work: Mapping[str, Any] | None = None,
    seed: int = 0,
    concurrency: int | None = None,
    page_sizes: Sequence[int] = (),
    report: Report | None = None,
) -> Plan:
    """The capacity plan of the server that a question chooses, or of the only one.

    Args:
        grid: the servers.
        taken: what they serve, with or without arrival times.
        question: objective and target; None where nothing is to be decided.
        work: what arrives, by the options of ``kvsim simulate``, for the recommendation's file.
        seed: of arrivals that are drawn.
        concurrency: clients of a closed loop.
        page_sizes: of virtual-contiguous allocators to compare with.
        report: told about progress.

    Raises:
        ValueError: as :func:`~kvsim.sim.plan.make_plan` and :func:`decide`.
    """
    if question is None:
        server = grid.base.server(taken.trace)
        if not taken.arrivals:
            taken = with_default_arrivals(server, taken, seed=seed, report=report)
        return make_plan(
            server, taken=taken, concurrency=concurrency, page_sizes=page_sizes, report=report
        )
    drawn = not taken.arrivals
    pattern = with_poisson(taken, rate_per_s=1.0, seed=seed, why="any rate") if drawn else taken
    decision = decide(grid, pattern.trace, question, report=report)
    decision = made_sure(decision, pattern.trace, question, seed=seed, report=report)
    decision = replace(decision, work=work_of_a_share(work or {}, taken, decision))
    best = decision.best
    assert best is not None, "without any server there is an error instead"
    server = best.server
    if drawn and decision.share_per_s is not None:
        why = share_words(decision)
        taken = with_poisson(taken, rate_per_s=decision.share_per_s, seed=seed, why=why)
    elif drawn:
        taken = with_default_arrivals(server, taken, seed=seed, report=report)
    else:
        taken = at_share(taken, decision)
    return make_plan(server, taken=taken, page_sizes=page_sizes, decision=decision, report=report)


def at_share(taken: Taken, decision: Decision) -> Taken:
    """What one chosen replica gets of a trace; the trace itself where it gets all of it."""
    target, chosen = decision.target_rate_per_s, decision.chosen
    if target is None or chosen is None:
        return taken
    own = rate_of(taken.trace)
    words, trace = taken.arrivals, taken.trace
    if abs(target / own - 1) > 1e-9:
        trace = at_rate(trace, target)
        words += f", sped up {target / own:.4g} times to {target:.4g}/s"
    if chosen.num_replicas > 1:
        trace = share_of(trace, 0, chosen.num_replicas)
        words += f"; {share_words(decision)}"
    return replace(taken, trace=trace, arrivals=words)


def work_of_a_share(work: Mapping[str, Any], taken: Taken, decision: Decision) -> dict[str, Any]:
    """The options that give one replica's traffic: all requests, at the replica's rate."""
    share, given = decision.share_per_s, dict(work)
    if share is None:
        return given
    if not taken.arrivals:
        return given | {"rate_per_s": share}
    faster = given.get("arrival_speedup_ratio") or 1.0
    return given | {"arrival_speedup_ratio": faster * share / rate_of(taken.trace)}


def share_words(decision: Decision) -> str:
    """What one replica gets, in words."""
    chosen, target = decision.chosen, decision.target_rate_per_s
    assert chosen is not None, "the caller has asked"
    if target is None:
        return "the highest rate that holds the objective"
    if chosen.num_replicas == 1:
        return "the target"
    return f"what one of {chosen.num_replicas} replicas gets of {target:.4g}/s"
