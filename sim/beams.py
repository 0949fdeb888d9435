"""Placeholder until the fitted model is merged."""

from __future__ import annotations

from random import Random


class BeamSurvival:
    """Moran model."""

    def __init__(self, *, width: int, seed: int, index: int) -> None:
        self.width = width
        self._random = Random(seed * 1_000_003 + index)

    def parents(self) -> list[int]:
        parents = list(range(self.width))
        if self._random.random() < 0.2:
            a, b = self._random.sample(parents, 2)
            parents[a] = b
        return parents
