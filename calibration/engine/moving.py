"""Moves of blocks in calls: as many together as give what one after the other would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .steps import Move


def together(moves: Iterable[Move]) -> Iterator[list[Move]]:
    """Runs of moves of one kind of which none reads or writes what another one writes."""
    run: list[Move] = []
    read: set[int] = set()
    written: set[int] = set()
    for move in moves:
        one_pool = move.kind == "copy"
        clash = move.target in written or (
            one_pool and (move.source in written or move.target in read)
        )
        if run and (clash or move.kind != run[0].kind):
            yield run
            run, read, written = [], set(), set()
        run.append(move)
        read.add(move.source)
        written.add(move.target)
    if run:
        yield run


def spans(ids: list[int]) -> Iterator[tuple[int, int, int]]:
    """``(place, first id, count)`` of the stretches of ids that follow one another."""
    start = 0
    for place in range(1, len(ids) + 1):
        if place == len(ids) or ids[place] != ids[place - 1] + 1:
            yield start, ids[start], place - start
            start = place
