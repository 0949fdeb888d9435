"""Contiguous KV cache: one piece per request, reserved at admission for its whole life.

How much is reserved (the PagedAttention paper, section 6.1; Orca keeps one contiguous region):

    max     max_model_len, whatever the request turns out to need
    pow2    prompt + the output rounded up to a power of two (a good guess of the length),
            at most max_model_len
    oracle  exactly the slots that will be filled (the length is known)

Samples and beams have a piece each; what they have in common is copied from one to the other.
Where a piece goes is a :class:`~kvsim.sim.allocators.placement.Placement`.
"""

from __future__ import annotations

import numpy as np

from ..group import Group, sequences
from ..request import Request
from .base import Allocator, Growth, Usage
from .layout import Layout, TokensOf
from .placement import BestFit, Buddy, FirstFit, Placement, next_power_of_two

PLACEMENTS: dict[str, type[Placement]] = {
    "best_fit": BestFit,
    "buddy": Buddy,
    "first_fit": FirstFit,
}
RESERVATIONS = ("max", "oracle", "pow2")


class ContiguousAllocator(Allocator):
    """Reserves at admission, never grows, so a running request is never short of memory.

    Args:
        pool_slots: tokens that the pool holds.
        max_model_len: what ``max`` reserves.
        reservation: ``max``, ``pow2`` or ``oracle``.
        placement: ``buddy``, ``first_fit`` or ``best_fit``.

    Raises:
        ValueError: an unknown reservation or placement, a pool without a slot.
    """

    def __init__(
        self, *, pool_slots: int, max_model_len: int, reservation: str, placement: str
    ) -> None:
        super().__init__()
        if pool_slots < 1:
            raise ValueError(f"pool_slots(={pool_slots}) must be > 0.")
        if reservation not in RESERVATIONS:
            raise ValueError(f"reservation(={reservation!r}) must be one of {RESERVATIONS}.")
        if placement not in PLACEMENTS:
            raise ValueError(f"placement(={placement!r}) must be one of {tuple(PLACEMENTS)}.")
        self.pool_slots = pool_slots
        self.max_model_len = max_model_len
        self.reservation = reservation
        self.placement = PLACEMENTS[placement](pool_slots)
        self._empty = [size for _, size in self.placement.holes()]
        self._largest = max(self._empty)
        self._placed: dict[Request, None] = {}
        self._held_slots = 0
        self._rounding_slots = 0
        self._internal_slots = 0

    def reserved_for(self, request: Request) -> int:
        """Slots reserved for a request."""
        if self.reservation == "max":
            return self.max_model_len
        if self.reservation == "oracle":
            return request.kv_tokens
        output = request.total_tokens - request.prompt_tokens
        return min(request.prompt_tokens + next_power_of_two(output), self.max_model_len)

    def why_never(self, request: Request) -> str:
        piece = self.placement.granted(max(map(self.reserved_for, sequences(request))))
        if piece > self._largest:
            return f"reserves more slots in one piece than the {self._largest} of the largest"
        wanted = len(sequences(request))
        fitting = sum(size // piece for size in self._empty)
        return "" if wanted <= fitting else f"reserves {wanted} pieces where {fitting} fit"

    def can_admit(self, request: Request, tokens: int, *, others_run: bool) -> bool:
        if request.group is None:
            return self.placement.find(self.reserved_for(request)) is not None
        placed: list[tuple[int, int]] = []
        for size in map(self.reserved_for, request.group.members):
            address = self.placement.find(size)
            if address is None:
                break
            self.placement.take(address, size)
            placed.append((address, size))
        for address, size in reversed(placed):
            self.placement.give(address, size)
        return len(placed) == len(request.group.members)

    def admit(self, request: Request, tokens: int) -> None:
        for member in sequences(request):
            size = self.reserved_for(member)
            address = self.placement.find(size)
            assert address is not None, "admit() follows a can_admit() that said yes"
            self.placement.take(address, size)
            member.extent, member.reserved_tokens = address, size
            self._placed[member] = None
            self._count(member, +1)

    def fork(self, group: Group) -> None:
        self._copy_prompt(group)

    def reorder(self, group: Group, parents: list[int], tokens: int) -> None:
        self._copy_moved(parents, tokens)

    def extend(self, request: Request, tokens: int) -> bool:
        return True

    def release(self, request: Request) -> None:
        self.placement.give(request.extent, request.reserved_tokens)
        del self._placed[request]
        self._count(request, -1)

    def usage(self, *, blocked: bool) -> Usage:
        external = self._rounding_slots
        if blocked:  # nobody can use what is left: the head of the queue does not fit
            external += self.placement.free_slots
        elif self.reservation == "max":
            external += self.placement.unusable(self.max_model_len)
        return Usage(self._held_slots, self._internal_slots, external)

    def layout(
        self, tokens_of: TokensOf, *, blocked: bool, view_slots: int | None = None
    ) -> Layout:
        stop = self.pool_slots if view_slots is None else view_slots
        holders = [request for request in self._placed if request.extent < stop]
        pieces = [
            self._piece(owner, holders[owner], tokens)
            for owner, tokens in enumerate(tokens_of(holders))
        ]
        pieces += [(address, -1, 0, 0, 0, slots) for address, slots in self._waste(blocked)]
        starts, owners, *slots = np.array(sorted(pieces), dtype=np.int64).reshape(-1, 6).T
        table = np.stack([*slots, np.zeros_like(starts)])
        return Layout(starts=starts, slots=table, owners=owners, holders=holders)

    def pieces(self, request: Request) -> list[tuple[int, int]]:
        if request not in self._placed:
            return []
        return [(request.extent, self.placement.granted(request.reserved_tokens))]

    def _piece(self, owner: int, request: Request, tokens: int) -> tuple[int, ...]:
        """Address, owner and slots: filled, to be filled, never to be filled, rounding."""
        size = request.reserved_tokens
        rounding = self.placement.granted(size) - size
        later, never = request.kv_tokens - tokens, size - request.kv_tokens
        return request.extent, owner, tokens, later, never, rounding

    def _waste(self, blocked: bool) -> list[tuple[int, int]]:
        """Free pieces, or ends of them, that nobody can use."""
        holes = self.placement.holes()
        if blocked:
            return holes
        if self.reservation != "max":
            return []
        piece = self.placement.granted(self.max_model_len)
        return [(start + size - size % piece, size % piece) for start, size in holes]

    def start_decoding(self, request: Request) -> None:
        pass

    def stop_decoding(self, request: Request) -> None:
        pass

    def needers(self, step: int) -> list[Request]:
        return []

    def decode_steps(self, step: int, limit: int) -> int:
        return limit

    def decode(self, step: int, steps: int) -> list[Growth]:
        return []

    def check(self) -> None:
        pieces = sorted(
            [(r.extent, self.placement.granted(r.reserved_tokens)) for r in self._placed]
            + self.placement.holes()
        )
        end = 0
        for address, size in pieces:
            assert address == end, f"slots {address} and {end}: pieces overlap or leave a gap"
            end = address + size
        assert end == self.pool_slots, f"pieces end at {end}, the pool has {self.pool_slots} slots"
        held = sum(r.reserved_tokens for r in self._placed)
        assert held == self._held_slots, f"held {held} != {self._held_slots}"

    def _count(self, request: Request, sign: int) -> None:
        size = request.reserved_tokens
        self._held_slots += sign * size
        self._rounding_slots += sign * (self.placement.granted(size) - size)
        self._internal_slots += sign * (size - request.kv_tokens)
