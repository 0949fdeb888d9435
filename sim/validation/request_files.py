"""Per-request times of a real run, from three kinds of files.

- JSON lines of LLMServingSim's benchmark of a real server: ``queued_ts``, ``scheduled_ts``,
  ``first_token_ts``, ``last_token_ts`` (seconds of one monotonic clock), ``input_toks``,
  ``output_toks``.
- kvsim's own columns: ``requests.parquet``, or JSON lines with ``arrival_s``, ``first_token_s``,
  ``finish_s``, ``prompt_tokens``, ``output_tokens`` and, where known, ``scheduled_s``.
- the object that ``vllm bench serve --save-detailed`` writes: ``input_lens``, ``output_lens``,
  ``ttfts``, ``itls``, ``errors`` and, in newer versions, ``start_times``. These are a client's
  times: the network is in them, and the queue is not told from the prefill.

TTFT counts from the arrival in the server's queue, or from the client's sending.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..result import FINISHED, Columns
from .measured import Floats, Ints, Measured, Requests

SERVINGSIM = ("queued_ts", "first_token_ts", "last_token_ts", "input_toks", "output_toks")
KVSIM = ("arrival_s", "first_token_s", "finish_s", "prompt_tokens", "output_tokens")
BENCH = ("ttfts", "itls", "output_lens")
FORMS: dict[str, tuple[tuple[str, ...], str]] = {
    "LLMServingSim": (SERVINGSIM, "scheduled_ts"),
    "kvsim": (KVSIM, "scheduled_s"),
}
"""Names of what one request needs (arrival, first token, last token, prompt, output), and its
time of schedule, which may be missing."""


def form_of(record: Mapping[str, Any]) -> str | None:
    """Whose record of a request this is; None for nobody's."""
    return next((form for form, (names, _) in FORMS.items() if set(names) <= set(record)), None)


def from_lines(text: str, name: str) -> Measured:
    """A request per line.

    Args:
        text: JSON lines.
        name: of the file, for errors and for the record of sources.

    Raises:
        ValueError: a line that is no request, named by its number, or none that finished.
    """
    numbered = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    records = [(number, _record(line, number, name)) for number, line in numbered]
    form = form_of(records[0][1])
    if form is None:
        raise ValueError(f"{name} line {records[0][0]} is no request's times: {_known()}.")
    fields, scheduled = FORMS[form]
    rows = [_times(record, fields, scheduled, f"{name} line {n}") for n, record in records]
    finished = np.array([row is not None for row in rows])
    table = np.array([row for row in rows if row is not None], dtype=np.float64)
    return _measured(table.reshape(-1, 6), finished, f"{name}: %d requests ({form}'s times)", name)


def from_columns(columns: Columns, name: str) -> Measured:
    """kvsim's ``requests.parquet``: the finished ones.

    Raises:
        ValueError: a column is missing, or nothing finished.
    """
    missing = [field for field in (*KVSIM, "status") if field not in columns]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}: it is no requests.parquet of kvsim.")
    done = np.asarray(columns["status"] == FINISHED)
    taken = {field: np.asarray(columns[field])[done] for field in (*KVSIM, "scheduled_s")}
    table = np.column_stack([taken[field] for field in ("scheduled_s", *KVSIM)]).astype(np.float64)
    times = table[:, [1, 0, 2, 3, 4, 5]]
    made = _measured(times, done, f"{name}: %d requests (kvsim's own times)", name)
    assert made.requests is not None, "it holds nothing else"
    waited = np.asarray(columns["waited_s"], dtype=np.float64)[done]
    rows = np.asarray(columns["index"], dtype=np.int64)[done]
    return Measured(
        sources=made.sources,
        notes=made.notes,
        requests=_with(made.requests, waited_s=waited, rows=rows),
    )


def from_bench(values: Mapping[str, Any], name: str) -> Measured:
    """What ``vllm bench serve --save-detailed`` wrote.

    Raises:
        ValueError: lists that are missing or of different lengths, or every request failed.
    """
    lists = {field: _list(values, field, name) for field in ("input_lens", *BENCH)}
    num = len(lists["ttfts"])
    errors = values.get("errors") or [""] * num
    starts = values.get("start_times") or [float("nan")] * num
    for field, entries in {**lists, "errors": errors, "start_times": starts}.items():
        if len(entries) != num:
            raise ValueError(f"{name}: {field} has {len(entries)} entries and ttfts {num}.")
    good = [row for row in range(num) if not errors[row] and _whole(lists["output_lens"][row]) >= 1]
    if not good:
        raise ValueError(f"{name} holds no request that succeeded.")
    gaps = [_floats(lists["itls"][row], f"{name}: itls[{row}]") for row in good]
    ttft = _floats([lists["ttfts"][row] for row in good], f"{name}: ttfts")
    arrival = np.array([starts[row] for row in good], dtype=np.float64)
    requests = Requests(
        arrival_s=arrival - arrival.min() if len(arrival) else arrival,
        ttft_s=ttft,
        e2e_s=ttft + np.array([gap.sum() for gap in gaps]),
        waited_s=np.full(len(good), np.nan),
        prompt_tokens=np.array([_whole(lists["input_lens"][row]) for row in good], dtype=np.int64),
        output_tokens=np.array([_whole(lists["output_lens"][row]) for row in good], dtype=np.int64),
        itl_s=np.concatenate(gaps),
    )
    notes = [f"{name} holds a client's times: the network is in them, and a server's queue is not."]
    if len(good) < num:
        notes.append(f"{name}: {num - len(good)} of {num} requests failed and are left out.")
    if np.isnan(arrival).any():
        notes.append(f"{name} has no start_times: throughput is taken from its duration.")
    source = f"{name}: {len(good)} requests (vllm bench serve)"
    totals = _bench_totals(values, requests)
    return Measured(sources=(source,), notes=tuple(notes), requests=requests, totals=totals)


def _bench_totals(values: Mapping[str, Any], requests: Requests) -> dict[str, float]:
    """From the benchmark's own duration, where the requests have no clock."""
    duration = values.get("duration")
    if not isinstance(duration, int | float) or duration <= 0 or isfinite(requests.makespan_s):
        return {}
    return {
        "makespan_s": float(duration),
        "requests_per_s": len(requests) / duration,
        "output_tokens_per_s": float(requests.output_tokens.sum()) / duration,
    }


def _measured(table: Floats, finished: NDArray[np.bool_], source: str, name: str) -> Measured:
    """Of rows of arrival, schedule, first and last token, prompt and output tokens."""
    if not len(table):
        raise ValueError(f"{name} holds no request that finished.")
    arrival, scheduled, first, last, prompt, output = table.T
    requests = Requests(
        arrival_s=arrival - arrival.min(),
        ttft_s=first - arrival,
        e2e_s=last - arrival,
        waited_s=scheduled - arrival,
        prompt_tokens=prompt.astype(np.int64),
        output_tokens=output.astype(np.int64),
    )
    left = int((~finished).sum())
    notes = (f"{name}: {left} of {len(finished)} requests did not finish and are left out.",)
    return Measured(sources=(source % len(table),), notes=notes if left else (), requests=requests)


def _with(requests: Requests, *, waited_s: Floats, rows: Ints) -> Requests:
    return Requests(
        arrival_s=requests.arrival_s,
        ttft_s=requests.ttft_s,
        e2e_s=requests.e2e_s,
        waited_s=waited_s,
        prompt_tokens=requests.prompt_tokens,
        output_tokens=requests.output_tokens,
        rows=rows,
    )


def _record(line: str, number: int, name: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        raise ValueError(f"{name} line {number} is not valid JSON.") from None
    if not isinstance(record, dict):
        raise ValueError(f"{name} line {number} must be a JSON object.")
    return record


def _times(
    record: Mapping[str, Any], fields: Sequence[str], scheduled: str, where: str
) -> tuple[float, ...] | None:
    """Arrival, schedule, first and last token, prompt and output; None: it did not finish."""
    missing = [field for field in fields if field not in record]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}.")
    if record[fields[2]] is None or record.get("status", FINISHED) != FINISHED:
        return None
    values = {field: _number(record[field], field, where) for field in fields}
    at = record.get(scheduled)
    begun = float("nan") if at is None else _number(at, scheduled, where)
    arrival, first, last = (values[field] for field in fields[:3])
    if not arrival <= first <= last or not (at is None or arrival <= begun <= first):
        raise ValueError(
            f"{where}: its times must not go back ({', '.join(fields[:3])}, {scheduled})."
        )
    if values[fields[4]] < 1:
        raise ValueError(f"{where}: {fields[4]}(={record[fields[4]]}) must be > 0.")
    return (arrival, begun, first, last, values[fields[3]], values[fields[4]])


def _number(value: object, field: str, where: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"{where}: {field}(={value!r}) must be a number.")
    return float(value)  # type: ignore[arg-type]


def _list(values: Mapping[str, Any], field: str, name: str) -> list[Any]:
    found = values.get(field)
    if not isinstance(found, list) or not found:
        raise ValueError(
            f"{name} holds no {field}: run `vllm bench serve` with --save-result --save-detailed."
        )
    return found


def _floats(values: object, what: str) -> Floats:
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be numbers.") from None
    if found.ndim != 1 or not np.isfinite(found).all() or (found < 0).any():
        raise ValueError(f"{what} must be times >= 0.")
    return found


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) and isfinite(value) else 0


def _known() -> str:
    forms = (f"{', '.join(names)} ({form})" for form, (names, _) in FORMS.items())
    return "it needs " + ", or ".join(forms)
