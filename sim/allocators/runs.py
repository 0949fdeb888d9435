"""Runs of blocks: what the prefix cache holds, shares and evicts as one."""

from __future__ import annotations

from ..content import Segment
from .tiers import Load


class Run:
    """Blocks ``first``, ``first + 1``, ... of a segment; in the free queue while nobody holds it.

    A queued run is taken from its tail. Runs of one segment may overlap, where two requests wrote
    the same content: the one that was registered first is found (``segment.runs`` is in order).
    """

    __slots__ = ("after", "before", "first", "ids", "load", "refs", "segment")

    before: Run
    after: Run

    def __init__(self, segment: Segment, first: int, ids: list[int], refs: int) -> None:
        self.segment = segment
        self.first = first
        self.ids = ids
        self.refs = refs
        self.load: Load | None = None
        """What brings its contents up from a tier; None where they were computed here."""

    @property
    def stop(self) -> int:
        """One behind the last block."""
        return self.first + len(self.ids)

    def insert_before(self, place: Run) -> None:
        """Enter the free queue just before ``place``."""
        self.before, self.after = place.before, place
        place.before.after = self
        place.before = self

    def unlink(self) -> None:
        """Leave the free queue."""
        self.before.after, self.after.before = self.after, self.before


def first_copy(segment: Segment, depth: int, stop: int) -> tuple[Run, int] | None:
    """The run whose copy of block ``depth`` was registered first, and how far it is the first."""
    runs = segment.runs
    for place, run in enumerate(runs):
        if run.first <= depth < run.stop:
            end = min(run.stop, stop)
            for earlier in runs[:place]:
                if depth < earlier.first < end:
                    end = earlier.first
            return run, end
    return None
