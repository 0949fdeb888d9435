"""Batches as they are measured: lengths as runs ``[length, how many]``, even ones and drawn ones.

    lognormal  ln length ~ N(ln mean - 1/2, 1)
    bimodal    four of five about mean / 4, every fifth about 4 mean, each +- 25 %
    one_long   one with 30 to 70 % of the tokens, the others alike, each +- 25 %

No length is above ``LONGEST_TOKENS``, no batch above ``MAX_TOKENS`` by much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log
from random import Random

RAGGED_SHAPES = ("lognormal", "bimodal", "one_long")
LONGEST_TOKENS = 32_768
MAX_TOKENS = 1 << 20
SHORTEST_MEAN_TOKENS = 16

Runs = list[list[int]]


def ragged(kind: str, batch: int, mean_tokens: int, draw: Random) -> Runs:
    """Lengths of an uneven batch, as runs ``[length, how many]`` in the order of the batch."""
    mean = max(SHORTEST_MEAN_TOKENS, min(mean_tokens, MAX_TOKENS // batch))
    lengths = _DRAWN[kind](batch, mean, draw)
    return runs(min(LONGEST_TOKENS, max(1, round(length))) for length in lengths)


def _lognormal(batch: int, mean: int, draw: Random) -> list[float]:
    return [exp(draw.gauss(log(mean) - 0.5, 1.0)) for _ in range(batch)]


def _bimodal(batch: int, mean: int, draw: Random) -> list[float]:
    centres = [mean / 4 if i % 5 else 4.0 * mean for i in range(batch)]
    return [draw.uniform(0.75, 1.25) * centre for centre in centres]


def _one_long(batch: int, mean: int, draw: Random) -> list[float]:
    longest = draw.uniform(0.3, 0.7) * mean * batch
    others = (mean * batch - longest) / max(1, batch - 1)
    return [longest, *(draw.uniform(0.75, 1.25) * others for _ in range(batch - 1))]


_DRAWN = {"lognormal": _lognormal, "bimodal": _bimodal, "one_long": _one_long}


def runs(lengths: Iterable[int]) -> Runs:
    """Equal neighbours together."""
    found: Runs = []
    for length in lengths:
        if found and found[-1][0] == length:
            found[-1][1] += 1
        else:
            found.append([length, 1])
    return found


def lengths_of(seq_lens: Sequence[Sequence[int]]) -> list[int]:
    """One length for each sequence, from its runs."""
    return [length for length, count in seq_lens for _ in range(count)]
