"""RAGPulse: questions to a retrieval-augmented chat, with the chunks that make up their prompts.

`hash_ids` is an object of five lists of chunk ids, in the order of the prompt; the chunks' lengths
are in the side files 1 to 5 beside the trace. Prompts that begin with the same chunks begin alike:
each row links to an earlier one that shares most of its leading chunks. The template tokens by
which a prompt is longer than its chunks belong to nobody; they are taken to be its end.

Times are whole seconds in text, and fall once (two halves were put end to end). The turns of a
session have recorded times and no recorded ends, so they are replayed at those times.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import NS_PER_S, Ints
from ..trace import SkippedRow
from .flaws import Flaws
from .jsonl import cancel_s_of
from .numbers import BadValueError, count_of, integer_of, ns_of, shown
from .records import Record, Records, parse_records
from .rows import Rows
from .source import read_text

# component -> side file, key of its ids
COMPONENTS = {
    "sys_prompt": ("1_sys_prompt.jsonl", "sys_prompt_id"),
    "passages_ids": ("2_passages.jsonl", "passage_id"),
    "history": ("3_history.jsonl", "history_id"),
    "web_search": ("5_web_search.jsonl", "web_search_id"),
    "user_input": ("4_user_input.jsonl", "user_input_id"),
}
_LENGTH = "token_length"
_UNKNOWN = "chunks of unknown length, the prefix counts as unknown from there on"
_TOO_LONG = "chunks beyond the prompt's length were dropped"

Chunk = tuple[str, int]  # component, id
Lengths = Mapping[Chunk, int]


def is_request(record: Any) -> bool:
    """Whether a JSON value looks like a row of the trace."""
    return isinstance(record, dict) and isinstance(record.get("hash_ids"), dict)


def read_ragpulse(records: Records, directory: Path) -> Rows:
    """The file's requests, in its order.

    Raises ValueError where a side file is missing or unreadable.
    """
    lengths = _chunk_lengths(records.file, directory)
    flaws = Flaws(records.file)
    skipped = list(records.skipped)
    found: list[tuple[int, int, int, int, float, Hashable | None]] = []
    chains: list[list[Chunk]] = []
    for line, record in records.rows:
        try:
            row = _row_of(record, line)
            chains.append(_chunks(record, line, row[1], lengths, flaws))
        except BadValueError as error:
            skipped.append(SkippedRow(file=records.file, row=line, reason=str(error)))
            continue
        found.append(row)
    numbers = np.array([row[:4] for row in found], dtype=np.int64).reshape(-1, 4)
    cancel_s = np.array([row[4] for row in found], dtype=np.float64)
    prefix_row, prefix_tokens = _links(chains, numbers[:, 3], lengths)
    return Rows(
        file=records.file,
        lines=numbers[:, 0].tolist(),
        prompt_tokens=numbers[:, 1],
        output_tokens=numbers[:, 2],
        time_ns=numbers[:, 3],
        session=[row[5] for row in found],
        cancel_s=None if np.isnan(cancel_s).all() else cancel_s,
        prefix_row=prefix_row,
        prefix_tokens=prefix_tokens,
        skipped=tuple(sorted(skipped, key=lambda skip: skip.row)),
        flaws=tuple(flaws.found),
        notes=flaws.notes(),
    )


def _row_of(record: Record, line: int) -> tuple[int, int, int, int, float, Hashable | None]:
    """Line, prompt, output, time (ns), cancel_s and session."""
    time_ns = ns_of(record.get("timestamp"), "timestamp", NS_PER_S)
    if time_ns < 0:
        raise BadValueError(f"timestamp(={shown(record['timestamp'])}) must be >= 0")
    prompt = count_of(record.get("input_length"), "input_length")
    output = count_of(record.get("output_length"), "output_length")
    session = record.get("session_id")
    if session is not None and not isinstance(session, str | int):
        raise BadValueError(f"session_id(={shown(session)}) must be a text or a whole number")
    return line, prompt, output, time_ns, cancel_s_of(record), session or None


def _chunks(
    record: Record, line: int, prompt_tokens: int, lengths: Lengths, flaws: Flaws
) -> list[Chunk]:
    """The prompt's chunks in order, as far as they are known and fit it."""
    ids = record.get("hash_ids")
    if not isinstance(ids, dict):
        raise BadValueError(f"hash_ids(={shown(ids)}) must be an object of lists")
    chain: list[Chunk] = []
    left = prompt_tokens
    for name in COMPONENTS:
        own = ids.get(name) or []
        if not isinstance(own, list):
            raise BadValueError(f"hash_ids.{name}(={shown(own)}) must be a list")
        for number in own:
            chunk = (name, number) if type(number) is int else None
            if chunk is None or chunk not in lengths:
                flaws.add(line, _UNKNOWN, f"hash_ids.{name}(={shown(number)}) has no length")
                return chain
            left -= lengths[chunk]
            if left < 0:
                reason = f"input_length(={prompt_tokens}) must be >= the sum of its chunks"
                flaws.add(line, _TOO_LONG, reason)
                return chain
            chain.append(chunk)
    return chain


def _links(chains: list[list[Chunk]], time_ns: Ints, lengths: Lengths) -> tuple[Ints, Ints]:
    """For each row the latest earlier row that shares most leading chunks, and their tokens."""
    row_of = np.full(len(chains), -1, dtype=np.int64)
    shared = np.zeros(len(chains), dtype=np.int64)
    paths: dict[tuple[int, Chunk], int] = {}  # (node above, chunk) -> node; the root is -1
    latest: list[int] = []  # row that last passed each node
    for row in np.argsort(time_ns, kind="stable").tolist():
        above, known = -1, True
        for chunk in chains[row]:
            node = paths.setdefault((above, chunk), len(latest))
            if node == len(latest):
                latest.append(row)
                known = False
            if known:
                row_of[row] = latest[node]
                shared[row] += lengths[chunk]
                latest[node] = row
            above = node
    return row_of, shared


def _chunk_lengths(file: str, directory: Path) -> Lengths:
    lengths: dict[Chunk, int] = {}
    for name, (side, key) in COMPONENTS.items():
        path = next((p for p in (directory / side, directory / f"{side}.gz") if p.exists()), None)
        if path is None:
            raise ValueError(f"{file} needs {side} beside it: it has the lengths of {name}.")
        records = parse_records(read_text(path), path.name)
        for line, record in records.rows:
            try:
                chunk = integer_of(record.get(key), key)
                lengths[name, chunk] = count_of(record.get(_LENGTH), _LENGTH)
            except BadValueError as error:
                raise ValueError(f"{path.name} row {line}: {error}.") from error
        if records.skipped:
            raise ValueError(f"{records.skipped[0]}.")
    return lengths
