"""What was wrong with rows that could be kept: repaired, counted, and shown with row numbers.

A flaw is an error when reading strictly; a remark never is.
"""

from collections.abc import Iterable, Sequence

from ..trace import SkippedRow

_MOST_LISTED = 3


class Flaws:
    """Flaws and remarks of one file, by kind, in the order in which kinds were met."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[SkippedRow] = []
        self._lines: dict[str, list[int]] = {}

    def add(self, line: int, kind: str, reason: str) -> None:
        """A flaw: `kind` says what was done about rows like this, `reason` what is wrong here."""
        self.found.append(SkippedRow(file=self.file, row=line, reason=reason))
        self.remark(line, kind)

    def remark(self, line: int, kind: str) -> None:
        """Something worth counting that is no error."""
        self._lines.setdefault(kind, []).append(line)

    def forget(self, kinds: Iterable[str]) -> None:
        """Drop remarks that say nothing after all."""
        for kind in kinds:
            self._lines.pop(kind, None)

    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind."""
        return tuple(counted(kind, lines) for kind, lines in self._lines.items())


def counted(kind: str, lines: Sequence[int]) -> str:
    """`kind` with the number of rows and the first of them."""
    first = ", ".join(map(str, sorted(lines)[:_MOST_LISTED]))
    more = ", ..." if len(lines) > _MOST_LISTED else ""
    return f"{kind} (rows: {len(lines)}; {first}{more})"
