"""Rows run in several processes: what ``kvsim reproduce`` does."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context

from ...calibration.names import unknown_name
from . import ROWS
from .claim import HELD, NOT_HELD, SHAPE, SKIPPED, Claim
from .setup import Setting, constants

SCHEMA = "kvsim-reproduction/1"
Report = Callable[[str, int, int], None]
"""Told what is done, how many of them are, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """Published results beside ours."""

    claims: tuple[Claim, ...]
    constants: dict[str, str]
    """What holds for every row, in words."""
    full: bool

    @property
    def failed(self) -> bool:
        """Something does not hold that is expected to."""
        return any(claim.surprises for claim in self.claims)

    @property
    def not_held(self) -> tuple[Claim, ...]:
        """Expected or not."""
        return self.of(NOT_HELD)

    def of(self, *verdicts: str) -> tuple[Claim, ...]:
        """Claims of these verdicts."""
        return tuple(claim for claim in self.claims if claim.verdict in verdicts)

    @property
    def answer(self) -> str:
        """How many hold, in a sentence."""
        checks = [check for claim in self.claims for check in claim.checks]
        held = sum(check.held for check in checks)
        skipped = len(self.of(SKIPPED))
        tail = f", {skipped} skipped" if skipped else ""
        return (
            f"{len(self.of(HELD, SHAPE))} of {len(self.claims)} published results hold"
            f"{tail}; {held} of {len(checks)} of their figures lie within tolerance."
        )

    def to_json(self) -> dict[str, object]:
        """Plain values in a stable order."""
        return {
            "schema": SCHEMA,
            "set": "full" if self.full else "quick",
            "verdict": "failed" if self.failed else "passed",
            "constants": self.constants,
            "claims": [claim.to_json() for claim in self.claims],
        }


def chosen(only: Sequence[str], *, full: bool = False) -> tuple[str, ...]:
    """Names of the rows to run, in the order of the page.

    Args:
        only: names of rows, or beginnings that end at a hyphen ("mooncake"); empty: all.
        full: also those that are not in the quick set.

    Raises:
        ValueError: no row of a name; the sentence lists near ones.
    """
    if not only:
        return tuple(name for name, row in ROWS.items() if full or not row.only_full)
    wanted: set[str] = set()
    for name in only:
        found = [one for one in ROWS if one == name or one.startswith(f"{name}-")]
        if not found:
            raise unknown_name(name, ROWS, field="only")
        wanted.update(found)
    return tuple(name for name in ROWS if name in wanted)


def reproduce(
    names: Sequence[str], *, setting: Setting, jobs: int = 2, report: Report | None = None
) -> Reproduction:
    """Run rows, the longest first.

    Args:
        names: of :func:`chosen`.
        setting: quick or full, and where traces lie.
        jobs: processes; the result is the same.
        report: told about progress.

    Raises:
        ValueError: fewer than one process.
    """
    if jobs < 1:
        raise ValueError(f"jobs(={jobs}) must be > 0.")
    found: dict[str, Claim] = {}
    for claim in _done(sorted(names, key=lambda name: -ROWS[name].weight), setting, jobs):
        found[claim.name] = claim
        if report is not None:
            report("published results", len(found), len(names))
    claims = tuple(found[name] for name in names)
    return Reproduction(claims=claims, constants=constants(), full=setting.full)


def run_row(name: str, setting: Setting) -> Claim:
    """One row, timed."""
    begin_s = time.perf_counter()
    claim = ROWS[name].run(setting)
    assert claim.name == name, f"row {name} made {claim.name}"
    return replace(claim, seconds=time.perf_counter() - begin_s)


def _done(names: Sequence[str], setting: Setting, jobs: int) -> Iterator[Claim]:
    """Claims as they are done."""
    if jobs == 1 or len(names) == 1:
        yield from (run_row(name, setting) for name in names)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _leave_interrupts) as pool:
        try:
            running = [pool.submit(run_row, name, setting) for name in names]
            yield from (one.result() for one in as_completed(running))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_interrupts() -> None:
    """Ctrl-C is the first process's matter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
