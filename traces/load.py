"""`load_trace`: from files to a `Trace`. Rows that cannot be read are counted and kept in view."""

from collections.abc import Sequence
from pathlib import Path

from .formats import CsvColumns, ReadOptions, read_file, resolve_format
from .join import join_rows
from .trace import Trace


def load_trace(
    paths: Sequence[str | Path] | str | Path,
    *,
    trace_format: str = "auto",
    trace_block_size: int | None = None,
    strict: bool = False,
    tokenizer: str | Path | None = None,
    columns: CsvColumns | None = None,
) -> Trace:
    """One trace from one or several files, sorted stably by arrival.

    `trace_format` is a name in `FORMATS`, an alias, or "auto" (by header or first record).
    `trace_block_size` is the tokens per prefix id (default: the file's own, else 512 for Mooncake,
    16 for Bailian and LLMServingSim). `columns` names the columns of a generic CSV file. With
    `strict` the first bad row is an error; otherwise bad rows are in `Trace.skipped`.

    Raises ValueError, one sentence naming file, row and reason.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    if not files:
        raise ValueError("trace must name at least one file.")
    if trace_block_size is not None and trace_block_size < 1:
        raise ValueError(f"trace_block_size(={trace_block_size}) must be > 0.")
    name = resolve_format(trace_format)
    options = ReadOptions(hash_block_size=trace_block_size, tokenizer=tokenizer, columns=columns)
    parts = [read_file(path, name, options) for path in files]
    trace = join_rows(parts, name="+".join(part.file for part in parts))
    if strict and trace.skipped:
        raise ValueError(f"{trace.skipped[0]}.")
    return trace
