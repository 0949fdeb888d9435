"""Writing a trace as Mooncake JSON lines, which `load_trace` and other tools read back.

`timestamp` and `delay` are milliseconds: whole ones as integers, others with up to six decimals,
so that reading gives the same nanosecond (up to 10^9 ms = 11 days; beyond, a double has fewer
digits). Keys that are not in Mooncake's own files are written only where needed: `session_id`,
`delay`, `n`, `use_beam_search`, `best_of`, `priority`, `tenant`, `cancel_s` (seconds), `turn_of`
(the line, from 1, of the previous turn, where it is not the session's latest), `block_size` (where
prefix ids do not stand for 512 tokens).
"""

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .columns import NS_PER_S, Ints
from .trace import Trace

MOONCAKE_BLOCK_SIZE = 512  # tokens per hash id unless a file says otherwise
_NS_PER_MS = 1_000_000


def write_mooncake(trace: Trace, path: str | Path) -> Path:
    """Write `trace` to `path`, gzipped where the name ends in .gz; whole or not at all.

    Raises ValueError where the folder cannot be written to, or the trace has what the format cannot
    say: prefixes shared to the token.
    """
    if trace.prefix_tokens is not None and trace.prefix_tokens.any():
        raise ValueError(
            f"trace {trace.name!r} has prefix_row and prefix_tokens, which Mooncake cannot say."
        )
    target = Path(path)
    data = "".join(f"{line}\n" for line in mooncake_lines(trace)).encode()
    if target.suffix == ".gz":
        data = gzip.compress(data, mtime=0)  # no time stamp: same trace, same bytes
    try:
        replace_bytes(target, data)
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be written: {error.strerror}.") from error
    return target


def replace_bytes(target: Path, data: bytes) -> None:
    """Write a file under a temporary name beside `target`, then move it there."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def mooncake_lines(trace: Trace) -> Iterator[str]:
    """One JSON object per request."""
    session, turn_of = _sessions(trace)
    for row in range(len(trace)):
        record = _start(trace, row)
        if session[row] is not None:
            record["session_id"] = session[row]
        if turn_of[row] is not None:
            record["turn_of"] = turn_of[row]
        record["input_length"] = int(trace.prompt_tokens[row])
        record["output_length"] = int(trace.output_tokens[row])
        record.update(_extras(trace, row))
        yield json.dumps(record)


def _start(trace: Trace, row: int) -> dict[str, Any]:
    if trace.delay_s is not None and not np.isnan(trace.delay_s[row]):
        return {"delay": _milliseconds(float(trace.delay_s[row]))}
    if trace.arrival_s is None:
        return {}
    return {"timestamp": _milliseconds(float(trace.arrival_s[row]))}


def _milliseconds(seconds: float) -> int | float:
    whole, part = divmod(round(seconds * NS_PER_S), _NS_PER_MS)
    return whole if part == 0 else (whole * _NS_PER_MS + part) / _NS_PER_MS


def _sessions(trace: Trace) -> tuple[list[str | None], list[int | None]]:
    """Each row's session name, and its parent's line where that is not its session's latest row."""
    num = len(trace)
    session: list[str | None] = [None] * num
    turn_of: list[int | None] = [None] * num
    if trace.parent is None:
        return session, turn_of
    roots = _roots(trace.parent)
    latest: dict[int, int] = {}
    has_turns = set(roots[trace.parent >= 0].tolist())
    for row, (root, parent) in enumerate(zip(roots.tolist(), trace.parent.tolist(), strict=True)):
        if root not in has_turns:
            continue
        session[row] = f"s{root}"
        if parent >= 0 and latest[root] != parent:
            turn_of[row] = parent + 1
        latest[root] = row
    return session, turn_of


def _roots(parent: Ints) -> Ints:
    roots = np.arange(len(parent), dtype=np.int64)
    for row in np.flatnonzero(parent >= 0):
        roots[row] = roots[parent[row]]
    return roots


def _extras(trace: Trace, row: int) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if trace.hash_ids is not None:
        extras["hash_ids"] = trace.hash_chain(row).tolist()
        if trace.hash_block_size != MOONCAKE_BLOCK_SIZE:
            extras["block_size"] = trace.hash_block_size
    if trace.num_samples is not None:
        extras["n"] = int(trace.num_samples[row])
    if trace.beam_width is not None and trace.beam_width[row]:
        extras["use_beam_search"] = True
        extras["best_of"] = int(trace.beam_width[row])
    if trace.priority is not None:
        extras["priority"] = int(trace.priority[row])
    if trace.tenant is not None:
        extras["tenant"] = int(trace.tenant[row])
    if trace.cancel_s is not None and not np.isnan(trace.cancel_s[row]):
        extras["cancel_s"] = float(trace.cancel_s[row])
    return extras
