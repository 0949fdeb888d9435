"""Host memory for preempted requests: what it holds, and when it is the cheaper way.

The PagedAttention paper, section 4.5: the blocks of a preempted request are copied to host memory
and come back when it is admitted again, or they are dropped and computed again. A block that was
swapped out is in host memory only. What does not fit there is computed again.
"""

from __future__ import annotations

from collections.abc import Callable

from .request import Request


class Swap:
    """The host pool of one replica.

    Args:
        num_blocks: blocks that it holds.
        is_cheaper: whether swapping so many blocks costs less than computing so many tokens; None
            = always swap.
    """

    def __init__(
        self, num_blocks: int, is_cheaper: Callable[[int, int], bool] | None = None
    ) -> None:
        self.num_blocks = num_blocks
        self.num_used = 0
        self.num_swaps = 0
        self.num_out_blocks = 0
        self.num_in_blocks = 0
        self._is_cheaper = is_cheaper
        self._held: dict[Request, int] = {}

    def takes(self, num_blocks: int, num_tokens: int) -> bool:
        """Whether a victim of so many blocks and computed tokens is swapped out."""
        if not num_blocks or self.num_used + num_blocks > self.num_blocks:
            return False
        return self._is_cheaper is None or self._is_cheaper(num_blocks, num_tokens)

    def take(self, request: Request, num_blocks: int) -> None:
        """The blocks of a request, or of its group, come here."""
        self._held[request] = num_blocks
        self.num_used += num_blocks
        self.num_out_blocks += num_blocks
        self.num_swaps += 1

    def bring(self, request: Request) -> None:
        """They go back to the GPU."""
        self.num_in_blocks += self._held[request]
        self.drop(request)

    def drop(self, request: Request) -> None:
        """Nobody needs them any more."""
        self.num_used -= self._held.pop(request)

    def check(self) -> None:
        """Raise AssertionError where the ledger is wrong."""
        assert sum(self._held.values()) == self.num_used, "host blocks held and counted differ"
        assert self.num_used <= self.num_blocks, f"{self.num_used} of {self.num_blocks} host blocks"
        for request in self._held:
            assert request.swapped_tokens, f"{request} is in host memory and on the GPU"
            assert not request.blocks, f"{request} is in host memory and on the GPU"
