"""What a run has to say beside its figures: rows that were skipped, notes."""

from __future__ import annotations

from collections.abc import Sequence

from ..traces.trace import SkippedRow

MOST_SKIPPED_SHOWN = 10


def note_lines(skipped: Sequence[SkippedRow], notes: Sequence[str]) -> list[str]:
    """One line each; of many skipped rows the first ones and the count."""
    lines = [f"Skipped {row}" for row in skipped[:MOST_SKIPPED_SHOWN]]
    if len(skipped) > MOST_SKIPPED_SHOWN:
        lines.append(f"... and {len(skipped) - MOST_SKIPPED_SHOWN} more rows")
    if skipped:
        lines.append(f"Skipped {len(skipped)} rows in all; --strict makes the first one an error.")
    return [*lines, *(f"Note: {note}" for note in notes)]
