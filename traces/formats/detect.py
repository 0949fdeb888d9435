"""Which format a file is in, told by a CSV header's or a first record's names."""

import json
import re
from collections.abc import Iterator

from . import dynamo, openai_log, ragpulse, spans, tracelab, vllm_bench, weka
from .numbers import shown
from .records import Record
from .tables import LAYOUTS, parse_table

_HEAD_CHARACTERS = 10_000
_MOST_LINES = 100  # a bad first line must not hide the format of the rest

# a format's keys; the first entry whose keys are all there wins
_RECORD_KEYS = (
    ("golden", ("arrival_s", "output_tokens")),
    ("tracelab", tracelab.RECORD_KEYS),
    ("bailian", ("chat_id", "parent_chat_id", "input_length")),
    ("llmservingsim", ("input_toks", "output_toks")),
    ("mooncake", ("input_length",)),
    ("mooncake", ("input_tokens",)),
    ("mooncake", ("timestamp", "text_input")),
    ("mooncake", ("timestamp", "messages")),
    ("sharegpt", ("conversations",)),
)
# formats told by more than the names of their keys
_RECORD_TESTS = (
    ("weka", weka.is_session),
    ("dynamo", dynamo.is_event),
    ("ragpulse", ragpulse.is_request),
    ("vllm-bench", vllm_bench.is_result),
    ("otel", spans.is_spans),
    ("openai", openai_log.is_access),
)
_SESSION_HEAD = re.compile(r'\s*\{[^{}]*"hash_id_scope"')  # no need to parse a megabyte twice
_FORMAT_ADVICE = "name it with --trace-format"


def detect_format(text: str, file: str) -> str:
    """The format's name. Raises ValueError, naming what was found, where none fits."""
    if text.lstrip().startswith(("{", "[")):
        return _detect_json(text, file)
    return _detect_csv(text, file)


def _detect_csv(text: str, file: str) -> str:
    line = next(line for line in text.splitlines() if line.strip())
    header = parse_table(line, file)
    if all(header.has(column) for column in tracelab.CSV_COLUMNS):
        return "tracelab"
    for name, layout in LAYOUTS.items():
        if all(header.has(column) for column in layout.required):
            return name
    raise ValueError(
        f"{file} has a header of no known format (columns: {header.listed_header}): "
        f"{_FORMAT_ADVICE}, or use csv and name its columns."
    )


def _detect_json(text: str, file: str) -> str:
    if _SESSION_HEAD.match(text, 0, _HEAD_CHARACTERS):
        return "weka"
    first = None
    for record in _records(text):
        if (name := _format_of(record)) is not None:
            return name
        first = record if first is None else first
    if first is None:
        raise ValueError(f"{file} holds no requests: no line of it is a JSON object.")
    found = shown(", ".join(first), 300)
    raise ValueError(f"{file} has records of no known format (keys: {found}): {_FORMAT_ADVICE}.")


def _format_of(record: Record) -> str | None:
    for name, test in _RECORD_TESTS:
        if test(record):
            return name
    return next((name for name, keys in _RECORD_KEYS if all(key in record for key in keys)), None)


def _records(text: str) -> Iterator[Record]:
    """The objects of the first lines, then the first one, which may span lines."""
    listed = text.lstrip().startswith("[")
    lines = iter(()) if listed else (line for line in text.split("\n") if line.strip())
    for _, line in zip(range(_MOST_LINES), lines, strict=False):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record
    if (record := _first_object(text)) is not None:
        yield record


def _first_object(text: str) -> Record | None:
    """The first JSON object, wherever its lines end."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        record, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
