"""NVIDIA Dynamo's request trace (`dynamo.request.trace.v1`), as written by the server.

Each line is an event: `request_end` is a request, logged as it ends; tool events tell why a turn
came when it did. A request arrives at `request_received_ms`; its prompt's ids are chained unsigned
64-bit hashes of `trace_block_size` tokens (ceil).

Closed loop: a request waits for the latest to end, by its own start, among the requests of its
session and the sessions that name this one as `parent_session_id` and were over; a session's first
request looks so among those of its parent session. The delay holds tool and think time: recorded
start minus the parent's recorded end (`event_time_unix_ms`).
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import NS_PER_S, Ints, offsets_of
from ..trace import SkippedRow
from .chains import MAX_ID, ChainBuilder
from .flaws import Flaws
from .jsonl import MS_NS, cancel_s_of
from .numbers import BadValueError, count_of, integer_of, ns_of, shown
from .records import Record, RecordLayout, Records, parse_records
from .rows import Rows
from .source import read_text

SCHEMA = "dynamo.request.trace.v1"
_LAYOUT = RecordLayout(
    time={"request_received_ms": MS_NS},
    prompt=("input_length",),
    output=("output_tokens",),
    hash_block_size=16,
)
_REQUEST = "request_end"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One request of a session: its row, when it was received and when it ended (ns)."""

    row: int
    session: Hashable
    parent_session: Hashable | None
    start_ns: int
    end_ns: int


def is_event(record: Any) -> bool:
    """Whether a JSON value is an event of such a trace."""
    event = record.get("event") if isinstance(record, dict) else None
    return isinstance(event, dict) and "event_type" in event


def read_dynamo(records: Records, hash_block_size: int | None) -> Rows:
    """The requests in the order in which they ended."""
    reader = _Reader(records.file, hash_block_size)
    for line, record in records.rows:
        try:
            reader.add(line, record)
        except BadValueError as error:
            reader.skipped.append(SkippedRow(file=records.file, row=line, reason=str(error)))
    return reader.rows(records.skipped)


def measured_cached_tokens(path: str | Path) -> Ints:
    """(n,) prompt tokens that the server itself found in its cache, in order of arrival.

    The rows are those of the trace that `load_trace` makes of the file. Raises ValueError where the
    file cannot be read or a request has no such number.
    """
    cached = _recorded(
        path, lambda request: integer_of(request.get("cached_tokens"), "cached_tokens")
    )
    return np.array(cached, dtype=np.int64)


def recorded_workers(path: str | Path) -> Ints:
    """(n,) the worker that decoded each request, in order of arrival; numbered from 0 by id.

    Each worker has a cache of its own. Raises ValueError where the file cannot be read or a request
    names no worker.
    """
    ids = _recorded(path, _worker_id)
    return np.unique(ids, return_inverse=True)[1].astype(np.int64)


def _worker_id(request: Record) -> int:
    number = _part(request, "worker").get("decode_worker_id")
    if type(number) is not int or not 0 <= number < MAX_ID:
        raise BadValueError(f"decode_worker_id(={shown(number)}) must be a whole number")
    return number


def _recorded(path: str | Path, read: Callable[[Record], int]) -> list[int]:
    """A number of each request that becomes a row of the trace, in order of arrival."""
    found = []
    records = parse_records(read_text(path), Path(path).name)
    reader = _Reader(records.file, None)
    for line, record in records.rows:
        num_turns = len(reader.turns)
        try:
            reader.add(line, record)
            if len(reader.turns) > num_turns:
                found.append((reader.turns[-1].start_ns, read(record["event"]["request"])))
        except BadValueError as error:
            if len(reader.turns) > num_turns:
                raise ValueError(f"{records.file} row {line}: {error}.") from error
    found.sort(key=lambda pair: pair[0])  # stable, as the trace is sorted
    return [number for _, number in found]


class _Reader:
    """The growing columns of one file."""

    def __init__(self, file: str, hash_block_size: int | None) -> None:
        self.file = file
        self.flaws = Flaws(file)
        self.chains = ChainBuilder(hash_block_size, _LAYOUT, self.flaws)
        self.lines: list[int] = []
        self.prompt: list[int] = []
        self.output: list[int] = []
        self.cancel_s: list[float] = []
        self.turns: list[_Turn] = []
        self.skipped: list[SkippedRow] = []

    def add(self, line: int, record: Record) -> None:
        """Take a request in; other events pass. Raises BadValueError."""
        event = record.get("event")
        if not isinstance(event, dict):
            raise BadValueError("event is missing")
        if event.get("event_type") != _REQUEST:
            return
        request = _part(event, "request")
        replay = request.get("replay")
        replay = replay if isinstance(replay, dict) else {}
        ids = {
            "hash_ids": replay.get("input_sequence_hashes"),
            "trace_block_size": replay.get("trace_block_size"),
        }
        block_size = self.chains.block_size_of(ids)
        start_ns = _ms(request, "request_received_ms")
        end_ns = _ms(event, "event_time_unix_ms") if "event_time_unix_ms" in event else start_ns
        prompt = count_of(replay.get("input_length", request.get("input_tokens")), "input_length")
        output = count_of(request.get("output_tokens"), "output_tokens")
        cancel_s = cancel_s_of(request)
        session, parent_session = _sessions(event)
        self.chains.add(line, ids, prompt, block_size)
        self.turns.append(
            _Turn(
                row=len(self.turns),
                session=len(self.turns) if session is None else ("session", session),
                parent_session=None if parent_session is None else ("session", parent_session),
                start_ns=start_ns,
                end_ns=max(start_ns, end_ns),
            )
        )
        self.lines.append(line)
        self.prompt.append(prompt)
        self.output.append(output)
        self.cancel_s.append(cancel_s)

    def rows(self, skipped: tuple[SkippedRow, ...]) -> Rows:
        """What was found."""
        self.chains.finish()
        chains = self.chains
        parent, delay_ns = _parents(self.turns)
        cancel_s = np.array(self.cancel_s, dtype=np.float64)
        return Rows(
            file=self.file,
            lines=self.lines,
            prompt_tokens=np.array(self.prompt, dtype=np.int64),
            output_tokens=np.array(self.output, dtype=np.int64),
            time_ns=np.array([turn.start_ns for turn in self.turns], dtype=np.int64),
            rebase=True,
            hash_ids=chains.hash_ids() if chains.any_ids else None,
            hash_offsets=offsets_of(chains.counts) if chains.any_ids else None,
            hash_block_size=chains.block_size if chains.any_ids else None,
            parent_row=parent,
            delay_s=np.where(parent < 0, np.nan, delay_ns / NS_PER_S),
            cancel_s=None if np.isnan(cancel_s).all() else cancel_s,
            closed=True,
            skipped=tuple(sorted((*skipped, *self.skipped), key=lambda skip: skip.row)),
            flaws=tuple(self.flaws.found),
            notes=self.flaws.notes(),
        )


def _parents(turns: list[_Turn]) -> tuple[Ints, Ints]:
    """Parent row of each turn (-1 = none) and the delay after its end (ns)."""
    parent = np.full(len(turns), -1, dtype=np.int64)
    delay_ns = np.zeros(len(turns), dtype=np.int64)
    final = {turn.session: turn.row for turn in sorted(turns, key=_end_ns)}
    ends: dict[Hashable, list[_Turn]] = {}  # by end: a session's turns, its children's last ones
    begun: set[Hashable] = set()
    for turn in sorted(turns, key=lambda turn: turn.start_ns):
        before = _ended(ends.get(turn.session, []), turn.start_ns)
        if turn.session not in begun and turn.parent_session is not None:
            calling = _ended(ends.get(turn.parent_session, []), turn.start_ns)
            before = max((x for x in (before, calling) if x), key=_end_ns, default=None)
        if before is not None:
            parent[turn.row] = before.row
            delay_ns[turn.row] = turn.start_ns - before.end_ns
        begun.add(turn.session)
        insort(ends.setdefault(turn.session, []), turn, key=_end_ns)
        if turn.parent_session is not None and final[turn.session] == turn.row:
            insort(ends.setdefault(turn.parent_session, []), turn, key=_end_ns)
    return parent, delay_ns


def _ended(by_end: list[_Turn], start_ns: int) -> _Turn | None:
    """The latest to end by this time."""
    place = bisect_right(by_end, start_ns, key=_end_ns)
    return by_end[place - 1] if place else None


def _end_ns(turn: _Turn) -> int:
    return turn.end_ns


def _sessions(event: Record) -> tuple[Hashable | None, Hashable | None]:
    context = event.get("agent_context")
    context = context if isinstance(context, dict) else {}
    names: list[Any] = [context.get(key) for key in ("session_id", "parent_session_id")]
    for name in names:
        if name is not None and not isinstance(name, str | int):
            raise BadValueError(f"session_id(={shown(name)}) must be a text or a whole number")
    return names[0], names[1]


def _part(record: Record, key: str) -> Record:
    part = record.get(key)
    if not isinstance(part, dict):
        raise BadValueError(f"{key} is missing")
    return part


def _ms(record: Record, key: str) -> int:
    return ns_of(record.get(key), key, MS_NS)
