"""How sure a decision is and what changes are worth: the figures of a plan that has them."""

from __future__ import annotations

from ...sim.plan import Plan
from ..decision_words import advice_line
from ..picture import Picture
from .answer_tornado import answer_tornado
from .confidence import confidence_picture
from .what_if import what_if_picture


def intervals(plan: Plan) -> Picture | None:
    """The winner's answer and the runner-up's as intervals."""
    found = None if plan.decision is None else plan.decision.confidence
    return None if found is None else confidence_picture(found)


def hangs_on(plan: Plan) -> Picture | None:
    """What the rate that holds hangs on."""
    found = None if plan.decision is None else plan.decision.confidence
    return None if found is None else answer_tornado(found)


def changes(plan: Plan) -> Picture | None:
    """What each change is worth."""
    decision = plan.decision
    if decision is None or not decision.what_ifs:
        return None
    return what_if_picture(decision.what_ifs, advice_line(decision))
