"""TraceLab agent sessions: a workload CSV, or the sanitised round trace as JSON lines.

A row is a round of a session: a prompt of `prefix_len` tokens, which the session said before, and
`input_len` new ones (JSON lines: `prefix_tokens`, what the provider's cache hit, of
`input_tokens_total`). So a round begins like the round before it, for that many tokens. A later
round starts when the one before has ended and its tools have run: `tool_wait_after_ms`, or the time
from the last output event to the next round's last input event.

The CSV has one time per session (0 where it has none) and no times of later rounds; the JSON lines
have wall-clock times of every event, of which the last input event counts as the round's arrival.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..columns import NS_PER_S
from ..trace import SkippedRow
from .flaws import Flaws
from .jsonl import MS_NS, cancel_s_of
from .numbers import CANCEL_KEY, BadValueError, cancel_ns_of, count_of, integer_of, ns_of, shown
from .records import Record, parse_records
from .rows import NO_TIME_NS, Rows
from .tables import parse_table
from .wallclock import wall_clock_ns

CSV_COLUMNS = ("session_id", "round_idx", "prefix_len", "input_len", "output_len")
RECORD_KEYS = ("round_index", "prefix_tokens", "newly_append_tokens")
_WAIT = "tool_wait_after_ms"
_INPUT_EVENTS = ("user_message", "tool_result")
_NO_EARLIER = "prefixes of sessions' first rounds belong to no row and count as new"
_TOO_LONG = "prefixes longer than the round before and its output were cut to it"
_MISSING = "rounds follow the latest there is, as the round before is missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """One row: tokens, recorded start and end (ns), and pause after it (ns, None = by times)."""

    line: int
    session: Hashable
    number: int
    prompt: int
    output: int
    prefix: int
    cancel_s: float
    start_ns: int
    end_ns: int
    wait_ns: int | None


def read_tracelab(text: str, file: str) -> Rows:
    """The file's rounds, session by session. Raises ValueError where it is no such file."""
    if text.lstrip().startswith("{"):
        return _rows_of(file, *_read_records(text, file), timed=True)
    return _rows_of(file, *_read_table(text, file), timed=False)


def _read_table(text: str, file: str) -> tuple[list[_Round], list[SkippedRow]]:
    table = parse_table(text, file)
    for name in CSV_COLUMNS:
        if not table.has(name):
            raise ValueError(
                f"{file} is not tracelab: no column {name!r} among {table.listed_header}."
            )
    names = (*CSV_COLUMNS, "arrival_time", _WAIT, CANCEL_KEY)
    columns = [(name, table.column(name)) for name in names if table.has(name)]
    rounds, skipped = [], list(table.skipped)
    for row, line in enumerate(table.lines):
        cells = {name: column[row] for name, column in columns}
        try:
            rounds.append(_round_of_cells(cells, line))
        except BadValueError as error:
            skipped.append(SkippedRow(file=file, row=line, reason=str(error)))
    return rounds, skipped


def _round_of_cells(cells: dict[str, str], line: int) -> _Round:
    session = cells["session_id"].strip()
    if not session:
        raise BadValueError("session_id is missing")
    prefix = _whole(cells["prefix_len"], "prefix_len")
    added = _whole(cells["input_len"], "input_len")
    cancel = cells.get(CANCEL_KEY, "").strip()
    return _Round(
        line=line,
        session=session,
        number=_whole(cells["round_idx"], "round_idx"),
        prompt=count_of(prefix + added, "prefix_len + input_len"),
        output=count_of(cells["output_len"], "output_len"),
        prefix=prefix,
        cancel_s=cancel_ns_of(cancel) / NS_PER_S if cancel else float("nan"),
        start_ns=_not_negative_ns(cells.get("arrival_time", "0"), "arrival_time"),
        end_ns=NO_TIME_NS,
        wait_ns=_not_negative_ns(cells.get(_WAIT) or "0", _WAIT),
    )


def _read_records(text: str, file: str) -> tuple[list[_Round], list[SkippedRow]]:
    records = parse_records(text, file)
    rounds, skipped = [], list(records.skipped)
    for line, record in records.rows:
        try:
            rounds.append(_round_of_record(record, line))
        except BadValueError as error:
            skipped.append(SkippedRow(file=file, row=line, reason=str(error)))
    return rounds, skipped


def _round_of_record(record: Record, line: int) -> _Round:
    session = record.get("session_id")
    if not isinstance(session, str | int) or session == "":
        raise BadValueError("session_id is missing")
    start_ns, end_ns = _event_times(record.get("timing_events"))
    return _Round(
        line=line,
        session=session,
        number=_whole(record.get("round_index"), "round_index"),
        prompt=count_of(record.get("input_tokens_total"), "input_tokens_total"),
        output=count_of(record.get("output_tokens"), "output_tokens"),
        prefix=_whole(record.get("prefix_tokens"), "prefix_tokens"),
        cancel_s=cancel_s_of(record),
        start_ns=start_ns,
        end_ns=end_ns,
        wait_ns=None,
    )


def _event_times(events: Any) -> tuple[int, int]:
    """Last input event and last event (ns since 1970)."""
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise BadValueError("timing_events must be a list of objects")
    times = [(event.get("event_type"), _event_ns(event)) for event in events]
    inputs = [time for kind, time in times if kind in _INPUT_EVENTS]
    if not inputs:
        raise BadValueError("timing_events holds no user_message or tool_result")
    return max(inputs), max(time for _, time in times)


def _event_ns(event: Record) -> int:
    return wall_clock_ns(str(event.get("timestamp") or ""), "timestamp")


def _rows_of(file: str, rounds: list[_Round], skipped: list[SkippedRow], *, timed: bool) -> Rows:
    """Rows in order of the file, but each session's in order of its rounds."""
    flaws = Flaws(file)
    rounds = _in_order(rounds)
    previous = _previous(rounds)
    prefix, delay_ns, start_ns = [], [], []
    for one, before in zip(rounds, previous, strict=True):
        earlier = None if before < 0 else rounds[before]
        _check_number(one, earlier, flaws)
        prefix.append(_prefix_tokens(one, earlier, flaws))
        delay_ns.append(_delay_ns(one, earlier))
        start_ns.append(one.start_ns if timed or earlier is None else NO_TIME_NS)
    parent = np.array(previous, dtype=np.int64)
    cancel_s = np.array([one.cancel_s for one in rounds], dtype=np.float64)
    return Rows(
        file=file,
        lines=[one.line for one in rounds],
        prompt_tokens=np.array([one.prompt for one in rounds], dtype=np.int64),
        output_tokens=np.array([one.output for one in rounds], dtype=np.int64),
        time_ns=np.array(start_ns, dtype=np.int64),
        rebase=timed,
        session=[one.session for one in rounds],
        parent_row=parent,
        delay_s=np.where(parent < 0, np.nan, np.array(delay_ns, dtype=np.int64) / NS_PER_S),
        cancel_s=None if np.isnan(cancel_s).all() else cancel_s,
        prefix_row=parent,
        prefix_tokens=np.array(prefix, dtype=np.int64),
        closed=True,
        skipped=tuple(sorted(skipped, key=lambda skip: skip.row)),
        flaws=tuple(flaws.found),
        notes=flaws.notes(),
    )


def _in_order(rounds: list[_Round]) -> list[_Round]:
    """Each session's rounds by number, in the places that the session has in the file."""
    of_session: dict[Hashable, list[_Round]] = {}
    for one in rounds:
        of_session.setdefault(one.session, []).append(one)
    queues = {
        session: iter(sorted(own, key=lambda one: one.number))
        for session, own in of_session.items()
    }
    return [next(queues[one.session]) for one in rounds]


def _previous(rounds: Sequence[_Round]) -> list[int]:
    """Row of the session's round before, -1 for a first one."""
    latest: dict[Hashable, int] = {}
    previous = []
    for row, one in enumerate(rounds):
        previous.append(latest.get(one.session, -1))
        latest[one.session] = row
    return previous


def _check_number(one: _Round, before: _Round | None, flaws: Flaws) -> None:
    expected = 0 if before is None else before.number + 1
    if one.number > expected:
        reason = f"round_idx(={one.number}) of session_id(={shown(one.session)}) must be {expected}"
        flaws.add(one.line, _MISSING, reason)


def _prefix_tokens(one: _Round, before: _Round | None, flaws: Flaws) -> int:
    if before is None:
        if one.prefix:
            flaws.remark(one.line, _NO_EARLIER)
        return 0
    most = min(one.prompt, before.prompt + before.output)
    if one.prefix > most:
        flaws.add(one.line, _TOO_LONG, f"prefix_len(={one.prefix}) must be <= {most}")
    return min(one.prefix, most)


def _delay_ns(one: _Round, before: _Round | None) -> int:
    if before is None:
        return 0
    return max(0, one.start_ns - before.end_ns) if before.wait_ns is None else before.wait_ns


def _whole(value: Any, field: str) -> int:
    number = integer_of(value, field)
    if number < 0:
        raise BadValueError(f"{field}(={shown(value)}) must be >= 0")
    return number


def _not_negative_ns(text: str, field: str) -> int:
    time_ns = ns_of(text, field, MS_NS)
    if time_ns < 0:
        raise BadValueError(f"{field}(={shown(text)}) must be >= 0")
    return time_ns
