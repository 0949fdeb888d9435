"""Requests among OpenTelemetry spans: the GenAI semantic conventions (`gen_ai.*`, to v1.41).

A row is a span, by its number in the file. A request is a span with `gen_ai.usage.input_tokens` or
`output_tokens` (their former names `prompt_tokens` and `completion_tokens`, which vLLM's own spans
bear, count as well), whose `gen_ai.operation.name` is `chat`, `text_completion`,
`generate_content` or not given. Spans of agents and frameworks repeat the usage of the calls below
them: of such spans below each other the innermost is the request.

Spans of one `gen_ai.conversation.id` are the turns of a session: a turn follows the latest of its
turns to end before it started, and the pause between is its delay.
"""

from bisect import bisect_right, insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..columns import NS_PER_S, Ints
from .gathered import Gathered
from .numbers import BadValueError, count_of, integer_of, shown
from .records import first_of
from .rows import Rows
from .spans import Span, SpanId, read_spans
from .wallclock import wall_clock_ns

_PROMPT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_OPERATION = "gen_ai.operation.name"
_CONVERSATION = "gen_ai.conversation.id"
_REQUESTS = ("chat", "text_completion", "generate_content")
_REPEATS = "spans that repeat the usage of spans below them were left out"
_OTHERS = "spans of other operations than chat, text_completion and generate_content were left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """A request's place among the rows, its session, its recorded start and end (ns)."""

    row: int
    session: Hashable
    start_ns: int
    end_ns: int


def read_otel_genai(text: str, file: str) -> Rows:
    """The requests among the file's spans, in its order.

    Raises ValueError where the file holds no spans.
    """
    gathered = Gathered(file)
    spans = list(read_spans(text, gathered.skip))
    if not spans:
        raise ValueError(f"{file} is not otel: it holds no spans.")
    requests = _innermost(spans, gathered)
    turns = []
    for span in requests:
        if gathered.attempt(span.row, partial(_row, span)):
            turns.append(_turn(span, len(gathered) - 1, gathered.time_ns[-1]))
    parent, delay_ns = _parents(turns)
    delay_s = np.where(parent < 0, np.nan, delay_ns / NS_PER_S)
    return replace(gathered.rows(), parent_row=parent, delay_s=delay_s, closed=True)


def _has_usage(span: Span) -> bool:
    return any(key in span.attributes for key in (*_PROMPT, *_OUTPUT))


def _is_request(span: Span) -> bool:
    operation = span.attributes.get(_OPERATION)
    return _has_usage(span) and (operation is None or operation in _REQUESTS)


def _row(span: Span) -> tuple[int, int, int]:
    prompt_key, prompt = first_of(span.attributes, _PROMPT)
    output_key, output = first_of(span.attributes, _OUTPUT)
    tokens = count_of(prompt, prompt_key), count_of(output, output_key)
    return *tokens, _time_ns(span.start, "start time")


def _turn(span: Span, row: int, start_ns: int) -> _Turn:
    session = span.attributes.get(_CONVERSATION)
    named = isinstance(session, str | int) and session != ""
    try:
        end_ns = max(start_ns, _time_ns(span.end, "end time"))
    except BadValueError:
        end_ns = start_ns
    return _Turn(
        row=row, session=("named", session) if named else row, start_ns=start_ns, end_ns=end_ns
    )


def _innermost(spans: Sequence[Span], gathered: Gathered) -> list[Span]:
    """The requests that have no request below them; the others are counted in remarks."""
    parent_of = {span.span_id: span.parent_id for span in spans}
    above: set[SpanId] = set()
    for span in spans:
        if _is_request(span):
            place = span.parent_id
            while place is not None and place not in above and place != span.span_id:
                above.add(place)
                place = parent_of.get(place)
    found = []
    for span in spans:
        if _is_request(span) and span.span_id not in above:
            found.append(span)
        elif _has_usage(span):
            gathered.flaws.remark(span.row, _REPEATS if span.span_id in above else _OTHERS)
    return found


def _parents(turns: Sequence[_Turn]) -> tuple[Ints, Ints]:
    """Parent row of each turn (-1 = none) and the delay after its end (ns)."""
    parent = np.full(len(turns), -1, dtype=np.int64)
    delay_ns = np.zeros(len(turns), dtype=np.int64)
    ended: dict[Hashable, list[_Turn]] = {}
    for turn in sorted(turns, key=lambda turn: turn.start_ns):
        before = ended.setdefault(turn.session, [])
        place = bisect_right(before, turn.start_ns, key=_end_ns)
        if place:
            parent[turn.row] = before[place - 1].row
            delay_ns[turn.row] = turn.start_ns - before[place - 1].end_ns
        insort(before, turn, key=_end_ns)
    return parent, delay_ns


def _end_ns(turn: _Turn) -> int:
    return turn.end_ns


def _time_ns(value: Any, field: str) -> int:
    """Nanoseconds since 1970, a number or an ISO 8601 text."""
    if isinstance(value, str) and not value.strip().isdigit():
        return wall_clock_ns(value, field)
    time_ns = integer_of(value, field)
    if time_ns <= 0:
        raise BadValueError(f"{field}(={shown(value)}) must be > 0")
    return time_ns
