"""`Rows`: what a reader found in one file, in file order, before files are joined and sorted."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import Floats, Ids, Ints
from ..trace import SkippedRow

NO_TIME_NS = np.iinfo(np.int64).min  # this row has no time of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Columns of one file; None = the file says nothing about it.

    `time_ns` counts from the trace's start, or from a wall clock's epoch where `rebase` is set.
    A row's parent is the previous row with the same `session`, or the row whose `key` is its
    `parent_key`.
    """

    file: str
    lines: Sequence[int]  # line number of each row, from 1
    prompt_tokens: Ints
    output_tokens: Ints
    time_ns: Ints | None
    rebase: bool = False
    hash_ids: Ids | None = None
    hash_offsets: Ints | None = None
    hash_block_size: int | None = None
    session: Sequence[Hashable | None] | None = None
    key: Sequence[Hashable | None] | None = None
    parent_key: Sequence[Hashable | None] | None = None
    delay_s: Floats | None = None
    num_samples: Ints | None = None
    beam_width: Ints | None = None
    priority: Ints | None = None
    skipped: tuple[SkippedRow, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt_tokens)
