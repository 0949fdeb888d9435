"""A table as data: columns and rows of text, shown by ``tables`` in a terminal and by the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Rows of printed cells; names lead, numbers stand right.

    Raises:
        ValueError: a row of another length than the header.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: tuple[int, ...] = (0,)
    """Columns that hold words; the others hold numbers and stand right."""
    total_row: bool = False
    """The last row sums up those before it."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"row(={row!r}) must have {len(self.columns)} cells.")
