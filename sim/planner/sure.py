"""A decision with its error band, and with what other changes would be worth."""

from __future__ import annotations

from dataclasses import replace

from ...traces import Trace
from ..job import Report
from .confidence import confidence
from .decision import Decision
from .lift import suggested
from .question import Question
from .what_if import WhatIf, what_if


def made_sure(
    decision: Decision,
    trace: Trace,
    question: Question,
    *,
    seed: int = 0,
    report: Report | None = None,
) -> Decision:
    """Run the chosen server and the runner-up at the ends of what is not known.

    Args:
        decision: without a confidence; returned as it is where nothing was chosen.
        trace: with arrival times.
        question: how many runs, which changes.
        seed: of the traces that might have come.
        report: told about progress.
    """
    chosen, slo, target = decision.chosen, decision.slo, decision.target_rate_per_s
    if chosen is None:
        return decision
    found = None
    if question.confidence_runs:
        found = confidence(
            chosen,
            decision.runner_up,
            trace,
            slo,
            target_rate_per_s=target,
            seed=seed,
            runs=question.confidence_runs,
            report=report,
        )
    changes: tuple[WhatIf, ...] = ()
    if question.what_ifs:
        changes = what_if(
            chosen,
            question.what_ifs,
            trace,
            slo,
            suggested=suggested(chosen),
            target_rate_per_s=target,
            seed=seed,
            report=report,
        )
    return replace(decision, confidence=found, what_ifs=changes)
