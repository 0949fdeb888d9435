"""Which beams of a beam search live on: a seeded model with one parameter.

There are no token probabilities in a simulation, so survival is drawn. The slots of a search of width
w are ranked, slot 0 is the best beam. Before decode step t = 1, 2, ...

    h(t) = min(1, FORGETTING / t)
    slot i keeps its beam with probability 1 - h(t) i / (w - 1)

each slot for itself; slot 0 always does. A beam that is dropped gives its slot to a fork of the next
better beam that was kept. A kept beam stays in its slot, so that no blocks move.

Why 1/t: the share of what could be saved that the paper's searches do save is the same for requests
of 58 and of 338 output tokens (at width 2 about 0.92), so the distance back to a common ancestor
grows with the text. Models with one rate for all steps forget in a fixed number of tokens and
predict 77 % saved for ShareGPT at width 6, where 66.3 % is the most that the paper prints.
"""

from __future__ import annotations

from random import Random

FORGETTING = 8.33


class BeamSurvival:
    """One request's search of ``width`` beams (>= 1); ``seed`` and ``index`` (>= 0) choose its draws.

    The same on every platform: a Mersenne twister seeded with whole numbers.
    """

    def __init__(self, width: int, seed: int, index: int) -> None:
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
