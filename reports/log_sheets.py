"""A start-up log beside the prediction, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import words
from .memory_sheets import LINE_TITLES
from .sheet import Sheet

if TYPE_CHECKING:
    from ..calibration.log_comparison import ComparedLine, LogComparison

TITLES = {
    **LINE_TITLES,
    "requested": "requested memory",
    "runtime": "runtime and NCCL",
    "non_kv": "beside weights and pool",
    "kv_tokens": "KV tokens",
    "num_gpu_blocks": "KV blocks",
}


def headline(compared: LogComparison) -> str:
    """What was compared, in one line."""
    flags = {name: value for name, value in compared.flags.items() if name != "engine"}
    said = "".join(f", {name} {value}" for name, value in flags.items() if value is not None)
    return f"{compared.path}: {compared.model} on {compared.gpu}, {compared.engine}{said}"


def comparison_sheet(compared: LogComparison) -> Sheet:
    """Prediction, log and their difference."""
    return Sheet(
        title="Start-up log",
        columns=("line", "predicted", "log", "difference"),
        rows=tuple(_row(line) for line in compared.lines),
    )


def _row(line: ComparedLine) -> tuple[str, ...]:
    show = words.gib if line.in_bytes else words.count
    difference = line.difference
    return (
        TITLES.get(line.name, line.name),
        show(line.predicted),
        words.NONE if line.logged is None else show(line.logged),
        words.NONE if difference is None else f"{100 * difference:+.1f} %",
    )


def sentences(compared: LogComparison) -> tuple[str, ...]:
    """Notes, and the option that makes the prediction that of the log."""
    notes = tuple(f"Note: {note}" for note in compared.notes)
    learned = compared.learned_flags
    if learned is None:
        return notes
    return (*notes, f"Learned: {learned} (GiB that this card takes beside weights and pool)")
