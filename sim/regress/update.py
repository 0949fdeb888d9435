"""Baselines written anew, after somebody has looked at what changes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ..files import prepare_directory
from .baseline import (
    Baseline,
    baseline_path,
    is_baseline,
    read_baseline,
    stale_baselines,
    write_baseline,
)
from .compare import Comparison, compare
from .replay import replayed
from .run import Report, mapping
from .suite import Case, Suite

Action = Literal["new", "rewritten", "unchanged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """What becomes of one case's baseline."""

    case: str
    path: Path
    action: Action
    why: str
    """Where the old one could not be compared: the reason."""
    comparison: Comparison | None
    """With the old one; None where there is none that can be read."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        changes = [] if self.comparison is None else self.comparison.changes
        return {
            "name": self.case,
            "file": self.path.name,
            "action": self.action,
            "why": self.why,
            "changes": [change.to_json() for change in changes],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What becomes of all baselines of a suite."""

    suite: Path
    cases: tuple[Updated, ...]
    removed: tuple[Path, ...]
    written: bool
    """False: it was only asked what would change."""

    def to_json(self) -> dict[str, object]:
        """Plain values in a stable order."""
        return {
            "schema": "kvsim-regression-update/1",
            "suite": self.suite.name,
            "written": self.written,
            "cases": [case.to_json() for case in self.cases],
            "removed": [path.name for path in self.removed],
        }


def update_baselines(
    suite: Suite,
    baselines: str | Path,
    *,
    whole: Suite | None = None,
    jobs: int = 1,
    dry_run: bool = False,
    report: Report | None = None,
) -> Update:
    """Replay every case and write its baseline; remove those of cases that there are no more.

    Nothing is written before all cases have run. Files that are no baselines of kvsim are left
    alone.

    Args:
        suite: its cases may be a selection.
        baselines: folder of the baselines; made where missing.
        whole: the suite before the selection: whose baselines are kept.
        jobs: processes to run cases in.
        dry_run: only say what would change.
        report: told about progress.

    Raises:
        ValueError: a case that cannot be run, a folder that cannot be written to, somebody else's
            file under a baseline's name.
    """
    folder = Path(baselines) if dry_run else prepare_directory(baselines)
    for case in suite.cases:
        _refuse_foreign(baseline_path(folder, case.name), case.name)
    fresh: list[Baseline] = []
    with mapping(jobs) as over:
        for now in over(partial(replayed, suite=suite), suite.cases):
            fresh.append(now)
            if report is not None:
                report("cases", len(fresh), len(suite.cases))
    cases = [_updated(*pair, folder) for pair in zip(suite.cases, fresh, strict=True)]
    names = [case.name for case in (whole or suite).cases]
    removed = tuple(stale_baselines(folder, names))
    if not dry_run:
        for done, now in zip(cases, fresh, strict=True):
            if done.action != "unchanged":
                write_baseline(done.path, now)
        for path in removed:
            path.unlink()
    return Update(suite=suite.path, cases=tuple(cases), removed=removed, written=not dry_run)


def _refuse_foreign(path: Path, case: str) -> None:
    if path.exists() and not is_baseline(path):
        raise ValueError(
            f"baseline(={str(path)!r}) of case {case!r} would replace a file that is no baseline "
            "of kvsim: move it away, or name another folder."
        )


def _updated(case: Case, now: Baseline, folder: Path) -> Updated:
    path = baseline_path(folder, case.name)
    if not path.exists():
        return Updated(case=case.name, path=path, action="new", why="", comparison=None)
    try:
        old = read_baseline(path)
    except ValueError as error:  # of another version, or damaged: it is made anew
        why = str(error).partition(") ")[2].rstrip(".")
        return Updated(case=case.name, path=path, action="rewritten", why=why, comparison=None)
    same = path.read_bytes() == now.to_bytes()
    return Updated(
        case=case.name,
        path=path,
        action="unchanged" if same else "rewritten",
        why=old.why_not_comparable(now) or "",
        comparison=compare(old, now, case.tolerances, line=case.line),
    )
