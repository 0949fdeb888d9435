"""Traces that might have come instead: a block bootstrap of requests and of their arrivals.

A trace is cut into about sqrt(n) *stretches* of neighbouring sessions (a request without a parent
is a session of its own), and as many are drawn with replacement. Drawn stretches stay in order of
time, so that a trend over the day stays one; within a stretch everything stays together, so that
bursts of long requests and turns of one session do. The gaps between sessions are drawn likewise,
from a stream of their own: lengths and arrivals vary independently.

A session drawn for the c-th time lives in world c. Contents are shared within a world only: a copy
of a request does not find its own prompt cached, which would make the cache look better than it is.

Source: H. R. Kuensch, The jackknife and the bootstrap for general stationary observations, Annals
of Statistics 17 (1989); P. Bickel, F. Goetze and W. van Zwet, Resampling fewer than n observations,
Statistica Sinica 7 (1997), for drawing fewer than there are.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, sqrt
from typing import Any

import numpy as np

from .checks import DTYPES
from .columns import (
    Floats,
    Ids,
    Ints,
    inherited_start_s,
    offsets_of,
    session_numbers,
    take_chains,
    whole_ns,
)
from .trace import Trace

_LINKS = ("arrival_s", "hash_ids", "hash_offsets", "parent", "prefix_row", "prefix_tokens")
"""Columns that name other rows or are drawn anew."""


def resampled(
    trace: Trace,
    *,
    lengths: np.random.Generator,
    arrivals: np.random.Generator,
    num_requests: int | None = None,
) -> Trace:
    """Another trace of the same kind.

    Args:
        trace: with arrival times.
        lengths: stream of which sessions are drawn.
        arrivals: stream of which gaps are drawn.
        num_requests: about so many; by default as many as there are, and never more.

    Raises:
        ValueError: no arrival times.
    """
    starts_s = session_starts_s(trace)
    wanted = _sessions_of(trace, len(starts_s), num_requests)
    drawn = _drawn(len(starts_s), wanted, lengths)
    gaps_s = np.diff(starts_s)
    if len(gaps_s):
        gaps_s = gaps_s[_drawn(len(gaps_s), wanted - 1, arrivals)]
    return _assembled(trace, drawn, gaps_s)


def thinned(trace: Trace, num_requests: int) -> Trace:
    """About so many of its requests: stretches spread evenly, with their own gaps.

    The trace itself where it has no more.

    Raises:
        ValueError: no arrival times.
    """
    starts_s = session_starts_s(trace)
    wanted = _sessions_of(trace, len(starts_s), num_requests)
    if wanted == len(starts_s):
        return trace
    pieces = _stretches(len(starts_s))
    number = min(len(pieces), ceil(wanted / len(pieces[-1])))
    chosen = [pieces[place * len(pieces) // number] for place in range(number)]
    kept = np.concatenate(chosen)[:wanted]
    return _assembled(trace, kept, np.diff(starts_s, prepend=starts_s[0])[kept[1:]])


def with_burstiness(trace: Trace, exponent: float) -> Trace:
    """Every gap between sessions to this power, scaled to the same span.

    Above 1 short gaps become shorter and long ones longer; equal gaps stay equal.

    Raises:
        ValueError: no arrival times, an exponent that is not positive.
    """
    if not exponent > 0:
        raise ValueError(f"exponent(={exponent}) must be > 0.")
    starts_s = session_starts_s(trace)
    gaps_s = np.diff(starts_s)
    span_s = float(gaps_s.sum())
    if exponent == 1.0 or not span_s > 0:
        return trace
    bent = (gaps_s / gaps_s.mean()) ** exponent
    sessions = np.arange(len(starts_s), dtype=np.int64)
    return _assembled(trace, sessions, bent * (span_s / float(bent.sum())))


def session_starts_s(trace: Trace) -> Floats:
    """When each session begins, seconds, in order of their first rows.

    Raises:
        ValueError: no arrival times.
    """
    if trace.arrival_s is None:
        raise ValueError(f"trace {trace.name!r} has no arrival times: resampling needs them.")
    session = session_numbers(trace.parent, len(trace))
    return trace.arrival_s[np.unique(session, return_index=True)[1]]


def _sessions_of(trace: Trace, sessions: int, num_requests: int | None) -> int:
    if num_requests is None or num_requests >= len(trace):
        return sessions
    return min(sessions, max(2, round(sessions * num_requests / len(trace))))


def _stretches(count: int) -> list[Ints]:
    return np.array_split(np.arange(count, dtype=np.int64), ceil(sqrt(count)))


def _drawn(count: int, wanted: int, stream: np.random.Generator) -> Ints:
    """(wanted,) numbers below ``count`` in drawn stretches, those in ascending order."""
    pieces = _stretches(count)
    picks: list[int] = []
    missing = wanted
    while missing > 0:
        picks.append(int(stream.integers(len(pieces))))
        missing -= len(pieces[picks[-1]])
    chosen = [pieces[pick] for pick in sorted(picks)]
    return np.concatenate(chosen)[:wanted] if chosen else np.empty(0, dtype=np.int64)


def _assembled(trace: Trace, drawn: Ints, gaps_s: Floats) -> Trace:
    """These sessions one after the other, the first at 0, with so much time between their starts.

    Rows of a session keep their distance to its first.
    """
    assert trace.arrival_s is not None, "session_starts_s has looked"
    session = session_numbers(trace.parent, len(trace))
    members, offsets = np.argsort(session, kind="stable"), offsets_of(np.bincount(session))
    ids, ends = take_chains(members.astype(np.uint64), offsets, drawn)
    rows = ids.astype(np.int64)
    place = np.repeat(np.arange(len(drawn)), np.diff(ends))
    inherited_s = inherited_start_s(trace.arrival_s, trace.parent)
    begun_s = inherited_s[members[offsets[:-1]]]
    start_s = np.concatenate(([0.0], np.cumsum(gaps_s)))
    shift_s = start_s[place] - begun_s[session[rows]]
    order = np.lexsort((rows, place, whole_ns(inherited_s[rows] + shift_s)))
    rows, world = rows[order], _times_before(drawn)[place][order]
    columns: dict[str, Any] = {
        name: column[rows]
        for name in DTYPES
        if name not in _LINKS and (column := getattr(trace, name)) is not None
    }
    columns["arrival_s"] = whole_ns(trace.arrival_s[rows] + shift_s[order])
    columns |= _linked(trace, rows, world)
    if trace.hash_ids is not None and trace.hash_offsets is not None:
        ids, offsets = take_chains(_numbered(trace.hash_ids), trace.hash_offsets, rows)
        of_world = np.repeat(world, np.diff(offsets)) * (int(ids.max(initial=0)) + 1)
        columns |= {"hash_ids": ids + of_world.astype(np.uint64), "hash_offsets": offsets}
    return replace(trace, skipped=(), notes=(), num_out_of_order=0, **columns)


def _linked(trace: Trace, rows: Ints, world: Ints) -> dict[str, Any]:
    """Parents and prefix links, each within its world."""
    columns: dict[str, Any] = {
        name: np.full(len(rows), nothing, dtype=np.int64)
        for name, nothing in (("parent", -1), ("prefix_row", -1), ("prefix_tokens", 0))
        if getattr(trace, name) is not None
    }
    if not columns:
        return {}
    for number in range(int(world.max()) + 1):
        here = np.flatnonzero(world == number)
        here = here[np.argsort(rows[here], kind="stable")]
        copied = trace.take(rows[here])
        for name in ("parent", "prefix_row"):
            if (links := getattr(copied, name)) is not None:
                columns[name][here] = np.where(links < 0, -1, here[links])
        if copied.prefix_tokens is not None:
            columns["prefix_tokens"][here] = copied.prefix_tokens
    if "prefix_row" in columns:  # sessions that overlap otherwise than before: a link may not
        forward = columns["prefix_row"] >= np.arange(len(rows))  # point ahead
        columns["prefix_row"][forward], columns["prefix_tokens"][forward] = -1, 0
    return columns


def _times_before(drawn: Ints) -> Ints:
    """How often each number has come before in an array."""
    order = np.argsort(drawn, kind="stable")
    ordered = drawn[order]
    new = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    first = np.maximum.accumulate(np.where(new, np.arange(len(drawn)), 0))
    before = np.empty(len(drawn), dtype=np.int64)
    before[order] = np.arange(len(drawn)) - first
    return before


def _numbered(ids: Ids) -> Ids:
    """The ids' places among the distinct ones, so that worlds can be told apart by a sum."""
    return np.unique(ids, return_inverse=True)[1].astype(np.uint64)
