"""The tokens of a recorded run's requests, as ranges of token ids, and what they have in common.

The trace of a step log says which tokens are equal (``tests/golden/README.md``): by token ids, by
ranges of them, by hash ids of whole blocks, or by a length alone (then nothing is shared). The
outputs of request ``i`` are the ids ``2^61 + i * 2^22 + position``, so that a later prompt may
repeat them. Rows with ``output_hash_ids`` name the full blocks only, those of the prompt and those
that the output completed: equal ids are equal blocks, and what is in no full block is shared with
nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIRST_OUTPUT_ID = 1 << 61
OUTPUT_IDS_APART = 1 << 22
_FIRST_UNIQUE_ID = 1 << 90
_HASH_BLOCK_SIZE = 512

Range = tuple[int, int]
"""First token id, number of tokens."""


def prompt_ranges(row: dict[str, Any], number: int) -> list[Range]:
    """A prompt of a recorded trace; ``number`` is its row."""
    if "prompt_ranges" in row:
        return [(int(first), int(count)) for first, count in row["prompt_ranges"]]
    if "prompt_token_ids" in row:
        return _joined([(int(token), 1) for token in row["prompt_token_ids"]])
    if "hash_ids" in row:
        size = int(row.get("block_size", _HASH_BLOCK_SIZE))
        blocks = [(int(identifier) * size, size) for identifier in row["hash_ids"]]
        return _cut(blocks, int(row.get("prompt_tokens", len(blocks) * size)))
    return [(_FIRST_UNIQUE_ID + number * OUTPUT_IDS_APART, int(row["prompt_tokens"]))]


def recorded_prompts(rows: Sequence[dict[str, Any]]) -> list[list[Range]]:
    """The prompts of a recorded trace, in its order."""
    known: dict[int, list[Range]] = {}
    return [
        _linked(row, number, known) if "output_hash_ids" in row else prompt_ranges(row, number)
        for number, row in enumerate(rows)
    ]


def _linked(row: dict[str, Any], number: int, known: dict[int, list[Range]]) -> list[Range]:
    """A prompt of full blocks that rows before it may have; ``known`` learns those of this row."""
    prompt, size = int(row["prompt_tokens"]), int(row["block_size"])
    ranges: list[Range] = []
    for index, identifier in enumerate([*row["hash_ids"], *row["output_hash_ids"]]):
        own = _own_ranges(number, prompt, index * size, (index + 1) * size)
        block = known.setdefault(identifier, own)
        if (index + 1) * size <= prompt:
            ranges += block
    rest = sum(count for _, count in ranges)
    return _joined([*ranges, *_own_ranges(number, prompt, rest, prompt)])


def _own_ranges(number: int, prompt: int, first: int, last: int) -> list[Range]:
    """Tokens ``first`` to ``last`` of a request as if nobody shared them."""
    inside = (_FIRST_UNIQUE_ID + number * OUTPUT_IDS_APART + first, min(last, prompt) - first)
    skipped = max(first - prompt, 0)
    outside = (FIRST_OUTPUT_ID + number * OUTPUT_IDS_APART + skipped, last - max(first, prompt))
    return [part for part in (inside, outside) if part[1] > 0]


def longest_common(
    sequences: Sequence[list[Range]], prompt_tokens: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each prompt the earlier sequence with which it has most in common, and how many tokens.

    Row -1 where it has nothing in common with any.
    """
    rows = np.full(len(sequences), -1, dtype=np.int64)
    tokens = np.zeros(len(sequences), dtype=np.int64)
    beginning: dict[int, list[int]] = {}
    for row, sequence in enumerate(sequences):
        alike = beginning.setdefault(sequence[0][0], [])
        for other in alike:
            common = min(_common(sequence, sequences[other]), prompt_tokens[row])
            if common > tokens[row]:
                rows[row], tokens[row] = other, common
        alike.append(row)
    return rows, tokens


def _common(one: list[Range], other: list[Range]) -> int:
    """Length of the longest common beginning of two joined sequences."""
    length = 0
    for (first, count), (other_first, other_count) in zip(one, other, strict=False):
        if first != other_first:
            break
        length += min(count, other_count)
        if count != other_count:
            break
    return length


def _joined(ranges: list[Range]) -> list[Range]:
    """Neighbouring ranges made one, so that equal sequences have equal ranges."""
    joined: list[Range] = []
    for first, count in ranges:
        if joined and sum(joined[-1]) == first:
            joined[-1] = (joined[-1][0], joined[-1][1] + count)
        else:
            joined.append((first, count))
    return joined


def _cut(ranges: list[Range], length: int) -> list[Range]:
    cut: list[Range] = []
    for first, count in ranges:
        if length <= 0:
            break
        cut.append((first, min(count, length)))
        length -= count
    return cut
