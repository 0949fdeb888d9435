"""A regression run in the terminal: only what changed, then one line that sums up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .regress_rows import COLUMNS, change_row, headline, short, sorted_changes, stale_note
from .sheet import Sheet

if TYPE_CHECKING:
    from ..sim.regress.compare import Comparison
    from ..sim.regress.run import Regression
    from ..sim.regress.update import Update

MOST_ROWS = 8
"""Of one case; where a rule changes, every metric moves."""


def run_sheet(regression: Regression) -> Sheet | None:
    """The metrics that changed, those that fail first; None where nothing did."""
    return _sheet(regression.cases, "Changes against the baselines")


def update_sheet(update: Update) -> Sheet | None:
    """The metrics that are written anew; None where none are."""
    found = [case.comparison for case in update.cases if case.comparison is not None]
    return _sheet(found, "Changes of the baselines")


def _sheet(comparisons: Sequence[Comparison], title: str) -> Sheet | None:
    rows = [row for one in comparisons for row in _case_rows(one)]
    if not rows:
        return None
    columns = ("case", *COLUMNS)
    return Sheet(title=title, columns=columns, rows=tuple(rows), text_columns=(0, 1, 6))


def run_lines(regression: Regression) -> list[str]:
    """Step logs that differ, notes, and what it all comes to."""
    lines = [f"{one.name}: {one.message}" for one in regression.conformed if one.outcome.differs]
    for case in regression.cases:
        if case.notes and case.changes:
            lines.append(f"Note: {case.case}: {' and '.join(case.notes)}.")
    if regression.stale:
        lines.append(f"Note: {stale_note([path.name for path in regression.stale])}")
    if any(case.verdict == "improved" for case in regression.cases):
        lines.append("Note: kvsim regress update keeps what has improved.")
    verdict = "Failed" if regression.failed else "Passed"
    return [*lines, f"{verdict}. {headline(regression)}"]


def update_lines(update: Update) -> list[str]:
    """What becomes of each baseline that does not stay as it is, and the counts."""
    lines = []
    for case in update.cases:
        why = f": {case.why}" if case.why else ""
        if case.action != "unchanged":
            lines.append(f"{case.action}: {case.path.name}{why}")
    lines += [f"removed: {path.name}: there is no such case" for path in update.removed]
    counts = {
        action: sum(case.action == action for case in update.cases)
        for action in ("new", "rewritten", "unchanged")
    }
    counts["removed"] = len(update.removed)
    total = ", ".join(f"{number} {action}" for action, number in counts.items() if number)
    asked = "" if update.written else " Nothing was written (--dry-run)."
    return [*lines, f"Baselines: {total or 'none'}.{asked}"]


def _case_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    changes = sorted_changes(comparison)
    rows = [change_row(change) for change in changes[:MOST_ROWS]]
    hidden = changes[MOST_ROWS:]
    if hidden:
        failing = sum(change.fails for change in hidden)
        names = short([change.metric for change in hidden], most=0).strip()
        rows.append((names, "", "", "", "", f"{failing} of them fail" if failing else ""))
    return [(comparison.case if not index else "", *row) for index, row in enumerate(rows)]
