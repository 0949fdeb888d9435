"""One run of a sweep: what determines it, its key, and what is stored of it.

The key is the SHA-256 of what a run's figures follow from: the arrivals (digest of the trace at the
rate), every resolved flag, the step times, the memory, the sources that the figures name, the
objective and kvsim's version. Names and prices are not in it: another grid that comes to the same
run finds it stored, and a new price runs nothing anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any

from ...traces.intake import Intake, Taken, take_in
from ...traces.trace import Trace
from ..files import json_bytes
from ..job import simulate_server
from ..load import load_server
from ..planner.extent import rate_of, whole
from ..planner.probe import WARM_UP, at_rate, judge
from ..planner.search import search_rate
from ..provenance import digest, digests, settings, sources
from ..server import Server
from ..slo import SLO
from .supervise import REFUSED

SCHEMA = "kvsim-run/1"
MOST_TRACES = 4
"""That a worker keeps in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One deployment under one trace at one rate; pickled to where it runs."""

    deployment: str
    """Its name in the grid."""
    trace: str
    intake: Intake
    hardware: Mapping[str, Any]
    flags: Mapping[str, Any]
    rate_per_s: float | None
    """None = as the trace arrives."""
    slo: SLO | None
    search: bool
    """Find the highest rate that holds the objective."""
    key: str = ""
    sweep: str = ""
    """Marks one sweep: a trace is read anew by the next."""

    @property
    def name(self) -> str:
        """``paged-16, chat, 4/s``."""
        rate = "" if self.rate_per_s is None else f", {self.rate_per_s:g}/s"
        return f"{self.deployment}, {self.trace}{', at the SLO' if self.search else rate}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a sweep knows of a cell before it runs."""

    key: str
    num_tokens: int
    """Output of its trace: a measure of the work."""
    gpu: str
    num_gpus: int
    usd_per_hour: float | None
    refused: str = ""
    """Why this deployment cannot serve the trace; then there is nothing to run."""
    kind: str = ""
    """Of that: as of an ``Outcome``."""


def prepare(cells: Sequence[Cell]) -> list[Prepared]:
    """Resolve cells of one trace.

    Raises:
        ValueError: the trace cannot be read, or has no times.
    """
    found = []
    for cell in cells:
        trace, tokens = _arriving(cell), int(_taken(cell).trace.output_tokens.sum())
        try:
            server = load_server(trace, hardware=cell.hardware, flags=cell.flags)
        except ValueError as error:
            found.append(unprepared(cell, REFUSED, str(error), num_tokens=tokens))
            continue
        price, num_gpus = server.gpu.price_usd_per_hour, server.deployment.num_gpus
        found.append(
            Prepared(
                key=_key(cell, server, trace),
                num_tokens=tokens,
                gpu=server.gpu.name,
                num_gpus=num_gpus,
                usd_per_hour=None if price is None else price * num_gpus,
            )
        )
    return found


def run_cell(cell: Cell) -> bytes:
    """Simulate a cell; returns what is stored, JSON.

    Raises:
        ValueError: what is read here is not what the key was made of.
    """
    trace = _arriving(cell)
    server = load_server(trace, hardware=cell.hardware, flags=cell.flags)
    if _key(cell, server, trace) != cell.key:
        raise ValueError(
            f"trace(={cell.trace!r}), the server's files or kvsim itself are not what they were "
            "when the sweep began: a worker must see the same."
        )
    rate, found = cell.rate_per_s, None
    if cell.search and cell.slo is not None:
        search = search_rate(server, trace, cell.slo, title=cell.name)
        rate, found = search.rate_per_s, search.to_json()
    record: dict[str, object] = {"schema": SCHEMA, "key": cell.key, "rate_per_s": rate}
    if found is not None:
        record["search"] = found
    if rate == 0.0:
        return json_bytes(record)
    if cell.search and rate is not None:
        trace = at_rate(trace, rate)
    concurrency = cell.intake.concurrency
    result, summary = simulate_server(server, trace=trace, concurrency=concurrency)
    if cell.slo is not None:
        offered = rate if rate is not None else _own_rate(trace)
        every = whole(trace, warm_up=ceil(WARM_UP * len(trace)), base_per_s=offered)
        judged = judge(result, offered, cell.slo, server=server, extent=every).to_json()
        kept = {name: judged[name] for name in ("attainment", "holds")}
        goodput = {} if offered == 0.0 else {"goodput_per_s": judged["goodput_per_s"]}
        record["slo"] = {"limits": asdict(cell.slo), **kept, **goodput}
    return json_bytes({**record, "summary": summary.to_json()})


def with_keys(cells: Sequence[Cell], prepared: Sequence[Prepared] | None, sweep: str) -> list[Cell]:
    """The cells of one sweep, with their keys where these are known."""
    keys = [""] * len(cells) if prepared is None else [one.key for one in prepared]
    return [replace(cell, key=key, sweep=sweep) for cell, key in zip(cells, keys, strict=True)]


def unprepared(cell: Cell, kind: str, reason: str, *, num_tokens: int = 0) -> Prepared:
    """What cannot be run: its key is made of what was asked for."""
    names = (cell.deployment, cell.trace, cell.name)
    return Prepared(
        key=digest({"schema": SCHEMA, "names": names, "kind": kind}),
        num_tokens=num_tokens,
        gpu=str(cell.hardware["gpu"]),
        num_gpus=0,
        usd_per_hour=None,
        refused=reason,
        kind=kind,
    )


def _key(cell: Cell, server: Server, trace: Trace) -> str:
    concurrency = cell.intake.concurrency
    return digest(
        {
            "schema": SCHEMA,
            "digests": digests(
                server, trace_digest=trace.digest, moved=True, concurrency=concurrency
            ),
            "settings": settings(server, trace, concurrency=concurrency),
            "sources": sources(server, moved=True),
            "rate_per_s": cell.rate_per_s,
            "slo": None if cell.slo is None else asdict(cell.slo),
            "search": cell.search,
        }
    )


def _arriving(cell: Cell) -> Trace:
    """The trace at the cell's rate: its pattern, or Poisson's where it has no times."""
    taken = _taken(cell)
    if not taken.arrivals:
        raise ValueError(
            f"trace {cell.trace!r} has no times: set rates, rate, arrival_process or concurrency."
        )
    return taken.trace if cell.rate_per_s is None else at_rate(taken.trace, cell.rate_per_s)


def _own_rate(trace: Trace) -> float:
    """0 where a trace has none: a closed loop, a backlog."""
    try:
        return rate_of(trace)
    except ValueError:
        return 0.0


def _taken(cell: Cell) -> Taken:
    return _read(cell.intake, cell.rate_per_s is not None or cell.search, cell.sweep)


@lru_cache(maxsize=MOST_TRACES)
def _read(intake: Intake, rated: bool, sweep: str) -> Taken:
    """Cells of one sweep share their traces; ``rated`` ones arrive at some rate, one pattern."""
    if rated and intake.arrival_process is not None:
        return take_in(replace(intake, rate_per_s=1.0))
    taken = take_in(intake)
    return take_in(replace(intake, rate_per_s=1.0)) if rated and not taken.arrivals else taken
