"""CSV traces: columns are found by name (case and outer blanks forgiven), never by position.

Whole columns are converted at once; a row is looked at singly only to say what is wrong with it.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import NS_PER_S, Floats, Ints
from ..tenants import TENANT_KEYS
from ..trace import SkippedRow
from .numbers import CANCEL_KEY, Parsed, cancel_ns_of, parse_counts, parse_each, parse_ns, shown
from .rows import Rows
from .wallclock import parse_wall_clock

TIME_UNITS_NS = {"s": NS_PER_S, "ms": 1_000_000, "us": 1_000, "ns": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvColumns:
    """Columns of a generic CSV file; `timestamp_column` None = lengths only.

    `timestamp_unit`: s, ms, us or ns for numbers; dates and times are recognised as such.
    """

    timestamp_column: str | None = None
    prompt_tokens_column: str
    output_tokens_column: str
    timestamp_unit: str = "s"

    def __post_init__(self) -> None:
        if self.timestamp_unit not in TIME_UNITS_NS:
            known = ", ".join(TIME_UNITS_NS)
            raise ValueError(f"timestamp_unit(={self.timestamp_unit}) must be one of {known}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLayout:
    """Where a CSV format keeps what; `ns_per_unit` None = wall-clock text.

    `rebase`: times count from elsewhere, the earliest arrival becomes 0.
    """

    time: str | None
    prompt: str
    output: str
    ns_per_unit: int | None = NS_PER_S
    time_optional: bool = False
    session: str | None = None
    rebase: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        times = () if self.time is None or self.time_optional else (self.time,)
        return (*times, self.prompt, self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A parsed CSV file: header (normalised), text columns, and the line number of each row."""

    file: str
    header: tuple[str, ...]
    columns: tuple[Sequence[str], ...]
    lines: Sequence[int]
    skipped: tuple[SkippedRow, ...]

    def column(self, name: str) -> Sequence[str]:
        return self.columns[self.header.index(_normal(name))]

    @property
    def listed_header(self) -> str:
        """The column names for a message."""
        return shown(", ".join(name or '""' for name in self.header), 300)

    def has(self, name: str | None) -> bool:
        return name is not None and _normal(name) in self.header


LAYOUTS = {
    # Azure/AzurePublicDataset: 2023 without zone and 7 digits, 2024 with zone and mostly 6
    "azure": TableLayout(
        time="TIMESTAMP",
        prompt="ContextTokens",
        output="GeneratedTokens",
        ns_per_unit=None,
        rebase=True,
    ),
    # HPMLL/BurstGPT: seconds of the whole collection, file 3 starts at 19,440,110
    "burstgpt": TableLayout(
        time="Timestamp",
        prompt="Request tokens",
        output="Response tokens",
        session="Session ID",
        rebase=True,
    ),
    # microsoft/vidur, sarathi, etalon: seconds from the first request; some files have lengths only
    "vidur": TableLayout(
        time="arrived_at",
        prompt="num_prefill_tokens",
        output="num_decode_tokens",
        time_optional=True,
    ),
    # Mutinifni/splitwise-sim: seconds from the start
    "splitwise": TableLayout(time="arrival_timestamp", prompt="prompt_size", output="token_size"),
}


def generic_layout(columns: CsvColumns, table: Table) -> TableLayout:
    """The layout a user names; times that are no plain numbers are read as dates."""
    for name in (
        columns.timestamp_column,
        columns.prompt_tokens_column,
        columns.output_tokens_column,
    ):
        if name is not None and not table.has(name):
            found = table.listed_header
            raise ValueError(f"{table.file} has no column {name!r}; its columns are: {found}.")
    dates = table.has(columns.timestamp_column) and _looks_like_date(
        table.column(columns.timestamp_column or "")
    )
    return TableLayout(
        time=columns.timestamp_column,
        prompt=columns.prompt_tokens_column,
        output=columns.output_tokens_column,
        ns_per_unit=None if dates else TIME_UNITS_NS[columns.timestamp_unit],
        rebase=True,
    )


def parse_table(text: str, file: str) -> Table:
    """Split CSV text into columns; ragged rows are skipped with a reason."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"{file} row {reader.line_num} is not CSV: {error}.") from error
    plain = reader.line_num == len(rows)  # no field holds a line break
    lines = list(range(1, len(rows) + 1)) if plain else _line_numbers(text)
    start = next((i for i, row in enumerate(rows) if any(map(str.strip, row))), len(rows))
    if start == len(rows):
        raise ValueError(f"{file} holds no requests.")
    header = tuple(_normal(name) for name in rows[start])
    return _columns_of(file, header, rows[start + 1 :], lines[start + 1 :])


def _columns_of(
    file: str, header: tuple[str, ...], rows: list[list[str]], lines: list[int]
) -> Table:
    width = len(header)
    skipped = []
    if set(map(len, rows)) - {width}:
        skipped = [
            SkippedRow(file=file, row=line, reason=f"has {len(row)} fields, the header has {width}")
            for line, row in zip(lines, rows, strict=True)
            if row and len(row) != width
        ]
        lines = [line for line, row in zip(lines, rows, strict=True) if len(row) == width]
        rows = [row for row in rows if len(row) == width]
    columns = tuple(zip(*rows, strict=True)) if rows else tuple(() for _ in header)
    return Table(file=file, header=header, columns=columns, lines=lines, skipped=tuple(skipped))


def read_table(table: Table, layout: TableLayout) -> Rows:
    """The table's requests, with a reason for each row that is none."""
    prompt, bad_prompt = parse_counts(table.column(layout.prompt), layout.prompt)
    output, bad_output = parse_counts(table.column(layout.output), layout.output)
    time_ns: Ints | None = None
    bad_time: dict[int, str] = {}
    if layout.time is not None and table.has(layout.time):
        time_ns, bad_time = _time_parser(layout)(table.column(layout.time))
    cancel_s, bad_cancel = _cancels(table)
    reasons = {**bad_cancel, **bad_output, **bad_prompt, **bad_time}
    skipped = [SkippedRow(file=table.file, row=table.lines[i], reason=reasons[i]) for i in reasons]
    kept = [i for i in range(len(prompt)) if i not in reasons]
    return Rows(
        file=table.file,
        lines=[table.lines[i] for i in kept],
        prompt_tokens=prompt[kept],
        output_tokens=output[kept],
        time_ns=None if time_ns is None else time_ns[kept],
        rebase=layout.rebase,
        session=_names(table, layout.session, kept),
        tenant=_names(table, next(filter(table.has, TENANT_KEYS), None), kept),
        cancel_s=None if cancel_s is None else cancel_s[kept],
        skipped=tuple(sorted((*table.skipped, *skipped), key=lambda skip: skip.row)),
    )


def _time_parser(layout: TableLayout) -> Callable[[Sequence[str]], Parsed]:
    field, unit_ns = layout.time or "", layout.ns_per_unit
    if unit_ns is None:
        return lambda texts: parse_wall_clock(texts, field)
    if layout.rebase:
        return lambda texts: parse_ns(texts, field, unit_ns)
    return lambda texts: _from_start(parse_ns(texts, field, unit_ns), texts, field)


def _from_start(parsed: Parsed, texts: Sequence[str], field: str) -> Parsed:
    """Times from the trace's start cannot be negative."""
    time_ns, reasons = parsed
    for row in (time_ns < 0).nonzero()[0].tolist():
        reasons[row] = f"{field}(={shown(texts[row])}) must be >= 0"
    return time_ns, reasons


def _cancels(table: Table) -> tuple[Floats | None, dict[int, str]]:
    """When the clients give up (s after arrival), NaN where the cell is empty."""
    if not table.has(CANCEL_KEY):
        return None, {}
    texts = table.column(CANCEL_KEY)
    given = [row for row, text in enumerate(texts) if text.strip()]
    cancel_ns, bad = parse_each([texts[row] for row in given], cancel_ns_of)
    cancel_s = np.full(len(texts), np.nan)
    cancel_s[given] = cancel_ns / NS_PER_S
    return cancel_s if given else None, {given[i]: reason for i, reason in bad.items()}


def _names(table: Table, column: str | None, kept: list[int]) -> list[str | None] | None:
    """Names in a column, None where the cell is empty; None where there is no such column."""
    if column is None or not table.has(column):
        return None
    names = table.column(column)
    return [names[i].strip() or None for i in kept]


def _line_numbers(text: str) -> list[int]:
    """Line on which each CSV row begins, where quoted fields span lines."""
    reader = csv.reader(io.StringIO(text, newline=""))
    lines, line = [], 1
    for _ in reader:
        lines.append(line)
        line = reader.line_num + 1
    return lines


def _looks_like_date(texts: Sequence[str]) -> bool:
    first = next((text.strip() for text in texts if text.strip()), "")
    return len(first) >= 19 and first[4:5] == "-" and first[10:11] in (" ", "T")


def _normal(name: str) -> str:
    return name.strip().casefold()
