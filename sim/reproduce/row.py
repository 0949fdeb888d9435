"""A row of ``kvsim reproduce``: a name, what runs it, how long that takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .claim import Claim
from .setup import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One published table or figure."""

    run: Callable[[Setting], Claim]
    weight: float = 1.0
    """Roughly the seconds that it takes in the full set; long ones are started first."""
    only_full: bool = False
    """Not in the quick set unless it is named."""
