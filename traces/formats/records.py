"""JSONL traces: one JSON object per line, blank lines allowed; keys are looked up by name.

Length and time keys have synonyms, unknown keys are left alone. Prefix ids are read as integers,
never through a float: 64-bit hashes above 2^63 stay exact. Where a row's ids do not fit its
prompt:
- none or an empty list: the request stays, its prefix is unknown
- fewer than the prompt's blocks: the ids stay, as the prefix that is known
- more than the prompt's blocks: the surplus is dropped
- an id that is no whole number in [0, 2^64): it and those behind it are dropped
Each case is counted in the trace's notes, and all but the first are errors when reading strictly.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..trace import SkippedRow

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The JSON objects of a file with their line numbers, and the lines that hold none."""

    file: str
    rows: list[tuple[int, Record]]
    skipped: tuple[SkippedRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordLayout:
    """Where a JSONL format keeps what; the first key of a tuple that a row has is taken.

    `time` and `delay` map a key to nanoseconds per unit. `tokens` are keys with token ids, from
    which a chain is made where the row has no `hash_ids`.
    """

    time: dict[str, int]
    prompt: tuple[str, ...]
    output: tuple[str, ...]
    hash_block_size: int
    delay: dict[str, int] = field(default_factory=dict)
    session: str | None = None
    key: str | None = None
    parent_key: str | None = None
    parent_line: str | None = None  # key of the line number (from 1) of the previous turn
    tokens: tuple[str, ...] = ()
    full_blocks_only: bool = False  # no id for a last, partial block


def parse_records(text: str, file: str) -> Records:
    """Every line as a JSON object; a line that is none is skipped with a reason."""
    rows, skipped = [], []
    for line, part in _lines(text):
        try:
            record = json.loads(part)
        except (ValueError, RecursionError) as error:
            where = getattr(error, "colno", 1)
            reason = f"is not valid JSON ({getattr(error, 'msg', error)} at column {where})"
            skipped.append(SkippedRow(file=file, row=line, reason=reason))
            continue
        if isinstance(record, dict):
            rows.append((line, record))
        else:
            skipped.append(SkippedRow(file=file, row=line, reason="is not a JSON object"))
    return Records(file=file, rows=rows, skipped=tuple(skipped))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers; only a line feed ends a line."""
    for line, part in enumerate(text.split("\n"), start=1):
        if part and not part.isspace():
            yield line, part


def first_of(record: Record, keys: tuple[str, ...]) -> tuple[str, Any]:
    """The first of `keys` that the record has, with its value; the first key and None without."""
    for key in keys:
        if key in record:
            return key, record[key]
    return keys[0], None
