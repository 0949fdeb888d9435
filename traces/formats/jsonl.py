"""From the JSON objects of a file to `Rows`, by a format's `RecordLayout`."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from ..columns import NS_PER_S, offsets_of
from ..tenants import TENANT_KEYS
from ..trace import SkippedRow
from .chains import ChainBuilder
from .flaws import Flaws
from .numbers import CANCEL_KEY, BadValueError, cancel_ns_of, integer_of, ns_of, shown
from .records import Record, RecordLayout, Records, first_of
from .rows import NO_TIME_NS, Rows
from .sampling import Sampling, sampling_of

MS_NS = 1_000_000

LAYOUTS = {
    # kvcache-ai/Mooncake (FAST'25) and its dialects
    "mooncake": RecordLayout(
        time={"timestamp": MS_NS, "created_time": MS_NS},
        prompt=("input_length", "input_tokens"),
        output=("output_length", "output_tokens"),
        hash_block_size=512,
        delay={"delay": MS_NS, "delay_ms": MS_NS},
        session="session_id",
        parent_line="turn_of",
    ),
    # alibaba-edu/qwen-bailian-usagetraces-anon
    "bailian": RecordLayout(
        time={"timestamp": NS_PER_S},
        prompt=("input_length",),
        output=("output_length",),
        hash_block_size=16,
        key="chat_id",
        parent_key="parent_chat_id",
    ),
    # casys-kaist/LLMServingSim, the flat rows
    "llmservingsim": RecordLayout(
        time={"arrival_time_ns": 1},
        prompt=("input_toks",),
        output=("output_toks",),
        hash_block_size=16,
        tokens=("input_tok_ids",),
    ),
    # step-by-step conformance cases of a real scheduler: seconds
    "golden": RecordLayout(
        time={"arrival_s": NS_PER_S},
        prompt=("prompt_tokens",),
        output=("output_tokens",),
        hash_block_size=512,
        tokens=("prompt_token_ids", "prompt_ranges"),
    ),
}


_LOST_TURN = "the turn before was skipped: the row starts at that turn's time plus its own delay"


class _Columns:
    """The growing columns of one file."""

    def __init__(self, file: str, layout: RecordLayout, hash_block_size: int | None) -> None:
        self.layout = layout
        self.lines: list[int] = []
        self.prompt: list[int] = []
        self.time_ns: list[int] = []
        self.delay_s: list[float] = []
        self.cancel_s: list[float] = []
        self.sampling: list[Sampling] = []
        self.priority: list[int] = []
        self.tenant: list[Hashable | None] = []
        self.session: list[Hashable | None] = []
        self.key: list[Hashable | None] = []
        self.parent_key: list[Hashable | None] = []
        self.flaws = Flaws(file)
        self.chains = ChainBuilder(hash_block_size, layout, self.flaws)
        self.lost_keys: dict[Hashable, Hashable | None] = {}
        self._begun: set[Hashable] = set()  # sessions that have a good turn
        self._lost_start_ns: dict[Hashable, int] = {}  # of sessions whose turns so far are bad

    def add(self, line: int, record: Record) -> None:
        """Take a record in. Raises BadValueError, and then leaves nothing behind."""
        layout = self.layout
        block_size = self.chains.block_size_of(record)
        time_ns, delay_s = _start_of(record, layout)
        prompt = self.chains.prompt_tokens_of(record, block_size)
        sampling = sampling_of(record, layout.output)
        priority = integer_of(record["priority"], "priority") if "priority" in record else 0
        cancel_s = cancel_s_of(record)
        tenant = _link(record, first_of(record, TENANT_KEYS)[0])
        session = _link(record, layout.session)
        key = _link(record, layout.key)
        parent = _link(record, layout.parent_key or layout.parent_line)
        self.chains.add(line, record, prompt, block_size)
        if self._lost_start_ns:
            time_ns = self._found_start(line, session, time_ns, delay_s)
        self.lines.append(line)
        self.prompt.append(prompt)
        self.sampling.append(sampling)
        self.time_ns.append(time_ns)
        self.delay_s.append(delay_s)
        self.cancel_s.append(cancel_s)
        self.priority.append(priority)
        self.tenant.append(tenant)
        self.session.append(session)
        self._begun.add(session)
        self.key.append(key)
        self.parent_key.append(parent)

    def lose(self, line: int, record: Record) -> None:
        """Remember of a skipped record what the rows that follow it need."""
        layout = self.layout
        try:
            time_ns, delay_s = _start_of(record, layout)
            session = _link(record, layout.session)
            parent = _link(record, layout.parent_key or layout.parent_line)
            key = _link(record, layout.key) if layout.key else line
        except BadValueError:
            return
        if key is not None:
            self.lost_keys[key] = parent
        if session is None or session in self._begun:
            return
        if time_ns == NO_TIME_NS and session in self._lost_start_ns and delay_s == delay_s:
            time_ns = self._lost_start_ns[session] + round(delay_s * NS_PER_S)
        if time_ns != NO_TIME_NS:
            self._lost_start_ns[session] = time_ns

    def _found_start(
        self, line: int, session: Hashable | None, time_ns: int, delay_s: float
    ) -> int:
        """The row's time; where its session's earlier turns are all lost, it counts from them."""
        lost_ns = self._lost_start_ns.pop(session, None)
        if lost_ns is None or time_ns != NO_TIME_NS or delay_s != delay_s:
            return time_ns
        self.flaws.remark(line, _LOST_TURN)
        return lost_ns + round(delay_s * NS_PER_S)


def read_records(records: Records, layout: RecordLayout, hash_block_size: int | None) -> Rows:
    """The file's requests, with a reason for each line that is none.

    `hash_block_size` (tokens) overrides the file's own and the format's.
    """
    columns = _Columns(records.file, layout, hash_block_size)
    skipped = list(records.skipped)
    for line, record in records.rows:
        try:
            columns.add(line, record)
        except BadValueError as error:
            skipped.append(SkippedRow(file=records.file, row=line, reason=str(error)))
            columns.lose(line, record)
    columns.chains.finish()
    return _rows_of(records.file, columns, tuple(sorted(skipped, key=lambda skip: skip.row)))


def cancel_s_of(record: Record) -> float:
    """When the client gives up (s after arrival), NaN = never. Raises BadValueError."""
    value = record.get(CANCEL_KEY)
    return float("nan") if value is None else cancel_ns_of(value) / NS_PER_S


def _rows_of(file: str, columns: _Columns, skipped: tuple[SkippedRow, ...]) -> Rows:
    layout, chains = columns.layout, columns.chains
    timed = any(time != NO_TIME_NS for time in columns.time_ns)
    num_samples = np.array([s.num_samples for s in columns.sampling], dtype=np.int64)
    beam_width = np.array([s.beam_width for s in columns.sampling], dtype=np.int64)
    priority = np.array(columns.priority, dtype=np.int64)
    cancel_s = np.array(columns.cancel_s, dtype=np.float64)
    output = np.array([s.output_tokens for s in columns.sampling], dtype=np.int64)
    prompt = np.array(columns.prompt, dtype=np.int64)
    notes = (*columns.flaws.notes(), *_output_notes(columns.sampling))
    return Rows(
        file=file,
        lines=columns.lines,
        prompt_tokens=prompt,
        output_tokens=output,
        time_ns=np.array(columns.time_ns, dtype=np.int64) if timed else None,
        hash_ids=chains.hash_ids() if chains.any_ids else None,
        hash_offsets=offsets_of(chains.counts) if chains.any_ids else None,
        hash_block_size=chains.block_size if chains.any_ids else None,
        session=columns.session if layout.session else None,
        key=columns.key if layout.key else columns.lines,
        parent_key=columns.parent_key if any(columns.parent_key) else None,
        parent_field=layout.parent_key or layout.parent_line or "parent",
        lost_keys=columns.lost_keys,
        delay_s=np.array(columns.delay_s, dtype=np.float64) if layout.delay else None,
        num_samples=num_samples if (num_samples != 1).any() else None,
        beam_width=beam_width if (beam_width != 0).any() else None,
        priority=priority if (priority != 0).any() else None,
        tenant=columns.tenant if any(name is not None for name in columns.tenant) else None,
        cancel_s=None if np.isnan(cancel_s).all() else cancel_s,
        skipped=skipped,
        flaws=tuple(columns.flaws.found),
        notes=notes,
    )


def _start_of(record: Record, layout: RecordLayout) -> tuple[int, float]:
    """Recorded arrival (ns) or NO_TIME_NS, and delay after the previous turn (s) or NaN."""
    time_key, time = first_of(record, tuple(layout.time))
    if time is not None:
        time_ns = ns_of(time, time_key, layout.time[time_key])
        if time_ns < 0:
            raise BadValueError(f"{time_key}(={shown(time)}) must be >= 0")
        return time_ns, _delay_s(record, layout)
    return NO_TIME_NS, _delay_s(record, layout)


def _delay_s(record: Record, layout: RecordLayout) -> float:
    if not layout.delay:
        return float("nan")
    delay_key, delay = first_of(record, tuple(layout.delay))
    if delay is None:
        return float("nan")
    delay_ns = ns_of(delay, delay_key, layout.delay[delay_key])
    if delay_ns < 0:
        raise BadValueError(f"{delay_key}(={shown(delay)}) must be >= 0")
    return delay_ns / NS_PER_S


def _link(record: Record, key: str | None) -> Hashable | None:
    """A session, chat or tenant id; null, "" and -1 mean none."""
    value: Any = None if key is None else record.get(key)
    if value is None or value == "" or value == -1:
        return None
    if not isinstance(value, str | int):
        raise BadValueError(f"{key}(={shown(value)}) must be a text or a whole number")
    return value


def _output_notes(sampling: list[Sampling]) -> tuple[str, ...]:
    several = sum(s.longest_of_several for s in sampling)
    if not several:
        return ()
    return (f"output_lengths: the longest sample counts as the output length (rows: {several})",)
