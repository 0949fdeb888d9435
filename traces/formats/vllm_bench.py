"""The result of `vllm bench serve --save-result --save-detailed`: one JSON object of lists.

`input_lens`, `output_lens` (tokens), `errors` (texts, "" where all was well) and, in newer
versions, `start_times` (s, of the client's `time.perf_counter()`) have an entry per request in the
order of sending; a row is such an entry, numbered from 1. Followed is vLLM's
`vllm/benchmarks/serve.py`, whose `--save-detailed` keeps these lists, and which writes 0 output
tokens for a request that failed. Without `start_times` (or with zeros only, which some backends
leave) the file has lengths only. `--append-result` puts an object on a line each: their clocks may
differ, so a file must hold one.
"""

import json
from functools import partial
from typing import Any

from ..columns import NS_PER_S
from .gathered import Gathered
from .numbers import BadValueError, count_of, ns_of, shown
from .rows import NO_TIME_NS, Rows

_SUMMARY_KEYS = ("total_input_tokens", "request_throughput")
_LENGTH_KEYS = ("input_lens", "output_lens")
_NOT_STARTED = "start_times (=0) was not recorded"


def is_result(record: Any) -> bool:
    """Whether a JSON value looks like such a result, detailed or not."""
    if not isinstance(record, dict):
        return False
    detailed = all(isinstance(record.get(key), list) for key in _LENGTH_KEYS)
    return detailed or all(key in record for key in _SUMMARY_KEYS)


def read_vllm_bench(text: str, file: str) -> Rows:
    """The requests that were answered, in order of sending.

    Raises ValueError where the file is no such object, or was saved without details.
    """
    result = _result_of(text, file)
    columns = {key: _column(result, key, file) for key in (*_LENGTH_KEYS, "errors", "start_times")}
    prompts, outputs = columns["input_lens"], columns["output_lens"]
    if prompts is None or outputs is None:
        raise ValueError(
            f"{file} has no input_lens and output_lens: let vllm bench serve --save-detailed "
            "write them."
        )
    for key, column in columns.items():
        if column is not None and len(column) != len(prompts):
            raise ValueError(
                f"{file}: {key} (={len(column)} entries) must have {len(prompts)} as input_lens."
            )
    starts, errors = columns["start_times"], columns["errors"]
    timed = starts is not None and any(starts)
    gathered = Gathered(file)
    for index, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
        error = None if errors is None else errors[index]
        start = starts[index] if starts is not None and timed else None
        gathered.attempt(index + 1, partial(_row, prompt, output, error, start))
    return gathered.rows(_notes(result, timed=timed))


def _row(prompt: Any, output: Any, error: Any, start: Any) -> tuple[int, int, int]:
    if error:
        raise BadValueError(f"the request failed ({_last_line(error)})")
    tokens = count_of(prompt, "input_lens"), count_of(output, "output_lens")
    if start is None:
        return *tokens, NO_TIME_NS
    if not start:
        raise BadValueError(_NOT_STARTED)
    return *tokens, ns_of(start, "start_times", NS_PER_S)


def _last_line(error: Any) -> str:
    """Of a traceback the sentence at its end."""
    lines = str(error).strip().splitlines() or [""]
    return shown(lines[-1], 80)


def _notes(result: dict[str, Any], *, timed: bool) -> tuple[str, ...]:
    clients = result.get("max_concurrency")
    if not timed or clients is None:
        return ()
    return (
        f"at most {shown(clients)} requests were under way at once (max_concurrency), so these "
        "times are as fast as that server was; a closed loop replays them on another",
    )


def _result_of(text: str, file: str) -> dict[str, Any]:
    try:
        result = json.loads(text)
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":
            raise ValueError(f"{file} holds several results: give a file for each.") from error
        raise ValueError(f"{file} is not one JSON document: {error}.") from error
    if not is_result(result):
        raise ValueError(f"{file} is not vllm-bench: it has no list of input_lens and output_lens.")
    return dict(result)


def _column(result: dict[str, Any], key: str, file: str) -> list[Any] | None:
    column = result.get(key)
    if column is not None and not isinstance(column, list):
        raise ValueError(f"{file}: {key}(={shown(column)}) must be a list.")
    return column
