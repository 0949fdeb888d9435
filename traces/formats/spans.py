"""OpenTelemetry spans in files, whatever wrote them.

- OTLP/JSON: `resourceSpans[].scopeSpans[].spans[]`, in one document or, as the collector's file
  exporter writes it, in one a line; attributes are a list of `{"key", "value": {"intValue": "1"}}`
- the Python SDK's `ConsoleSpanExporter`: an indented object per span, its ids in `context`, its
  attributes in an object

Spans are numbered from 1 in the order of the file; a document that is no JSON counts as one.
"""

import json
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from .records import Record, first_of

_GROUPS = (
    ("resourceSpans", "resource_spans"),
    ("scopeSpans", "scope_spans", "instrumentationLibrarySpans"),
)

SpanId = tuple[Hashable, Hashable]  # trace, span


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span; `start` and `end` as they were written."""

    row: int
    span_id: SpanId
    parent_id: SpanId | None
    attributes: Record
    start: Any
    end: Any


def is_spans(record: Any) -> bool:
    """Whether a JSON value looks like spans."""
    if not isinstance(record, dict):
        return False
    if any(key in record for key in _GROUPS[0]):
        return True
    context = record.get("context")
    return isinstance(context, dict) and "span_id" in context and "attributes" in record


def read_spans(text: str, skip: Callable[[int, str], None]) -> Iterator[Span]:
    """All spans; of documents and spans that cannot be read `skip` gets row and reason."""
    row = 0
    for document, problem in _documents(text):
        for span in [None] if problem else _spans_of(document):
            row += 1
            if problem:
                skip(row, problem)
            elif isinstance(span, dict):
                yield _span_of(span, row)
            else:
                skip(row, "is not a span")


def _documents(text: str) -> Iterator[tuple[Any, str]]:
    """The JSON values of the text one after the other, or what is wrong where there is none."""
    decoder, at, counted, line = json.JSONDecoder(), 0, 0, 1
    while (at := _next_place(text, at)) < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            line, counted = line + text.count("\n", counted, at), at
            yield None, f"line {line} is not valid JSON ({getattr(error, 'msg', error)})"
            at = _next_object(text, at)
        else:
            yield value, ""


def _next_place(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _next_object(text: str, at: int) -> int:
    """The next line that begins with a brace."""
    found = text.find("\n{", at)
    return len(text) if found < 0 else found + 1


def _spans_of(document: Any) -> Iterator[Any]:
    """The spans of a document: a span itself, a list of documents, or OTLP's nested lists."""
    if isinstance(document, list):
        for part in document:
            yield from _spans_of(part) if not isinstance(part, list) else [part]
    elif not isinstance(document, dict):
        yield document
    elif any(key in document for key in _GROUPS[0]):
        for resource in _listed(document, _GROUPS[0]):
            for scope in _listed(resource, _GROUPS[1]):
                yield from _listed(scope, ("spans",))
    elif is_spans(document):
        yield document


def _listed(value: Any, keys: tuple[str, ...]) -> list[Any]:
    found = first_of(value, keys)[1] if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _span_of(span: Record, row: int) -> Span:
    context = span.get("context")
    where = context if isinstance(context, dict) else span
    trace = _name(first_of(where, ("traceId", "trace_id"))[1])
    own = _name(first_of(where, ("spanId", "span_id"))[1])
    above = _name(first_of(span, ("parentSpanId", "parent_span_id", "parent_id"))[1])
    return Span(
        row=row,
        span_id=(trace, own),
        parent_id=None if above is None else (trace, above),
        attributes=_attributes(span.get("attributes")),
        start=first_of(span, ("startTimeUnixNano", "start_time_unix_nano", "start_time"))[1],
        end=first_of(span, ("endTimeUnixNano", "end_time_unix_nano", "end_time"))[1],
    )


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _attributes(given: Any) -> Record:
    """By name, out of OTLP's list or an object."""
    if isinstance(given, dict):
        return given
    pairs = [pair for pair in given if isinstance(pair, dict)] if isinstance(given, list) else []
    return {str(pair.get("key")): _plain(pair.get("value")) for pair in pairs}


def _plain(value: Any) -> Any:
    """`{"intValue": "123"}` without its wrapping."""
    return next(iter(value.values()), None) if isinstance(value, dict) else value
