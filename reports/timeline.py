"""A run as a timeline that Perfetto and chrome://tracing open (the Trace Event Format, JSON).

Three processes: *running* has a track per seat, *waiting* as many as requests wait at once, and
*KV pool* has counters. A request takes the lowest free track and keeps it until it is preempted or
leaves. Where it runs it is a slice ``request 17`` around its phases, where it waits a slice of the
phase; arrows lead from its wait to its run and back. Counters are set as a run of steps begins.

Times are microseconds on the trace's clock, written to the nanosecond. At most
:data:`MOST_WAITING` tracks of waiting requests are written and :data:`MOST_COUNTS` settings of the
counters, evenly thinned; ``otherData`` says how many were left out.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..sim.phases import DECODE, LOADING, SEATED
from ..sim.result import CATEGORIES, REJECTED, Result
from ..sim.summary import plain
from .lanes import lowest_free_lanes
from .scrapes import whole_span_s

RUNNING, WAITING, POOL = 1, 2, 3
"""Process ids."""
MOST_WAITING = 512
MOST_COUNTS = 20_000
_TRACKS_OF = 1_000_000  # track ids of a process: no two processes share one
_ARGUMENTS = ("prompt_tokens", "output_tokens", "cached_tokens", "num_preemptions", "status")


def timeline_bytes(
    result: Result, *, name: str, about: Mapping[str, object] | None = None
) -> bytes:
    """The file's bytes, compressed where its name ends in ``.gz``.

    Args:
        result: the run.
        name: of the file: ``*.json`` or ``*.json.gz``.
        about: notes for ``otherData``, plain JSON values.

    Raises:
        ValueError: another name.
    """
    check_name(name)
    text = timeline_text(result, about=about).encode()
    return gzip.compress(text, 6, mtime=0) if name.endswith(".gz") else text


def check_name(name: str) -> None:
    """Refuse a file name that no viewer would know.

    Raises:
        ValueError: it does not end in .json or .json.gz.
    """
    if not name.endswith((".json", ".json.gz")):
        raise ValueError(f"timeline(={name!r}) must end in .json or .json.gz.")


def timeline_text(result: Result, *, about: Mapping[str, object] | None = None) -> str:
    """The JSON text: an event a line."""
    spells = _spells(result)
    shown = [spell for spell in spells if spell.process == RUNNING or spell.lane < MOST_WAITING]
    every = max(1, -(-len(result.segments["start_s"]) // MOST_COUNTS))
    left_out = {"waits_left_out": len(spells) - len(shown), "counters_set_at_every": every}
    events = [
        *_names(shown),
        *_slices(shown, result),
        *_arrows(shown),
        *_rejections(result),
        *_counters(result, every),
    ]
    notes = _json(plain({**(about or {}), **left_out}))
    begin = f'{{"displayTimeUnit":"ms","otherData":{notes},"traceEvents":['
    return "\n".join([begin, ",\n".join(events), "]}", ""])


class _Spell(NamedTuple):
    """A request on a track."""

    process: int
    lane: int
    request: int
    phases: list[tuple[str, int, int]]
    """Name, start and end in nanoseconds."""

    @property
    def begin_ns(self) -> int:
        return self.phases[0][1]

    @property
    def end_ns(self) -> int:
        return self.phases[-1][2]

    @property
    def track(self) -> str:
        return f'"pid":{self.process},"tid":{self.process * _TRACKS_OF + self.lane}'


def _spells(result: Result) -> list[_Spell]:
    """Waits and runs of all requests, in order of request and time, on their tracks."""
    phases = result.phases
    until_s = whole_span_s(result)[1]  # of what has not ended
    start_ns, end_ns = (
        np.rint(np.where(np.isnan(phases[name]), until_s, phases[name]) * 1e9).astype(np.int64)
        for name in ("start_s", "end_s")
    )
    rows = zip(
        phases["index"].tolist(),
        phases["phase"].tolist(),
        start_ns.tolist(),
        end_ns.tolist(),
        strict=True,
    )
    spells: list[_Spell] = []
    for index, name, begin, end in rows:
        process = RUNNING if name in SEATED else WAITING
        goes_on = spells and (spells[-1].request, spells[-1].process) == (index, process)
        if goes_on and (name == DECODE or spells[-1].phases[-1][0] == LOADING):
            spells[-1].phases.append((name, begin, end))
        else:
            spells.append(_Spell(process, 0, index, [(name, begin, end)]))
    return _on_tracks(spells)


def _on_tracks(spells: list[_Spell]) -> list[_Spell]:
    placed = list(spells)
    for process in (RUNNING, WAITING):
        places = [place for place, spell in enumerate(spells) if spell.process == process]
        begins = [spells[place].begin_ns for place in places]
        lanes = lowest_free_lanes(begins, [spells[place].end_ns for place in places])
        for place, lane in zip(places, lanes, strict=True):
            placed[place] = spells[place]._replace(lane=lane)
    return placed


def _names(spells: list[_Spell]) -> Iterator[str]:
    """Names and order of the processes and their tracks."""
    titles = {RUNNING: "running", WAITING: "waiting", POOL: "KV pool"}
    for process, title in titles.items():
        yield _named("process", f'"pid":{process}', title, process)
    for process, lane in sorted({(spell.process, spell.lane) for spell in spells}):
        word = "seat" if process == RUNNING else "waiting"
        track = _Spell(process, lane, 0, []).track
        yield _named("thread", track, f"{word} {lane + 1}", lane)


def _named(kind: str, track: str, title: str, order: int) -> str:
    return (
        f'{{"ph":"M",{track},"name":"{kind}_name","args":{{"name":{_json(title)}}}}},\n'
        f'{{"ph":"M",{track},"name":"{kind}_sort_index","args":{{"sort_index":{order}}}}}'
    )


def _slices(spells: list[_Spell], result: Result) -> Iterator[str]:
    place = {index: row for row, index in enumerate(result.requests["index"].tolist())}
    columns = {name: result.requests[name].tolist() for name in _ARGUMENTS}
    for spell in spells:
        row = place[spell.request]
        told = {name: column[row] for name, column in columns.items()}
        arguments = f',"args":{_json({"request": spell.request, **told})}'
        if spell.process == RUNNING:
            title = f"request {spell.request}"
            yield _slice(spell.track, title, "request", spell.begin_ns, spell.end_ns, arguments)
            arguments = ""
        for name, begin, end in spell.phases:
            yield _slice(spell.track, name, "phase", begin, end, arguments)


def _slice(track: str, name: str, kind: str, begin_ns: int, end_ns: int, arguments: str) -> str:
    times = f'"ts":{_us(begin_ns)},"dur":{_us(end_ns - begin_ns)}'
    return f'{{"ph":"X",{track},{times},"name":"{name}","cat":"{kind}"{arguments}}}'


def _arrows(spells: list[_Spell]) -> Iterator[str]:
    """From each spell of a request to its next."""
    for number, (spell, following) in enumerate(pairwise(spells)):
        if spell.request == following.request:
            same = f'"name":"request","cat":"flow","id":{number}'
            yield f'{{"ph":"s",{spell.track},"ts":{_us(spell.begin_ns)},{same}}}'
            yield f'{{"ph":"f","bp":"e",{following.track},"ts":{_us(following.begin_ns)},{same}}}'


def _rejections(result: Result) -> Iterator[str]:
    for row in np.flatnonzero(result.status == REJECTED).tolist():
        time = _us(round(float(result.requests["arrival_s"][row]) * 1e9))
        index, reason = int(result.requests["index"][row]), result.requests["reject_reason"][row]
        told = _json({"request": index, "reason": str(reason)})
        name = '"name":"rejected","cat":"request"'
        yield f'{{"ph":"i","s":"p","pid":{WAITING},"tid":0,"ts":{time},{name},"args":{told}}}'


def _counters(result: Result, every: int) -> Iterator[str]:
    """Slots by category, and who runs and waits, as segments begin; nothing after the last."""
    segments, starts = result.segments, result.starts
    start_ns = np.rint(segments["start_s"][::every] * 1e9).astype(np.int64).tolist()
    slots = [np.rint(starts[name][::every]).astype(np.int64).tolist() for name in CATEGORIES]
    counts = [segments[name][::every].tolist() for name in ("num_running", "num_waiting")]
    for time, *values in zip(start_ns, *slots, *counts, strict=True):
        yield _counter(time, "slots", CATEGORIES, values[: len(CATEGORIES)])
        yield _counter(time, "requests", ("running", "waiting"), values[len(CATEGORIES) :])
    end_ns = round(whole_span_s(result)[1] * 1e9)
    yield _counter(end_ns, "requests", ("running", "waiting"), [0, 0])


def _counter(time_ns: int, name: str, keys: tuple[str, ...], values: list[int]) -> str:
    told = ",".join(f'"{key}":{value}' for key, value in zip(keys, values, strict=True))
    return f'{{"ph":"C","pid":{POOL},"ts":{_us(time_ns)},"name":"{name}","args":{{{told}}}}}'


def _us(time_ns: int) -> str:
    sign = "-" if time_ns < 0 else ""
    return f"{sign}{abs(time_ns) // 1000}.{abs(time_ns) % 1000:03d}"


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
