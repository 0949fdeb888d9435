"""The shape of one step as it is typed: decodes as ``NxC``, prefills as ``NEW`` or ``NEW+PAST``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .demand import read_pair
from .step_cost import Batch

_CHUNK = re.compile(r"(\d+)(k?)(?:\+(\d+)(k?))?", re.IGNORECASE | re.ASCII)
MOST_SEQUENCES = 10**6
MOST_TOKENS = 10**9


def read_batch(decodes: Iterable[str], chunks: Iterable[str]) -> Batch:
    """All of them in one step; each text one group, or several in a comma list.

    Args:
        decodes: ``64x4096`` or ``64x4k``: so many decodes, each attending to so many tokens, its
            new one included.
        chunks: ``512`` or ``512+4096``: so many new tokens of a prompt after so many cached ones.

    Raises:
        ValueError: text of another form, a number out of range, or nothing at all.
    """
    groups = [_decodes(part) for text in decodes for part in text.split(",")]
    prefills = tuple(_chunk(part) for text in chunks for part in text.split(","))
    if not groups and not prefills:
        raise ValueError(
            "batch(=None) or chunk(=None) must be given: --batch 64x4096, --chunk 512."
        )
    return Batch(
        num_decodes=sum(count for count, _ in groups),
        decode_context_tokens=sum(count * tokens for count, tokens in groups),
        chunks=prefills,
        longest_context_tokens=max((tokens for _, tokens in groups), default=0),
    )


def _decodes(text: str) -> tuple[int, int]:
    pair = read_pair(text)
    if pair is None:
        raise ValueError(
            f"batch(={text!r}) must be NxC, N decodes of C tokens, such as 64x4096 or 64x4k."
        )
    if not (0 < pair[0] <= MOST_SEQUENCES and 0 < pair[1] <= MOST_TOKENS):
        raise ValueError(
            f"batch(={text!r}) must have N from 1 to {MOST_SEQUENCES:,} "
            f"and C from 1 to {MOST_TOKENS:,}."
        )
    return pair


def _chunk(text: str) -> tuple[int, int]:
    match = _CHUNK.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"chunk(={text!r}) must be NEW or NEW+PAST tokens, such as 512 or 512+4096."
        )
    new, past = _tokens(match[1], match[2]), _tokens(match[3] or "0", match[4])
    if not (0 < new <= MOST_TOKENS and past <= MOST_TOKENS):
        raise ValueError(
            f"chunk(={text!r}) must have NEW from 1 to {MOST_TOKENS:,} "
            f"and PAST at most {MOST_TOKENS:,}."
        )
    return new, past


def _tokens(digits: str, kilo: str | None) -> int:
    return int(digits) * (1024 if kilo else 1)
