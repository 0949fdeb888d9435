"""What a server is asked to hold at once: N requests of L tokens, written ``NxL``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PATTERN = re.compile(r"(\d+)x(\d+)(k?)", re.IGNORECASE | re.ASCII)
MOST = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """So many requests of so many tokens each (prompt and output), all at once.

    Raises:
        ValueError: a count that is not positive, or beyond any server.
    """

    num_requests: int
    tokens: int

    def __post_init__(self) -> None:
        if not (0 < self.num_requests <= MOST and 0 < self.tokens <= MOST):
            raise ValueError(f"for(='{self}') must have N and L > 0, and at most {MOST:,}.")

    def __str__(self) -> str:
        return f"{self.num_requests}x{self.tokens}"


def read_demand(text: str) -> Demand:
    """``64x8192``, or ``64x8k`` with k = 1,024.

    Raises:
        ValueError: text of another form.
    """
    pair = read_pair(text)
    if pair is None:
        raise ValueError(
            f"for(={text!r}) must be NxL, N requests of L tokens, such as 64x8192 or 64x8k."
        )
    return Demand(num_requests=pair[0], tokens=pair[1])


def read_pair(text: str) -> tuple[int, int] | None:
    """``64x8192`` or ``64x8k`` as two numbers, None for text of another form."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        return None
    count, tokens, kilo = match.groups()
    return int(count), int(tokens) * (1024 if kilo else 1)


def read_demands(texts: Iterable[str]) -> tuple[Demand, ...]:
    """Each text one demand, or several in a comma list; in order, each once.

    Raises:
        ValueError: as :func:`read_demand`.
    """
    parts = (part for text in texts for part in text.split(","))
    return tuple(dict.fromkeys(read_demand(part) for part in parts))
