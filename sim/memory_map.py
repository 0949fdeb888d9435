"""The memory map: what lies where in the first part of the pool, over time.

Columns are looks at the pool, each lasting until the next; rows are addresses of equal size, from 0
on: the *view*. A cell has the category that fills most of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .result import CATEGORIES

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marked:
    """One request in the view."""

    index: int
    """Row in the trace."""
    cells: NDArray[np.bool_]
    """(num_rows, num_looks): it holds some of the cell's slots."""
    tokens: int
    """Tokens of it that had KV when it was last seen."""
    slots: int
    """Slots of the whole pool that it held then."""
    num_areas: int
    """Separate areas of the whole pool in which they lay."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemoryMap:
    """Cells of address and time.

    Raises:
        ValueError: arrays whose shapes do not fit together, or times or addresses that fall.
    """

    edges_s: Floats
    """(num_looks + 1,) beginnings of the columns and the end of the last, seconds."""
    edges_slots: Ints
    """(num_rows + 1,) addresses at which the rows begin and end, slots."""
    pool_slots: int
    cells: NDArray[np.uint8]
    """(num_rows, num_looks) indices into ``CATEGORIES``: what fills most of the cell."""
    slots: Ints
    """(len(CATEGORIES), num_looks) slots of the view, to the slot."""
    marked: Marked | None

    def __post_init__(self) -> None:
        shape = len(self.edges_slots) - 1, len(self.edges_s) - 1
        for name, wanted in (("cells", shape), ("slots", (len(CATEGORIES), shape[1]))):
            if getattr(self, name).shape != wanted:
                raise ValueError(f"{name}.shape(={getattr(self, name).shape}) must be {wanted}.")
        if self.marked is not None and self.marked.cells.shape != shape:
            raise ValueError(f"marked.cells.shape(={self.marked.cells.shape}) must be {shape}.")
        for name in ("edges_s", "edges_slots"):
            if (np.diff(getattr(self, name)) < 0).any():
                raise ValueError(f"{name}(={getattr(self, name)!r}) must not fall.")

    @property
    def duration_s(self) -> float:
        """Time that the columns cover."""
        return float(self.edges_s[-1] - self.edges_s[0])

    @property
    def view_share(self) -> float:
        """Part of the pool that the rows cover."""
        return float(self.edges_slots[-1] / self.pool_slots)

    def shares(self) -> Mapping[str, float]:
        """Time-weighted shares of the view by category; they sum to 1."""
        durations = np.diff(self.edges_s)
        weights = durations if durations.sum() > 0 else np.ones_like(durations)
        means = self.slots @ weights / weights.sum() / self.edges_slots[-1]
        return dict(zip(CATEGORIES, means.tolist(), strict=True))
