"""A regression run as GitHub's workflow commands: annotations on the suite's lines.

A runner shows the first ten errors and the first ten warnings of a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .regress_rows import change_sentence, sorted_changes, stale_note

if TYPE_CHECKING:
    from ..sim.regress.run import Regression

_MOST_SENTENCES = 10


def github_lines(regression: Regression) -> Iterator[str]:
    """A line for each case that fails or has improved, each step log that differs."""
    for case in regression.cases:
        sentences = [change_sentence(change) for change in sorted_changes(case)]
        more = len(sentences) - _MOST_SENTENCES
        shown = [*sentences[:_MOST_SENTENCES], *([f"And {more} more."] if more > 0 else [])]
        level = {"regressed": "error", "improved": "notice"}.get(case.verdict)
        if level is not None:
            title = f"{case.case} {case.verdict}"
            yield github_line(level, "\n".join(shown), regression.suite, case.line, title)
    for one in regression.conformed:
        if one.outcome.differs:
            title = f"{one.name} differs from the real scheduler"
            yield github_line("error", one.message, regression.suite, one.line, title)
    if regression.stale:
        text = stale_note([path.name for path in regression.stale])
        yield github_line("warning", text, regression.suite, None, "baselines without a case")


def github_line(level: str, message: str, file: Path, line: int | None, title: str) -> str:
    """``::error file=SUITE.toml,line=3,title=...::message`` with everything escaped."""
    places = {"file": file.as_posix(), "line": line, "title": title}
    given = [f"{key}={_property(str(value))}" for key, value in places.items() if value is not None]
    return f"::{level} {','.join(given)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
