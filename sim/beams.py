"""Which beams of a beam search live on: a seeded model with one parameter.

A simulation has no token probabilities, so survival is drawn. The slots of a search of width w are
ranked, slot 0 is the best beam. Before decode step t = 1, 2, ...

    h(t) = min(1, FORGETTING / t)
    slot i keeps its beam with probability 1 - h(t) i / (w - 1)

each slot for itself; slot 0 always does. A beam that is dropped leaves its slot to a fork of the
next better beam that was kept. A kept beam stays in its slot, so that no blocks move.

FORGETTING is fitted to one figure, the blocks that beam search of width 2 saves on Alpaca
(PagedAttention, SOSP 2023, Fig. 15: 37.56 %); all others are predictions, per cent of blocks saved:

                width 2   width 4   width 6
    Alpaca      37.5      50.5      52.6      the paper: 37.56, 53.13, 55.16
    ShareGPT    45.1      61.9      65.5      the paper: 44.3 to 66.3

Why 1/t: with a rate that is the same in all steps beams of any length meet within a fixed number of
tokens; models of that kind predict 72 to 77 % for ShareGPT at width 6. With 1/t the way back to a
common ancestor grows with the text. ``tests/benchmarks/beam_fit.py`` fits again and prints these
and other models.
"""

from __future__ import annotations

from random import Random

FORGETTING = 8.7
"""Decode steps."""


class BeamSurvival:
    """One request's search of ``width`` beams (>= 1); the draws are those of its seed and index.

    The same on every platform: a Mersenne twister seeded with whole numbers (>= 0).
    """

    def __init__(self, *, width: int, seed: int, index: int) -> None:
        self.width = width
        self.step = 0
        self._draw = Random((seed << 64) | index).random

    def parents(self) -> list[int]:
        """The next decode step: slot i goes on from what slot ``parents[i]`` held before.

        ``parents[i] <= i``, and a slot that is anybody's parent is its own.
        """
        self.step += 1
        per_rank = min(1.0, FORGETTING / self.step) / max(1, self.width - 1)
        draw, kept, parents = self._draw, 0, [0]
        for slot in range(1, self.width):
            if draw() >= per_rank * slot:
                kept = slot
            parents.append(kept)
        return parents
