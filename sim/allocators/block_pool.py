"""A pool of single blocks: who holds them, which are free in which order, what they hold.

``golden/RULES.md`` 1, block by block; contents are told apart by group and number.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

NULL = 0
"""The null block, which nobody holds."""


class BlockPool:
    """Blocks: who holds them, which are free, what they hold."""

    def __init__(self, num_blocks: int, num_groups: int) -> None:
        self.free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))
        self.refs = [0] * num_blocks
        self.key_of: list[tuple[int, int] | None] = [None] * num_blocks
        self.blocks_of: list[dict[int, list[int]]] = [{} for _ in range(num_groups)]
        self.num_cached = self.num_shared = self.num_evicted = 0
        self.changes = 0

    def take(self, count: int) -> list[int]:
        """Blocks from the front; one that holds a content loses it now."""
        taken = []
        for _ in range(count):
            block, _ = self.free.popitem(last=False)
            if (found := self.key_of[block]) is not None:
                self._forget(block, *found)
                self.num_evicted += 1
                self.num_cached -= 1
            self.refs[block] = 1
            taken.append(block)
        return taken

    def touch(self, block: int) -> None:
        """One more holder of a block with content."""
        if self.refs[block]:
            self.num_shared += 1
        else:
            del self.free[block]
            self.num_cached -= 1
        self.refs[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One holder less; those without content to the front, as a stack, the others behind."""
        empty = []
        for block in blocks:
            if block == NULL:
                continue
            self.refs[block] -= 1
            if self.refs[block]:
                self.num_shared -= 1
            elif self.key_of[block] is None:
                empty.append(block)
            else:
                self.free[block] = None
                self.num_cached += 1
        for block in reversed(empty):
            self.free[block] = None
            self.free.move_to_end(block, last=False)

    def register(self, block: int, group: int, key: int) -> None:
        """A full block can be found; of several copies the first is."""
        self.changes += 1
        self.key_of[block] = (group, key)
        self.blocks_of[group].setdefault(key, []).append(block)

    def forget(self) -> None:
        """No block holds a content any more."""
        self.changes += 1
        self.key_of = [None] * len(self.key_of)
        self.blocks_of = [{} for _ in self.blocks_of]
        self.num_cached = 0

    def _forget(self, block: int, group: int, key: int) -> None:
        self.changes += 1
        self.key_of[block] = None
        copies = self.blocks_of[group][key]
        copies.remove(block)
        if not copies:
            del self.blocks_of[group][key]
