"""What the sequences of a trace have in common, as an engine needs it: token by token."""

from __future__ import annotations

from ..content import shared_prefixes
from ..request import Request
from ..servable import Arrivals


class TraceContent:
    """Lengths and beginnings of the sequences of a trace (``calibration.engine.steps.Content``).

    Args:
        trace: whose rows they are.
        rows: the sequences of each row; a row's prompt is that of all its sequences.
        shared: whether prompts begin alike; else each is drawn afresh.
    """

    def __init__(self, trace: Arrivals, rows: list[list[Request]], *, shared: bool) -> None:
        self._requests = [one for row in rows for one in row]
        self._first: list[int] = []
        """The number of each row's first sequence."""
        count = 0
        for row in rows:
            self._first.append(count)
            count += len(row)
        self.number_of = {one: number for number, one in enumerate(self._requests)}
        self._rows: list[int] = []
        self._tokens: list[int] = []
        if shared:
            row_of, tokens = shared_prefixes(trace)
            self._rows, self._tokens = row_of.tolist(), tokens.tolist()

    @property
    def num_sequences(self) -> int:
        """Of all rows."""
        return len(self._requests)

    def prompt_tokens(self, sequence: int) -> int:
        """Its length."""
        return self._requests[sequence].prompt_tokens

    def prompt_of(self, sequence: int) -> int:
        """The row."""
        return self._requests[sequence].index

    def beginning(self, prompt: int) -> tuple[int, int]:
        """Of a row: whose first sequence it begins with, and how many tokens of it."""
        if not self._rows or self._rows[prompt] < 0:
            return -1, 0
        return self._first[self._rows[prompt]], self._tokens[prompt]
