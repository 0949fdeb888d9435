"""`Rows`: what a reader found in one file, in file order, before files are joined and sorted."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..columns import Floats, Ids, Ints
from ..trace import SkippedRow

NO_TIME_NS = np.iinfo(np.int64).min  # this row has no time of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Columns of one file; None = the file says nothing about it.

    `time_ns` counts from the trace's start, or from a wall clock's epoch where `rebase` is set.
    A row's parent is row `parent_row` of this file, or the row whose `key` is its `parent_key`, or
    the previous row with the same `session`. `lost_keys` has the keys of rows that were skipped,
    each with its own parent key: rows that follow them follow that one.

    `closed`: rows with a `delay_s` follow their parents unless asked otherwise, and their times are
    what was recorded. `own_clock`: times count from the start of the file's one session, and say
    nothing about other files. `local_ids`: the ids mean something in this file only. `flaws` are
    errors that were repaired.
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
    parent_field: str = "parent"
    lost_keys: Mapping[Hashable, Hashable | None] = field(default_factory=dict)
    parent_row: Ints | None = None
    delay_s: Floats | None = None
    num_samples: Ints | None = None
    beam_width: Ints | None = None
    priority: Ints | None = None
    tenant: Sequence[Hashable | None] | None = None  # names or numbers
    cancel_s: Floats | None = None
    prefix_row: Ints | None = None  # rows of this file
    prefix_tokens: Ints | None = None
    closed: bool = False
    own_clock: bool = False
    local_ids: bool = False
    skipped: tuple[SkippedRow, ...] = ()
    flaws: tuple[SkippedRow, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt_tokens)
