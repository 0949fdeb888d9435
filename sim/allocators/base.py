"""What an allocator of KV memory answers: does it fit, take it, give it back, what is it used for.

The pool is counted in *slots*, room for the KV of one token. An allocator never looks at the clock.
A new one implements the abstract methods and is right at once; it is fast when it also overrides
:meth:`Allocator.needers`, :meth:`Allocator.decode_steps` and :meth:`Allocator.decode`, which the
base class answers one request and one step at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from ..content import Segment
from ..group import Group
from ..request import Request
from .layout import Layout, TokensOf
from .tiers import Tier


class Usage(NamedTuple):
    """What the pool's slots are used for, in slots; what is left of the pool is free."""

    held: int
    """Granted to requests: holding KV, to be filled later, or never to be filled."""
    internal: int
    """Part of ``held`` that its owner will never fill."""
    external: int
    """Not granted, yet of use to nobody: placement holes and rounding."""
    cached: int = 0
    """Granted to nobody, but holding KV that a later request may find."""
    shared: int = 0
    """Slots that requests hold beside the first of them: saved by sharing."""
    dead: int = 0
    """Slots of computed tokens given back because nothing attends to them any more."""


class Growth(NamedTuple):
    """Slots granted at one step of a run of decode steps."""

    offset: int
    """Step of the run, from 0."""
    slots: int
    internal: int
    evicted: int = 0
    """Slots that held cached KV until now, less those that hold it from now on."""
    dead: int = 0
    shared: int = 0


class Allocator(ABC):
    """Owner of one replica's KV pool."""

    pool_slots: int
    slots_per_token: int = 1
    """Slots that a token fills: one for each group of layers."""
    watermark_slots: int = 0
    """Kept free when a request is admitted beside others."""
    tiers: Sequence[Tier] = ()
    """Memory below the GPU, from the GPU down."""
    num_evicted_blocks: int = 0
    """Blocks whose cached KV had to go so far."""
    num_copied_blocks: int = 0
    """Blocks copied so far because they had more than one holder when one of them wrote."""
    num_copied_slots: int = 0
    """Slots copied so far."""

    def __init__(self) -> None:
        self.decoders: dict[Request, None] = {}
        self.taken: list[int] = []
        """Ids of the blocks that the last admission or extension took, for a log."""
        self.in_flight: dict[Request, int] = {}
        """Asynchronously: tokens on their way of those who did not simply decode."""

    def cached_tokens(self, request: Request) -> int:
        """Leading tokens of a waiting request whose KV the prefix cache holds now.

        :meth:`can_admit` and :meth:`admit` count on them: they are shared, not computed.
        """
        return 0

    def keeps(self, segment: Segment) -> bool:
        """Whether the prefix cache, or a tier below it, has something of a segment."""
        return bool(segment.runs) or bool(segment.below)

    def must_load(self, request: Request) -> bool:
        """Whether some of what :meth:`cached_tokens` found is not on the GPU yet.

        :meth:`admit` then sets ``request.load``; the request computes when that is done.
        """
        return False

    def tier_tokens(self, request: Request) -> tuple[int, ...]:
        """Tokens of an admitted request that its load brings up from each tier."""
        return ()

    @abstractmethod
    def why_never(self, request: Request) -> str:
        """The reason why the request fits not even an empty pool; empty if it does."""

    @abstractmethod
    def can_admit(self, request: Request, tokens: int, *, others_run: bool) -> bool:
        """Whether a waiting request could get room for its first ``tokens`` tokens.

        Those that :meth:`cached_tokens` found are among them.
        """

    @abstractmethod
    def admit(self, request: Request, tokens: int) -> None:
        """Act on a :meth:`can_admit` that said yes."""

    @abstractmethod
    def extend(self, request: Request, tokens: int) -> bool:
        """Make room for ``tokens`` tokens in all; False, and nothing changed, if there is none."""

    @abstractmethod
    def release(self, request: Request) -> None:
        """Take back all that the request holds."""

    @abstractmethod
    def usage(self, *, blocked: bool) -> Usage:
        """What the pool is used for; ``blocked``: the head of the queue waits for memory."""

    @abstractmethod
    def check(self) -> None:
        """Raise AssertionError with the numbers where the ledger is wrong."""

    def layout(
        self, tokens_of: TokensOf, *, blocked: bool, view_slots: int | None = None
    ) -> Layout | None:
        """Where everything lies that :meth:`usage` counts; None where nothing has an address.

        Args:
            tokens_of: tokens of requests whose KV is there.
            blocked: the head of the queue waits for memory.
            view_slots: pieces from this address on may be left out.
        """
        return None

    def pieces(self, request: Request) -> list[tuple[int, int]]:
        """``(address, slots)`` of all that the request holds, in the order of its tokens."""
        return []

    @property
    def will_copy(self) -> bool:
        """Whether the next step copies blocks before it writes."""
        return False

    def fork(self, group: Group) -> None:
        """The first member has computed the prompt; the others get it, too.

        :meth:`admit` has admitted all of them with the first.
        """
        raise AssertionError(f"{type(self).__name__} has no sequences that share")

    def reorder(self, group: Group, parents: list[int], tokens: int) -> None:
        """Member ``i`` goes on from what member ``parents[i]`` holds, ``tokens`` tokens."""
        raise AssertionError(f"{type(self).__name__} has no sequences that share")

    def blocks_to_swap(self, request: Request) -> int:
        """Blocks that hold the computed tokens of a request that is preempted."""
        return 0

    def _copy_prompt(self, group: Group) -> None:
        """The first member's prompt, once for each of the others: nobody shares."""
        self.num_copied_slots += group.members[0].prompt_tokens * (group.width - 1)

    def _copy_moved(self, parents: list[int], tokens: int) -> None:
        """What a member goes on from, if it is not its own."""
        moved = sum(place != parent for place, parent in enumerate(parents))
        self.num_copied_slots += moved * tokens

    def fold(self, group: Group) -> None:
        """Take back all that a forked group holds; ``group.folded`` tells what it was."""
        raise AssertionError(f"{type(self).__name__} preempts no groups")

    def recovered(self, group: Group) -> None:  # noqa: B027  for shared blocks
        """A preempted group holds again, and has computed again, all that it had."""

    def start_decoding(self, request: Request) -> None:
        """The request needs room for one more token in every step from now on."""
        self.decoders[request] = None

    def stop_decoding(self, request: Request) -> None:
        """The request has ended, was preempted or is held back for a step."""
        del self.decoders[request]

    def unwalked(self, request: Request, step: int) -> None:  # noqa: B027  for a prefix cache
        """A decoding request loses the token that this step gave it; it is released next."""

    def learn(self, request: Request, tokens: int) -> None:  # noqa: B027  for a prefix cache
        """The step that computes the request's first ``tokens`` tokens has ended."""

    def may_admit_soon(self, request: Request) -> bool:
        """Whether a request that has no room may get some while others merely decode.

        They may write what :meth:`cached_tokens` then finds, or give blocks back.
        """
        return False

    def needers(self, step: int) -> list[Request]:
        """Decoding requests, in running order, that may need memory or write a full block."""
        return sorted(self.decoders, key=lambda request: request.sequence)

    def decode_steps(self, step: int, limit: int) -> int:
        """How many steps, at most ``limit``, all decoding requests can take from ``step`` on."""
        return 0

    def decode(self, step: int, steps: int) -> list[Growth]:
        """Grant what the next ``steps`` steps need (a :meth:`decode_steps` that said yes)."""
        raise AssertionError(f"{type(self).__name__} lets no more than single steps through")
