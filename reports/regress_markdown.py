"""A regression run as Markdown, for a pull request or a job's summary.

GitHub takes no more than 65,536 characters in a comment: rows are cut off before that and counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .regress_rows import COLUMNS, change_row, headline, sorted_changes, stale_note

if TYPE_CHECKING:
    from ..sim.regress.compare import Change
    from ..sim.regress.run import Regression

MOST_ROWS = 200
_SPECIAL = "\\`*_{}[]<>#|~&"


def markdown(regression: Regression) -> str:
    """The page's text, with a final newline."""
    verdict = "failed" if regression.failed else "passed"
    pairs = [(case.case, change) for case in regression.cases for change in sorted_changes(case)]
    failing = [(case, change) for case, change in pairs if change.fails]
    other = [(case, change) for case, change in pairs if not change.fails]
    parts = [f"### kvsim regression: {verdict}", _escaped(headline(regression))]
    if failing:
        parts.append(_table(failing))
    parts += [
        f"**{_escaped(one.name)}** replays the real scheduler no more:\n\n{_code(one.message)}"
        for one in regression.conformed
        if one.outcome.differs
    ]
    if other:
        parts.append(_folded("Improved, or within tolerance", _table(other)))
    parts += [
        f"{_escaped(case.case)}: {' and '.join(case.notes)}."
        for case in regression.cases
        if case.notes and case.changes
    ]
    if regression.stale:
        parts.append(_escaped(stale_note([path.name for path in regression.stale])))
    return "\n\n".join(parts) + "\n"


def _table(pairs: Iterable[tuple[str, Change]]) -> str:
    rows = [_row((case, *change_row(change))) for case, change in pairs]
    head = [_row(("case", *COLUMNS)), "| --- | --- | ---: | ---: | ---: | ---: | --- |"]
    more = [f"\n... and {len(rows) - MOST_ROWS} more"] if len(rows) > MOST_ROWS else []
    return "\n".join([*head, *rows[:MOST_ROWS], *more])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """Text that stays text: no markup, no mention of a user, no line breaks."""
    one_line = " ".join(text.split()).replace("@", "@\N{ZERO WIDTH NON-JOINER}")
    return "".join(f"\\{sign}" if sign in _SPECIAL else sign for sign in one_line)


def _code(text: str) -> str:
    """A block indented by four is code whatever it holds."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"
