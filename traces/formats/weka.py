"""Agent sessions of kv-cache-tester ("WEKA trace"): one JSON document per file and session.

A session is a chain of requests in which sub-agents may be nested: chains of their own, whose times
count from the sub-agent's start. A row's number is its place in the document from 1, sub-agents'
requests counted where they stand.

Closed loop: a request waits for the end of the latest to end among the request before it in its
chain and the sub-agents that had ended when it started. A sub-agent's first request waits so for
the chain that started it. The chain may go on before its sub-agent ends: then it does not wait for
it. The delay is the recorded start minus the parent's recorded end, where

    end = t + api_time, or the next request's t - think_time where no api_time was recorded.

Ids are local to the file and stand for full blocks only. Nothing ties sessions to a common clock.
"""

import json
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..columns import NS_PER_S, offsets_of
from ..trace import SkippedRow
from .chains import ChainBuilder
from .flaws import Flaws
from .jsonl import cancel_s_of
from .numbers import MAX_NS, BadValueError, count_of, ns_of, shown
from .records import Record, RecordLayout
from .rows import Rows

_LAYOUT = RecordLayout(
    time={"t": NS_PER_S},
    prompt=("in",),
    output=("out",),
    hash_block_size=64,
    full_blocks_only=True,
)
_SUBAGENT = "subagent"
_DEEPEST = 16  # sub-agents of sub-agents; the public files have one level
_UNKNOWN_NS = -1
_NO_OUTPUT = "requests without output count as 1 output token"


@dataclass(slots=True)
class _Request:
    """A good request: its row in the file's `Rows`, recorded start and end (ns)."""

    row: int
    start_ns: int
    end_ns: int
    think_ns: int
    parent: int = -1
    delay_ns: int = 0


@dataclass(slots=True)
class _Chain:
    """Requests in order of time, and the sub-agents, each with the request before it."""

    requests: list[_Request] = field(default_factory=list)
    subagents: list[tuple[_Request | None, "_Chain"]] = field(default_factory=list)


def is_session(document: Any) -> bool:
    """Whether a JSON value looks like such a session."""
    return (
        isinstance(document, dict)
        and isinstance(document.get("requests"), list)
        and ("hash_id_scope" in document or "block_size" in document)
    )


def read_weka(text: str, file: str, hash_block_size: int | None, *, keep_empty: bool) -> Rows:
    """The session's requests in order of the document.

    `keep_empty`: a request with an output of 0 tokens is kept, with 1 token. Raises ValueError
    where the file is no such document.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not one JSON document: {error}.") from error
    if not isinstance(document, dict) or not isinstance(document.get("requests"), list):
        raise ValueError(f"{file} is not weka: it has no list of requests.")
    size = hash_block_size
    if size is None and document.get("block_size") is not None:
        try:
            size = count_of(document["block_size"], "block_size")
        except BadValueError as error:
            raise ValueError(f"{file}: {error}.") from error
    reader = _Reader(file, size, keep_empty)
    reader.link(reader.chain(document["requests"], 0, 0))
    return reader.rows(local_ids=document.get("hash_id_scope", "local") != "global")


class _Reader:
    """The growing columns of one session."""

    def __init__(self, file: str, hash_block_size: int | None, keep_empty: bool) -> None:
        self.file = file
        self.keep_empty = keep_empty
        self.flaws = Flaws(file)
        self.chains = ChainBuilder(hash_block_size or _LAYOUT.hash_block_size, _LAYOUT, self.flaws)
        self.lines: list[int] = []
        self.prompt: list[int] = []
        self.output: list[int] = []
        self.cancel_s: list[float] = []
        self.requests: list[_Request] = []
        self.skipped: list[SkippedRow] = []
        self._line = 0

    def chain(self, entries: list[Any], start_ns: int, depth: int) -> _Chain:
        """The chain of these entries, whose times count from `start_ns`; bad ones are skipped."""
        chain = _Chain()
        for entry in entries:
            nested = isinstance(entry, dict) and isinstance(entry.get("requests"), list)
            if not nested:
                self._line += 1
            try:
                if nested:
                    spawner = chain.requests[-1] if chain.requests else None
                    chain.subagents.append((spawner, self._subagent(entry, start_ns, depth)))
                else:
                    chain.requests.append(self._request(entry, start_ns))
            except BadValueError as error:
                self._line += nested
                skip = SkippedRow(file=self.file, row=self._line, reason=str(error))
                self.skipped.append(skip)
        chain.requests.sort(key=lambda request: request.start_ns)
        _estimate_ends(chain.requests)
        return chain

    def link(self, chain: _Chain, caller: _Request | None = None) -> None:
        """Give every request of the chain and its sub-agents a parent."""
        ended = sorted(
            (last for _, inner in chain.subagents if (last := _last(inner)) is not None),
            key=lambda request: request.end_ns,
        )
        before = caller
        for request in chain.requests:
            _wait(request, before, ended)
            before = request
        for spawner, inner in chain.subagents:
            others = [request for request in ended if request is not _last(inner)]
            first = inner.requests[0] if inner.requests else None
            above = spawner or caller
            self.link(inner, above if first is None else _latest(first, above, others))

    def rows(self, *, local_ids: bool) -> Rows:
        """What was found."""
        self.chains.finish()
        parent = np.array([request.parent for request in self.requests], dtype=np.int64)
        delay_ns = np.array([request.delay_ns for request in self.requests], dtype=np.int64)
        cancel_s = np.array(self.cancel_s, dtype=np.float64)
        chains = self.chains
        return Rows(
            file=self.file,
            lines=self.lines,
            prompt_tokens=np.array(self.prompt, dtype=np.int64),
            output_tokens=np.array(self.output, dtype=np.int64),
            time_ns=np.array([r.start_ns for r in self.requests], dtype=np.int64),
            hash_ids=chains.hash_ids() if chains.any_ids else None,
            hash_offsets=offsets_of(chains.counts) if chains.any_ids else None,
            hash_block_size=chains.block_size if chains.any_ids else None,
            parent_row=parent,
            delay_s=np.where(parent < 0, np.nan, delay_ns / NS_PER_S),
            cancel_s=None if np.isnan(cancel_s).all() else cancel_s,
            closed=True,
            own_clock=True,
            local_ids=local_ids,
            skipped=tuple(self.skipped),
            flaws=tuple(self.flaws.found),
            notes=self.flaws.notes(),
        )

    def _subagent(self, entry: Record, start_ns: int, depth: int) -> _Chain:
        if depth == _DEEPEST:
            raise BadValueError(f"requests are nested more than {_DEEPEST} deep")
        at_ns = _start_ns(entry, start_ns)
        return self.chain(entry["requests"], at_ns, depth + 1)

    def _request(self, entry: Any, start_ns: int) -> _Request:
        if not isinstance(entry, dict):
            raise BadValueError(f"requests(={shown(entry)}) must be objects")
        if entry.get("type") == _SUBAGENT:
            raise BadValueError("requests of the sub-agent must be a list")
        at_ns = _start_ns(entry, start_ns)
        prompt = count_of(entry.get("in"), "in")
        output, empty = self._output(entry.get("out"))
        cancel_s = cancel_s_of(entry)
        api_ns, think_ns = (_optional_ns(entry, key) for key in ("api_time", "think_time"))
        self.chains.add(self._line, entry, prompt, self.chains.block_size)
        if empty:
            self.flaws.remark(self._line, _NO_OUTPUT)
        self.lines.append(self._line)
        self.prompt.append(prompt)
        self.output.append(output)
        self.cancel_s.append(cancel_s)
        end_ns = _UNKNOWN_NS if api_ns is None else at_ns + api_ns
        request = _Request(len(self.requests), at_ns, end_ns, -1 if think_ns is None else think_ns)
        self.requests.append(request)
        return request

    def _output(self, value: Any) -> tuple[int, bool]:
        if self.keep_empty and type(value) is int and value == 0:
            return 1, True
        return count_of(value, "out"), False


def _estimate_ends(requests: list[_Request]) -> None:
    """Fill in the ends that were not recorded; a last one without any counts as ended at once."""
    for index, request in enumerate(requests):
        if request.end_ns != _UNKNOWN_NS:
            continue
        request.end_ns = request.start_ns
        if index + 1 < len(requests) and (following := requests[index + 1]).think_ns >= 0:
            request.end_ns = max(request.start_ns, following.start_ns - following.think_ns)


def _wait(request: _Request, before: _Request | None, ended: list[_Request]) -> None:
    """Set the parent, and the delay after its end."""
    parent = _latest(request, before, ended)
    if parent is not None:
        request.parent = parent.row
        request.delay_ns = max(0, request.start_ns - parent.end_ns)


def _latest(request: _Request, before: _Request | None, ended: list[_Request]) -> _Request | None:
    """The latest to end among the request before and sub-agents ended by then; `ended` sorted."""
    place = bisect_right(ended, request.start_ns, key=lambda other: other.end_ns)
    if place and (before is None or ended[place - 1].end_ns > before.end_ns):
        return ended[place - 1]
    return before


def _last(chain: _Chain) -> _Request | None:
    """The request that ends a sub-agent: the last to end, its own sub-agents' included."""
    inner = [_last(below) for _, below in chain.subagents]
    requests = [*chain.requests, *(request for request in inner if request is not None)]
    return max(requests, key=lambda request: request.end_ns, default=None)


def _start_ns(entry: Record, start_ns: int) -> int:
    at_ns = start_ns + _time_ns(entry, "t")
    if at_ns > MAX_NS:
        raise BadValueError(f"t(={shown(entry['t'])}) is too large")
    return at_ns


def _time_ns(entry: Record, key: str) -> int:
    time_ns = ns_of(entry.get(key), key, NS_PER_S)
    if time_ns < 0:
        raise BadValueError(f"{key}(={shown(entry.get(key))}) must be >= 0")
    return time_ns


def _optional_ns(entry: Record, key: str) -> int | None:
    return None if entry.get(key) is None else _time_ns(entry, key)
