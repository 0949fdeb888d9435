"""A request of several sequences that share their prompt's KV: samples, or the beams of a search.

The first member computes the prompt while the others hold their seats; then the group *forks*: all
decode. Members of a group are admitted, preempted and swapped together (all or nothing); a sample
that has its last token leaves alone. The beams of a search go in step: all have the same length.
"""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from .beams import BeamSurvival
from .request import Request


class Folded(NamedTuple):
    """The block tables of a preempted group: which blocks its members shared."""

    tables: tuple[tuple[int, ...], ...]
    """One for each member: numbers from 0 on; a pinned block as its id, negative."""
    num_blocks: int
    """Different ones, pinned ones apart: so many to take again."""
    num_more: int
    """Blocks that the members' next tokens need beside them."""
    num_tokens: int
    """Slots of these blocks that held KV."""


class Group:
    """The sequences of one request, the first of which is the row's own."""

    __slots__ = (
        "folded",
        "forked",
        "hidden",
        "kept",
        "members",
        "num_in_batch",
        "recovering",
        "survival",
    )

    def __init__(self, members: list[Request], survival: BeamSurvival | None = None) -> None:
        self.members = members
        """Those that have not ended, in order; the first stands for all in the waiting queue."""
        self.survival = survival
        """Which beams go on after each step; None for samples."""
        self.forked = False
        """The prompt has been computed once, and all members decode or did."""
        self.recovering = False
        """The first member computes again what all of them had."""
        self.folded: Folded | None = None
        self.kept: list[int] = []
        """Known tokens of the members while the group is preempted or recovers."""
        self.num_in_batch = 0
        self.hidden = 0
        """Blocks that it holds several times without their KV being there: it recovers."""
        for member in members:
            member.group = self

    @property
    def width(self) -> int:
        """Sequences that have not ended."""
        return len(self.members)

    @property
    def num_lost(self) -> int:
        """Tokens to compute again after a preemption, with the last one that each member knows."""
        assert self.folded is not None, "only a preempted group has lost anything"
        return self.folded.num_tokens + len(self.members)

    def known_of(self, member: Request) -> int | None:
        """Known tokens of a member that is preempted or recovers; None while its own holds."""
        if not self.kept or member not in self.members:
            return None
        return self.kept[self.members.index(member)]

    def recovered_tokens(self, block_size: int) -> list[int]:
        """Of each member the tokens that are there again while the first computes for all.

        Its own come first, then what the others had beside those before them.
        """
        left, there = self.members[0].computed, list[int]()
        for place, known in enumerate(self.kept):
            shared = found = 0
            for other, tokens in zip(self.members[:place], there, strict=True):
                pairs = zip(self.members[place].blocks, other.blocks, strict=False)
                slots = block_size * sum(
                    1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)
                )
                if slots > shared:
                    shared, found = slots, min(slots, tokens)
            own = min(left, known - shared)
            left -= own
            there.append(found + own)
        return there

    def restore(self) -> None:
        """The members' known tokens are their own again."""
        for member, known in zip(self.members, self.kept, strict=True):
            member.known = known
        self.kept = []


def sequences(request: Request) -> list[Request]:
    """The request's group, or the request alone."""
    return [request] if request.group is None else request.group.members
