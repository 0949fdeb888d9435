"""What a run moved, in words and rows: copies before a write, swaps to host memory and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import words

Row = tuple[str, str, str, str]
"""What, mean or sum, share, peak: a row of the sharing table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Sums over a run; bytes are those of one GPU."""

    num_copied_blocks: int = 0
    """Copied because others held them when one was to write."""
    copied_bytes: int = 0
    sharing_saved: float = 0.0
    """Blocks saved over blocks without sharing, weighted by time."""
    num_swaps: int = 0
    swapped_out_bytes: int = 0
    swapped_in_bytes: int = 0
    transfer_s: float = 0.0
    """Of all copies and swaps."""
    makespan_s: float = 0.0

    @classmethod
    def of(cls, summary: Mapping[str, object]) -> Moved:
        """From a summary's JSON: one of an older kvsim has none of these keys."""
        return cls(**{name: summary.get(name) or 0 for name in cls.__slots__})  # type: ignore[arg-type]


def sharing_rows(moved: Moved) -> list[Row]:
    """Rows of what sharing saved and had to copy; none for a run that neither forked nor copied."""
    rows: list[Row] = []
    if moved.sharing_saved:
        share = words.share(moved.sharing_saved)
        rows.append(("blocks saved, of those without sharing", share, words.NONE, words.NONE))
    if moved.num_copied_blocks or moved.copied_bytes:
        rows.append(_row("copied before a write", moved.num_copied_blocks, moved.copied_bytes))
    return rows


def swap_rows(moved: Moved) -> list[Row]:
    """Rows of what was swapped, and the time of everything that moved; none where nothing was."""
    rows: list[Row] = []
    if moved.num_swaps:
        rows = [
            ("preemptions by swap", words.count(moved.num_swaps), words.NONE, words.NONE),
            ("swapped out", words.size(moved.swapped_out_bytes), words.NONE, words.NONE),
            ("swapped in", words.size(moved.swapped_in_bytes), words.NONE, words.NONE),
        ]
    if moved.transfer_s:
        time = words.seconds(moved.transfer_s)
        share = words.share(moved.transfer_s / moved.makespan_s) if moved.makespan_s else words.NONE
        rows.append(("time of copies and swaps", time, share, words.NONE))
    return rows


def facts(moved: Moved) -> dict[str, str]:
    """The same for the table of one run: what each row is, and its value."""
    rows = [*sharing_rows(moved), *swap_rows(moved)]
    return {what: value for what, value, *_ in rows}


def copies_sentence(moved: Moved) -> str:
    """``Copied before a write: 12 blocks (24 MiB) that others held as well.``, or nothing."""
    if not (moved.num_copied_blocks or moved.copied_bytes):
        return ""
    size = words.size(moved.copied_bytes)
    if not moved.num_copied_blocks:
        return f"{size} were copied for sequences that begin alike."
    blocks, plural = words.count(moved.num_copied_blocks), "s" * (moved.num_copied_blocks > 1)
    return f"Copied before a write: {blocks} block{plural} ({size}) that others held as well."


def swaps_sentence(moved: Moved) -> str:
    """``3 preemptions swapped 1.2 GiB out and 1.1 GiB back ...``, or nothing."""
    if not moved.num_swaps:
        return ""
    plural = "s" * (moved.num_swaps > 1)
    return (
        f"Over the trace {words.count(moved.num_swaps)} preemption{plural} swapped "
        f"{words.size(moved.swapped_out_bytes)} out and {words.size(moved.swapped_in_bytes)} back; "
        f"copies and swaps took {words.seconds(moved.transfer_s)}."
    )


def _row(what: str, blocks: int, size_bytes: int) -> Row:
    size = words.size(size_bytes)
    counted = f"{words.count(blocks)} blocks, {size}" if blocks else size
    return (what, counted, words.NONE, words.NONE)
