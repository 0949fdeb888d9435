"""KV that is moved: copied on the GPU, or across PCIe; what it comes to and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .allocators import Allocator
from .swap import Swap


class Moves(Protocol):
    """What moving KV costs (see ``calibration.moves.BlockMoves``)."""

    @property
    def block_bytes(self) -> int: ...
    def copy_ns(self, num_blocks: int) -> float:
        """Nanoseconds to copy so many blocks on the GPU."""
        ...

    def copy_bytes_ns(self, num_bytes: int) -> float:
        """Nanoseconds to copy contiguous pieces on the GPU."""
        ...

    def swap_ns(self, num_blocks: int, *, inward: bool = False) -> float:
        """Nanoseconds to move so many blocks one way between GPU and host."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was moved in a run; bytes are one GPU's, 0 where nobody said what a block weighs."""

    num_copied_blocks: int = 0
    """Copied because they had several holders when one of them wrote."""
    num_copied_slots: int = 0
    """Tokens of the pool; a contiguous allocator copies whatever sequences have in common."""
    copied_bytes: int = 0
    num_swaps: int = 0
    """Preemptions whose KV went to host memory."""
    num_swapped_out_blocks: int = 0
    num_swapped_in_blocks: int = 0
    swapped_out_bytes: int = 0
    swapped_in_bytes: int = 0
    moving_ns: float = 0.0
    """Time of all copies and swaps, hidden behind compute or not."""

    def __bool__(self) -> bool:
        return bool(self.num_copied_slots or self.num_swaps)


class Mover:
    """Counts what allocator and swap moved, and adds its time to the steps.

    Copies and swaps are issued before a step's kernels on the same stream, so that they delay it;
    with ``overlap`` a swap runs beside them and only what is longer than the step delays it.
    """

    def __init__(
        self,
        allocator: Allocator,
        swap: Swap | None,
        moves: Moves | None,
        *,
        slots_per_block: int,
        overlap: bool = False,
    ) -> None:
        self._allocator = allocator
        self._swap = swap
        self._moves = moves
        self._slots_per_block = slots_per_block
        self._overlap = overlap
        self._blocks = self._slots = self._out = self._in = 0
        self._moving_ns = 0.0

    @property
    def pending(self) -> bool:
        """Whether something was moved that no step has paid for."""
        swap = self._swap
        return self._allocator.num_copied_slots > self._slots or (
            swap is not None and (swap.num_out_blocks > self._out or swap.num_in_blocks > self._in)
        )

    def step_ns(self, compute_ns: float) -> float:
        """A step's time, with what was moved since the last one."""
        allocator, swap, moves = self._allocator, self._swap, self._moves
        blocks = allocator.num_copied_blocks - self._blocks
        slots = allocator.num_copied_slots - self._slots
        self._blocks += blocks
        self._slots += slots
        copy_ns = swap_ns = 0.0
        if slots and moves is not None:
            if blocks:
                copy_ns = moves.copy_ns(blocks)
            else:
                copy_ns = moves.copy_bytes_ns(slots * moves.block_bytes // self._slots_per_block)
        if swap is not None:
            out, back = swap.num_out_blocks - self._out, swap.num_in_blocks - self._in
            self._out += out
            self._in += back
            if moves is not None and (out or back):
                swap_ns = float(round(moves.swap_ns(out)))
                swap_ns += float(round(moves.swap_ns(back, inward=True)))
        copy_ns = float(round(copy_ns))
        self._moving_ns += copy_ns + swap_ns
        if self._overlap:
            return max(compute_ns + copy_ns, swap_ns)
        return compute_ns + copy_ns + swap_ns

    def moved(self) -> Moved:
        """All of it so far."""
        swap, allocator = self._swap, self._allocator
        block_bytes = 0 if self._moves is None else self._moves.block_bytes
        out, back = (0, 0) if swap is None else (swap.num_out_blocks, swap.num_in_blocks)
        return Moved(
            num_copied_blocks=allocator.num_copied_blocks,
            num_copied_slots=allocator.num_copied_slots,
            copied_bytes=allocator.num_copied_slots * block_bytes // self._slots_per_block,
            num_swaps=0 if swap is None else swap.num_swaps,
            num_swapped_out_blocks=out,
            num_swapped_in_blocks=back,
            swapped_out_bytes=out * block_bytes,
            swapped_in_bytes=back * block_bytes,
            moving_ns=self._moving_ns,
        )
