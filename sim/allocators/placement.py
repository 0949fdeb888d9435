"""Where a contiguous piece goes in an address space of slots: buddy, first fit, best fit.

Knuth, The Art of Computer Programming 1, section 2.5. The buddy system hands out powers of two; a
pool that is none is cut into the aligned powers of two that its size is the sum of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, insort


def next_power_of_two(n: int) -> int:
    """The smallest power of two that is >= n (n >= 1)."""
    return 1 << (n - 1).bit_length()


class Placement(ABC):
    """Free space of one address space of ``size`` slots."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.free_slots = size

    @abstractmethod
    def granted(self, size: int) -> int:
        """Slots taken from the pool for a piece of ``size`` slots."""

    @abstractmethod
    def find(self, size: int) -> int | None:
        """Address where a piece of ``size`` slots would go; None if it fits nowhere. Asks only."""

    @abstractmethod
    def take(self, address: int, size: int) -> None:
        """Act on a :meth:`find`."""

    @abstractmethod
    def give(self, address: int, size: int) -> None:
        """Give a piece back; neighbours join."""

    @abstractmethod
    def holes(self) -> list[tuple[int, int]]:
        """Free pieces as ``(address, size)`` in address order, as the placement sees them."""

    def largest(self) -> int:
        """Size of the largest free piece."""
        return max((size for _, size in self.holes()), default=0)

    def unusable(self, size: int) -> int:
        """Free slots left over however many pieces of ``size`` slots are placed."""
        piece = self.granted(size)
        return sum(hole % piece for _, hole in self.holes())


class _FitList(Placement):
    """Free pieces in address order; the subclasses choose among those that are large enough."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._starts = [0]
        self._sizes = {0: size}

    def granted(self, size: int) -> int:
        return size

    def take(self, address: int, size: int) -> None:
        hole = self._sizes.pop(address)
        at = bisect_left(self._starts, address)
        if hole > size:
            self._starts[at] = address + size
            self._sizes[address + size] = hole - size
        else:
            del self._starts[at]
        self.free_slots -= size

    def give(self, address: int, size: int) -> None:
        starts, sizes = self._starts, self._sizes
        self.free_slots += size
        at = bisect_left(starts, address)
        if at < len(starts) and starts[at] == address + size:
            size += sizes.pop(starts.pop(at))
        if at and starts[at - 1] + sizes[starts[at - 1]] == address:
            sizes[starts[at - 1]] += size
        else:
            starts.insert(at, address)
            sizes[address] = size

    def holes(self) -> list[tuple[int, int]]:
        return [(start, self._sizes[start]) for start in self._starts]


class FirstFit(_FitList):
    """The lowest address at which the piece fits."""

    def find(self, size: int) -> int | None:
        sizes = self._sizes
        return next((start for start in self._starts if sizes[start] >= size), None)


class BestFit(_FitList):
    """The smallest hole that the piece fits into; the lowest address among equals."""

    def find(self, size: int) -> int | None:
        fitting = [(hole, start) for start, hole in self._sizes.items() if hole >= size]
        return min(fitting)[1] if fitting else None


class Buddy(Placement):
    """Powers of two that split in halves and join with their buddy."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._free: dict[int, list[int]] = {1 << i: [] for i in range(size.bit_length())}
        address = 0
        for piece in sorted(self._free, reverse=True):
            if size & piece:
                self._free[piece].append(address)
                address += piece

    def granted(self, size: int) -> int:
        return next_power_of_two(size)

    def find(self, size: int) -> int | None:
        piece = next_power_of_two(size)
        while piece in self._free:
            if self._free[piece]:
                return self._free[piece][0]
            piece *= 2
        return None

    def take(self, address: int, size: int) -> None:
        wanted = next_power_of_two(size)
        piece = wanted
        while not self._free[piece]:
            piece *= 2
        self._free[piece].pop(0)
        while piece > wanted:
            piece //= 2
            insort(self._free[piece], address + piece)
        self.free_slots -= wanted

    def give(self, address: int, size: int) -> None:
        piece = next_power_of_two(size)
        self.free_slots += piece
        while self._remove(piece, address ^ piece):
            address &= ~piece
            piece *= 2
        insort(self._free[piece], address)

    def holes(self) -> list[tuple[int, int]]:
        return sorted((start, piece) for piece, starts in self._free.items() for start in starts)

    def _remove(self, piece: int, address: int) -> bool:
        """Take a free buddy out of its list; False if it is in use or no piece of the pool."""
        if 2 * piece not in self._free:
            return False
        starts = self._free[piece]
        at = bisect_left(starts, address)
        if at == len(starts) or starts[at] != address:
            return False
        del starts[at]
        return True
