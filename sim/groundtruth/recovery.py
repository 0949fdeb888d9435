"""A group that computes again what its sequences had, sequence by sequence.

The ledger lets the first member stand for all: its tokens are those of the first sequence, then
what each further one has beside the blocks that it shares. An engine has to know which is which.
"""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from ..group import Group
from ..request import Request


class Piece(NamedTuple):
    """Tokens of one member to compute."""

    member: Request
    first: int
    stop: int


def pieces(group: Group, block_size: int, before: int, after: int) -> list[Piece]:
    """What a step computes that takes the group from so many tokens done to so many.

    The last one takes all that is left: where members had a partly filled block in common, each
    computes its own, and the ledger has counted it once.
    """
    whole = after >= group.members[0].known
    found, done = [], 0
    for place, (member, known) in enumerate(zip(group.members, group.kept, strict=True)):
        shared = _shared_tokens(group, place, block_size)
        own = known - shared
        first = min(max(before - done, 0), own)
        stop = own if whole else min(max(after - done, 0), own)
        if stop > first:
            found.append(Piece(member, shared + first, shared + stop))
        done += own
    return found


def _shared_tokens(group: Group, place: int, block_size: int) -> int:
    """Leading tokens that a member has in blocks of one before it."""
    mine, most = group.members[place].blocks, 0
    for other in group.members[:place]:
        pairs = zip(mine, other.blocks, strict=False)
        most = max(most, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return most * block_size
