"""A suite replayed and compared: what ``kvsim regress run`` decides on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from ...calibration.names import unknown_name
from ..conformance import Outcome, compare_files
from .baseline import Baseline, baseline_path, read_baseline, stale_baselines
from .compare import Comparison, compare
from .replay import forget_traces, replayed
from .suite import Case, StepLog, Suite

SCHEMA = "kvsim-regression/1"
Report = Callable[[str, int, int], None]
"""Told what is done, how many of them are, and of how many."""
T = TypeVar("T")
Item = TypeVar("Item")
Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformed:
    """One step log of the real scheduler beside kvsim's."""

    name: str
    line: int | None
    outcome: Outcome

    @property
    def message(self) -> str:
        """What came of it, without the log's name."""
        return str(self.outcome).partition(": ")[2]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        verdict = "regressed" if self.outcome.differs else "same"
        return {**self.outcome.to_json(), "name": self.name, "verdict": verdict}


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """Everything that a run of a suite found."""

    suite: Path
    cases: tuple[Comparison, ...]
    conformed: tuple[Conformed, ...]
    stale: tuple[Path, ...]
    """Baselines of cases that there are no more."""

    @property
    def num_failed(self) -> int:
        """Cases and step logs that the gate closes on."""
        differs = [one for one in self.conformed if one.outcome.differs]
        return sum(case.verdict == "regressed" for case in self.cases) + len(differs)

    @property
    def failed(self) -> bool:
        """Whether the gate closes."""
        return self.num_failed > 0

    def to_json(self) -> dict[str, object]:
        """Plain values in a stable order."""
        return {
            "schema": SCHEMA,
            "suite": self.suite.name,
            "verdict": "regressed" if self.failed else "passed",
            "num_failed": self.num_failed,
            "cases": [case.to_json() for case in self.cases],
            "conformance": [one.to_json() for one in self.conformed],
            "stale_baselines": [path.name for path in self.stale],
        }


def run_suite(
    suite: Suite,
    baselines: str | Path,
    *,
    whole: Suite | None = None,
    jobs: int = 1,
    report: Report | None = None,
) -> Regression:
    """Replay every case and compare it with its baseline, every step log with its record.

    Args:
        suite: its cases may be a selection.
        baselines: folder of the baselines.
        whole: the suite before the selection: whose baselines are not stale.
        jobs: processes to run cases in; the result is the same.
        report: told about progress.

    Raises:
        ValueError: a baseline that is missing, or not comparable; a case that cannot be run.
    """
    folder = Path(baselines)
    known = [_baseline_of(case, suite, folder) for case in suite.cases]
    total = len(suite.cases) + len(suite.step_logs)
    count = _counter("cases", total, report)
    with mapping(jobs) as over:
        runs = count(over(partial(replayed, suite=suite), suite.cases))
        pairs = zip(suite.cases, known, runs, strict=True)
        cases = tuple(_compared(*one, folder, suite.path) for one in pairs)
        conformed = tuple(count(over(_conformed, suite.step_logs)))
    names = [case.name for case in (whole or suite).cases]
    stale = tuple(stale_baselines(folder, names))
    return Regression(suite=suite.path, cases=cases, conformed=conformed, stale=stale)


@contextmanager
def mapping(jobs: int) -> Iterator[Map]:
    """A ``map`` over so many processes, in order; traces are read anew.

    Raises:
        ValueError: fewer than one.
    """
    if jobs < 1:
        raise ValueError(f"jobs(={jobs}) must be > 0.")
    forget_traces()
    if jobs == 1:
        yield lambda function, items: map(function, items)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _leave_interrupts) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_interrupts() -> None:
    """Ctrl-C is the first process's matter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def selected(suite: Suite, *, pattern: str | None, names: Sequence[str]) -> Suite:
    """The cases and step logs of these names, and those whose names hold the pattern.

    Raises:
        ValueError: nothing is selected, or there is no case of a name.
    """
    known = [*(case.name for case in suite.cases), *(log.name for log in suite.step_logs)]
    for name in names:
        if name not in known:
            raise unknown_name(name, known, field="case")
    if pattern is None and not names:
        return suite

    def wanted(entry: Case | StepLog) -> bool:
        matches = pattern is not None and pattern.casefold() in entry.name.casefold()
        return matches or entry.name in names

    cases = tuple(filter(wanted, suite.cases))
    logs = tuple(filter(wanted, suite.step_logs))
    if not cases and not logs:
        raise ValueError(f"k(={pattern!r}) matches none of the suite's {len(known)} cases.")
    return replace(suite, cases=cases, step_logs=logs)


def how_to_make(suite: Suite, folder: Path) -> str:
    """The command that makes baselines."""
    return f"kvsim regress update {suite.path} --baseline {folder}"


def _baseline_of(case: Case, suite: Suite, folder: Path) -> Baseline:
    path = baseline_path(folder, case.name)
    if path.is_file():
        return read_baseline(path)
    missing = [c for c in suite.cases if not baseline_path(folder, c.name).is_file()]
    others = len(missing) - 1
    more = f" (and {others} other{'s' if others > 1 else ''})" if others else ""
    raise ValueError(
        f"baseline(={str(path)!r}) of case {case.name!r} is missing{more}: make it with "
        f"{how_to_make(suite, folder)}"
    )


def _compared(
    case: Case, baseline: Baseline, now: Baseline, folder: Path, suite: Path
) -> Comparison:
    why = baseline.why_not_comparable(now)
    if why is not None:
        path = baseline_path(folder, case.name)
        raise ValueError(
            f"baseline(={str(path)!r}) of case {case.name!r} is not compared: {why}. Review the "
            f"change, then kvsim regress update {suite} --baseline {folder}"
        )
    return compare(baseline, now, case.tolerances, line=case.line)


def _conformed(log: StepLog) -> Conformed:
    traces = None if log.traces is None else str(log.traces)
    (outcome,) = compare_files([log.path], traces)
    return Conformed(name=log.name, line=log.line, outcome=outcome)


def _counter(title: str, total: int, report: Report | None) -> Callable[[Iterator[T]], Iterator[T]]:
    """Passes things on and reports how many went by, over several iterators."""
    done = 0

    def count(items: Iterator[T]) -> Iterator[T]:
        nonlocal done
        for item in items:
            done += 1
            if report is not None:
                report(title, done, total)
            yield item

    return count
