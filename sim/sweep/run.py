"""A sweep: every cell of a grid run once and stored; what is stored already is not run again."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from uuid import uuid4

from ..files import json_bytes
from ..job import Report
from ..parallel import num_cores
from . import cell as cells_of
from .backends import check_backend, workers
from .cell import Cell, Prepared, prepare, unprepared, with_keys
from .grid import Grid
from .store import FAILURES, GRIDS, RUNS, Store
from .supervise import DONE, LOST, REFUSED, Outcome, release, supervised

GRID_SCHEMA = "kvsim-sweep-grid/1"
FAILURE_SCHEMA = "kvsim-sweep-failure/1"
LIVES = 3
"""How often a backend may lose its workers before the sweep ends without the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A cell without a result."""

    name: str
    kind: str
    """As of :class:`~kvsim.sim.sweep.supervise.Outcome`."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep did, in cells."""

    num_cells: int
    num_stored: int
    """Whose results were there before."""
    failures: tuple[Failure, ...]

    @property
    def num_new(self) -> int:
        """Whose results are new."""
        return self.num_cells - self.num_stored - len(self.failures)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "num_cells": self.num_cells,
            "num_stored": self.num_stored,
            "num_new": self.num_new,
            "failures": [asdict(one) for one in self.failures],
        }


def run_sweep(
    grid: Grid,
    out: str,
    *,
    backend: str = "loky",
    jobs: int | None = None,
    address: str | None = None,
    timeout_s: float | None = None,
    report: Report | None = None,
    run: Callable[[Cell], bytes] = cells_of.run_cell,
) -> Swept:
    """Run what is not stored yet; cells that failed before are tried again.

    Args:
        grid: what to run.
        out: folder or URL of the results.
        backend: joblib's: ``loky``, ``ray`` or ``dask``.
        jobs: processes; the stored bytes are the same whatever their number.
        address: of a cluster.
        timeout_s: of wall clock for one cell, its trace's reading included.
        report: told how many runs have ended.
        run: what a cell's bytes come from; it is found by its module and name.

    Raises:
        ValueError: a trace that cannot be read, a store that is not ours, no such cluster.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise ValueError(f"timeout(={timeout_s:g}) must be > 0 s.")
    check_backend(backend, jobs=jobs, address=address)
    store = Store(out)
    store.open_to_write()
    sweep = uuid4().hex
    try:
        prepared = _prepared(grid.cells, sweep, timeout_s, report)
        cells = with_keys(grid.cells, prepared, sweep)
        store.write(GRIDS, grid.name, json_bytes(_index(cells, prepared)))
        runs = _Runs(store, cells, prepared, report)
        calls = {cell.key: pickle.dumps((run, cell)) for cell in runs.missing()}
        here = min(jobs or num_cores(), len(calls))
        if not calls or (backend == "loky" and here == 1):
            for key, call in calls.items():
                runs.take(key, supervised(call, timeout_s))
        else:
            release()
            wanted = here if backend == "loky" else jobs
            with workers(backend, jobs=wanted, address=address) as run_all:
                _run_parallel(calls, runs, run_all, timeout_s, backend)
    finally:
        release()
    return runs.swept()


def _prepared(
    cells: Sequence[Cell], sweep: str, timeout_s: float | None, report: Report | None
) -> list[Prepared]:
    """In a child: a trace that cannot be held in memory is no end of the sweep."""
    by_trace: dict[object, list[int]] = {}
    for index, cell in enumerate(cells):
        by_trace.setdefault(cell.intake, []).append(index)
    found: dict[int, Prepared] = {}
    for count, rows in enumerate(by_trace.values()):
        if report is not None:
            report("sweep: traces", count, len(by_trace))
        asked = with_keys([cells[row] for row in rows], None, sweep)
        limit_s = None if timeout_s is None else timeout_s * len(rows)
        outcome = supervised(pickle.dumps((prepare, asked)), limit_s)
        if outcome.kind == REFUSED:
            raise ValueError(outcome.reason)
        if outcome.kind == DONE and isinstance(outcome.value, list):
            found |= dict(zip(rows, outcome.value, strict=True))
        else:
            found |= {row: unprepared(cells[row], outcome.kind, outcome.reason) for row in rows}
    if report is not None:
        report("sweep: traces", len(by_trace), len(by_trace))
    return [found[row] for row in range(len(cells))]


def _run_parallel(
    calls: Mapping[str, bytes],
    runs: _Runs,
    run_all: Callable[[list[Callable[[], tuple[str, Outcome]]]], Iterator[tuple[str, Outcome]]],
    timeout_s: float | None,
    backend: str,
) -> None:
    """Over the workers; where one is lost with its machine, what it had is given to others."""
    left, lives = dict(calls), LIVES
    while left:
        tasks = [partial(_named, key, call, timeout_s) for key, call in left.items()]
        before = len(left)
        try:
            for key, outcome in run_all([*tasks]):
                runs.take(key, outcome)
                del left[key]
        except ValueError:
            raise
        except Exception as error:  # each backend has its own names for it
            lives = LIVES if len(left) < before else lives - 1
            why = _lost(backend, error)
            if not lives:
                _one_by_one(left, runs, run_all, timeout_s, backend, why)
                return
            first, *rest = left.items()  # which may have been it: the others are not to wait for it
            left = dict([*rest, first])


def _one_by_one(
    calls: Mapping[str, bytes],
    runs: _Runs,
    run_all: Callable[[list[Callable[[], tuple[str, Outcome]]]], Iterator[tuple[str, Outcome]]],
    timeout_s: float | None,
    backend: str,
    why: str,
) -> None:
    """Each alone, so that none is blamed for what ran beside it; workers that are gone are gone."""
    lives = LIVES
    for key, call in calls.items():
        outcome = Outcome(kind=LOST, reason=why)
        if lives:
            try:
                ((_, outcome),) = run_all([partial(_named, key, call, timeout_s)])
                lives = LIVES
            except ValueError:
                raise
            except Exception as error:  # it was this one, or nobody is there any more
                lives -= 1
                why = _lost(backend, error)
                outcome = Outcome(kind=LOST, reason=why)
        runs.take(key, outcome)


def _lost(backend: str, error: Exception) -> str:
    return f"{backend} lost its workers ({type(error).__name__})."


def _named(key: str, call: bytes, timeout_s: float | None) -> tuple[str, Outcome]:
    return key, supervised(call, timeout_s)


@dataclass(slots=True)
class _Runs:
    """The runs of a sweep: which are stored, which are to come, which failed."""

    store: Store
    cells: Sequence[Cell]
    prepared: Sequence[Prepared]
    report: Report | None
    stored: set[str] = field(init=False)
    total: int = field(init=False)
    done: set[str] = field(init=False)
    failed: dict[str, Outcome] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        possible = {one.key for one in self.prepared if not one.refused}
        self.stored = self.store.whole(RUNS, possible)
        self.total, self.done = len(possible), set(self.stored)
        self._tell()

    def missing(self) -> Iterable[Cell]:
        """One cell for each run that is to come, the longest first: none is left to run alone."""
        pairs = zip(self.cells, self.prepared, strict=True)
        wanted = {
            cell.key: (-one.num_tokens, cell)
            for cell, one in pairs
            if not one.refused and cell.key not in self.stored
        }
        return [cell for _, cell in sorted(wanted.values(), key=lambda entry: entry[0])]

    def take(self, key: str, outcome: Outcome) -> None:
        """Store what came of a run."""
        if outcome.kind == DONE and isinstance(outcome.value, bytes):
            self.store.write(RUNS, key, outcome.value)
            self.store.remove(FAILURES, key)
        else:
            self.failed[key] = outcome
            said = {"schema": FAILURE_SCHEMA, "kind": outcome.kind, "reason": outcome.reason}
            self.store.write(FAILURES, key, json_bytes(said))
        self.done.add(key)
        self._tell()

    def swept(self) -> Swept:
        """What became of every cell."""
        failures = []
        for cell, one in zip(self.cells, self.prepared, strict=True):
            if one.refused:
                failures.append(Failure(name=cell.name, kind=one.kind, reason=one.refused))
            elif (outcome := self.failed.get(cell.key)) is not None:
                failures.append(Failure(name=cell.name, kind=outcome.kind, reason=outcome.reason))
        stored = sum(cell.key in self.stored for cell in self.cells)
        return Swept(num_cells=len(self.cells), num_stored=stored, failures=tuple(failures))

    def _tell(self) -> None:
        if self.report is not None:
            self.report("sweep", len(self.done), self.total)


def _index(cells: Sequence[Cell], prepared: Sequence[Prepared]) -> dict[str, object]:
    """What the table of a grid needs beside the runs."""
    rows = []
    for cell, one in zip(cells, prepared, strict=True):
        row: dict[str, object] = {
            "name": cell.name,
            "deployment": cell.deployment,
            "trace": cell.trace,
            "rate_per_s": cell.rate_per_s,
            "key": cell.key,
            "gpu": one.gpu,
            "num_gpus": one.num_gpus,
            "usd_per_hour": one.usd_per_hour,
        }
        if one.refused:
            row |= {"kind": one.kind, "reason": one.refused}
        rows.append(row)
    return {"schema": GRID_SCHEMA, "cells": rows}
