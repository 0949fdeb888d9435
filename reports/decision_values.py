"""What the page shows of a decision: its sentences, its tables, the file to paste."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..sim.plan import Plan
from ..sim.planner.toml import recommendation
from .decision_sheets import decision_sheets, evidence_sheets
from .decision_words import answer_lines, decision_lines
from .sections import DECISION, Entry, Section, sections
from .template import unbroken
from .verdict import verdict


def page_verdict(plan: Plan) -> str:
    """The first sentence of the page: what to deploy, where that was asked."""
    if plan.decision is None:
        return verdict(plan)
    return answer_lines(plan.decision)[0]


def decision_values(
    plan: Plan, figures: Mapping[str, Entry], directory: str | Path
) -> dict[str, object] | None:
    """Values of the template's section; None where nothing was to be decided."""
    decision = plan.decision
    if decision is None:
        return None
    return {
        "section": next(
            (part for part in sections(figures) if part.title == DECISION),
            Section(title=DECISION, figures=()),
        ),
        "lines": [unbroken(line) for line in decision_lines(decision)],
        "sheets": decision_sheets(decision, plan.block_sizes),
        "evidence": evidence_sheets(decision),
        "toml": recommendation(decision, directory) if decision.met else "",
    }
