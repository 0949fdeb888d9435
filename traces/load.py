"""`load_trace`: from files to a `Trace`. Rows that cannot be read are counted and kept in view."""

from collections.abc import Sequence
from pathlib import Path

from .formats import CsvColumns, ReadOptions, read_file, resolve_format
from .join import join_rows
from .links import check_replay
from .servegen import is_servegen
from .trace import Trace

_MOST_NAMED = 4  # files in a trace's name


def load_trace(
    paths: Sequence[str | Path] | str | Path,
    *,
    trace_format: str = "auto",
    trace_block_size: int | None = None,
    strict: bool = False,
    tokenizer: str | Path | None = None,
    columns: CsvColumns | None = None,
    session_replay: str = "auto",
    keep_empty: bool = False,
) -> Trace:
    """One trace from one or several files, sorted stably by arrival.

    A folder stands for the sessions in it (`*.json`, `*.json.gz`, by name), or for RAGPulse's trace
    among its side files.

    `trace_format` is a name in `FORMATS`, an alias, or "auto" (by header or first record).
    `trace_block_size` is the tokens per prefix id (default: the file's own, else 512 for Mooncake,
    16 for Bailian, Dynamo and LLMServingSim, 64 for weka). `columns` names the columns of a generic
    CSV file. With `strict` the first row that is bad or had to be repaired is an error; otherwise
    bad rows are in `Trace.skipped` and repairs are counted in `Trace.notes`. `session_replay`:
    "closed", later turns start after the turn before has ended; "open", at their recorded times;
    "auto", as is usual for the format. `keep_empty` (weka): requests that were answered with 0
    tokens, whose prompts were computed all the same, are kept with 1.

    Raises ValueError, one sentence naming file, row and reason.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    if not files:
        raise ValueError("trace must name at least one file.")
    if trace_block_size is not None and trace_block_size < 1:
        raise ValueError(f"trace_block_size(={trace_block_size}) must be > 0.")
    check_replay(session_replay)
    known_format = resolve_format(trace_format)
    options = ReadOptions(
        hash_block_size=trace_block_size,
        tokenizer=tokenizer,
        columns=columns,
        keep_empty=keep_empty,
    )
    parts = [
        read_file(path, known_format, options) for file in files for path in _files_of(Path(file))
    ]
    name = _joint_name([part.file for part in parts])
    return join_rows(parts, name=name, replay=session_replay, strict=strict)


def _files_of(path: Path) -> list[Path]:
    """The trace files that a path stands for; an unreadable one stands for itself."""
    if not path.is_dir():
        return [path]
    if is_servegen(path):
        raise ValueError(
            f"{path.name} holds ServeGen's distributions: draw_servegen draws requests from them."
        )
    ragpulse = sorted(path.glob("0_trace.jsonl*"))[:1]
    return ragpulse or sorted([*path.glob("*.json"), *path.glob("*.json.gz")]) or [path]


def _joint_name(files: Sequence[str]) -> str:
    shown = files if len(files) <= _MOST_NAMED else [*files[:2], f"{len(files) - 2} more"]
    return "+".join(shown)
