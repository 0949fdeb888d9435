"""Access logs of OpenAI-compatible servers and gateways: JSON lines, or a list, with usage.

A row is a line (an entry of the list), numbered from 1. Its lengths are in OpenAI's `usage` object:
`prompt_tokens` and `completion_tokens` of chat and text completions, `input_tokens` and
`output_tokens` of the Responses API. It stands in the row itself, in `response`, or in
`response.body` (OpenAI's batch output); gateways such as LiteLLM (`StandardLoggingPayload` of its
logging specification) write the two counts flat beside `startTime` and `endTime`.

The arrival is the request's start where the row names one. A `timestamp` or `time` may have been
taken when the line was written, and OpenAI's `created` when the response was made: they count as
the arrival, and a note says so. Times are ISO 8601 texts or numbers since 1970, whose size tells
seconds from milli-, micro- and nanoseconds. What the server found in its cache (`cached_tokens`) is
counted in a note: a log has no token ids, so nothing is shared in the replay.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..columns import NS_PER_S
from ..trace import SkippedRow
from .gathered import Gathered
from .numbers import BadValueError, count_of, integer_of, ns_of, shown
from .records import Record, first_of, parse_records
from .rows import NO_TIME_NS, Rows
from .wallclock import wall_clock_ns

_PROMPT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_STARTS = (
    *("start_time", "startTime", "started_at", "request_start_time", "request_time"),
    *("request_timestamp", "arrival_time", "received_at"),
)
_LOGGED = ("timestamp", "@timestamp", "time", "ts", "datetime")
_CREATED = ("created", "created_at")
_CACHED = ("prompt_tokens_details", "input_tokens_details")
_IS_LOGGED = "the time of the log line counts as the arrival: it is the end where lines are written"
_IS_CREATED = "the time at which the response was created counts as the arrival"
_NUMBER = re.compile(r"\d+(\.\d*)?")
# numbers since 1970 below these are s, ms and us: each bound is the year 5138
_UNITS = ((1e11, NS_PER_S), (1e14, 1_000_000), (1e17, 1_000))
_MOST_MODELS = 3


def is_access(record: Any) -> bool:
    """Whether a JSON value looks like a row of such a log."""
    return isinstance(record, dict) and _usage(record) is not None


def read_openai_log(text: str, file: str) -> Rows:
    """The answered requests, in the file's order. Raises ValueError for a broken list."""
    skipped: list[SkippedRow] = []
    rows = list(_records(text, file, skipped))
    gathered, log = Gathered(file, tuple(skipped)), _Log()
    for line, record in rows:
        if gathered.attempt(line, partial(log.row, record)):
            for remark in log.remarks:
                gathered.flaws.remark(line, remark)
            log.count(record)
    return gathered.rows(log.notes())


class _Log:
    """Reads rows and remembers what notes say about them."""

    def __init__(self) -> None:
        self.remarks: list[str] = []  # of the row read last
        self.models: dict[str, None] = {}
        self.prompt_tokens = 0
        self.cached_tokens = 0

    def row(self, record: Record) -> tuple[int, int, int]:
        """Prompt, output (tokens) and arrival (ns). Raises BadValueError."""
        self.remarks = []
        usage = _usage(record)
        if usage is None:
            raise BadValueError(_failure(record))
        prompt_key, prompt = first_of(usage, _PROMPT)
        output_key, output = first_of(usage, _OUTPUT)
        tokens = count_of(prompt, prompt_key), count_of(output, output_key)
        return *tokens, self._arrival_ns(record)

    def count(self, record: Record) -> None:
        """Take a row that was kept into what the notes count."""
        usage = _usage(record) or {}
        self.prompt_tokens += count_of(first_of(usage, _PROMPT)[1], "prompt_tokens")
        self.cached_tokens += _cached_tokens(usage)
        for part in _parts(record):
            if isinstance(model := part.get("model"), str):
                self.models[model] = None

    def notes(self) -> tuple[str, ...]:
        """One sentence each."""
        notes = []
        if len(self.models) > 1:
            names = [shown(model) for model in self.models]
            listed = ", ".join(names[:_MOST_MODELS]) + (", ..." * (len(names) > _MOST_MODELS))
            notes.append(f"requests to {len(names)} models are one trace ({listed})")
        if self.cached_tokens:
            notes.append(
                f"the server found {self.cached_tokens} of {self.prompt_tokens} prompt tokens in "
                "its cache; the log does not say which, so nothing is shared here"
            )
        return tuple(notes)

    def _arrival_ns(self, record: Record) -> int:
        for keys, remark in ((_STARTS, ""), (_LOGGED, _IS_LOGGED), (_CREATED, _IS_CREATED)):
            for part in _parts(record):
                key, value = first_of(part, keys)
                if value is not None:
                    if remark:
                        self.remarks.append(remark)
                    return _since_epoch_ns(value, key)
        return NO_TIME_NS


def _records(text: str, file: str, skipped: list[SkippedRow]) -> Iterator[tuple[int, Record]]:
    if not text.lstrip().startswith("["):
        records = parse_records(text, file)
        skipped.extend(records.skipped)
        yield from records.rows
        return
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON: {error}.") from error
    for row, entry in enumerate(entries, start=1):
        if isinstance(entry, dict):
            yield row, entry
        else:
            skipped.append(SkippedRow(file=file, row=row, reason="is not a JSON object"))


def _parts(record: Record) -> Iterator[Record]:
    """The row, its response and its response's body."""
    yield record
    response = record.get("response")
    if isinstance(response, dict):
        yield response
        if isinstance(body := response.get("body"), dict):
            yield body


def _usage(record: Record) -> Record | None:
    """Where the counts are; None where there are none."""
    for part in _parts(record):
        usage = part.get("usage")
        if isinstance(usage, dict) and any(key in usage for key in _PROMPT):
            return usage
        if all(key in part for key in (_PROMPT[0], _OUTPUT[0])):
            return part
    return None


def _failure(record: Record) -> str:
    for part in _parts(record):
        status = part.get("status_code", part.get("status"))
        if part.get("error") or (isinstance(status, int) and status >= 400):
            what = part.get("error") or f"status {status}"
            message = what.get("message", what) if isinstance(what, dict) else what
            return f"the request failed ({shown(message, 80)})"
    return "usage is missing"


def _cached_tokens(usage: Record) -> int:
    _, details = first_of(usage, _CACHED)
    value = details.get("cached_tokens") if isinstance(details, dict) else None
    try:
        return 0 if value is None else max(0, integer_of(value, "cached_tokens"))
    except BadValueError:
        return 0  # it is in a note only


def _since_epoch_ns(value: Any, key: str) -> int:
    """An ISO 8601 text, or a number since 1970 in the unit that its size tells."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        return wall_clock_ns(value, key)
    size = abs(ns_of(value, key, 1))
    unit = next((ns for bound, ns in _UNITS if size < bound), 1)
    return ns_of(value, key, unit)
