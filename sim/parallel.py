"""Independent runs on every core of the machine: joblib's loky, in the order asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from joblib import Parallel, cpu_count, delayed
from joblib.parallel import get_active_backend

from .job import Report

T = TypeVar("T")
Task = tuple[str, Callable[[], T]]
"""What to tell the progress bar, and what to run; it is pickled, so no closure."""

WORTH_REQUESTS = 15_000
"""Simulated in about two seconds, which is what starting the other processes takes."""


def run_each(
    tasks: Sequence[Task[T]], *, title: str, jobs: int | None = None, report: Report | None = None
) -> list[T]:
    """Run them all; results in the order of the tasks.

    Args:
        tasks: independent of each other.
        title: of all of them together, for ``report``.
        jobs: processes; by default one per core. With 1, or a single task, nothing is started.
        report: told which task has ended, and how many of how many.
    """
    workers = min(len(tasks), jobs or num_cores())
    if workers <= 1:
        found = map(_call, (task for _, task in tasks))
    else:
        # max_nbytes: sent whole, as masked arrays of figures warn where they are mapped from a file
        found = Parallel(n_jobs=workers, return_as="generator", max_nbytes=None)(
            delayed(task)() for _, task in tasks
        )
    results: list[T] = []
    if report is not None and tasks:
        report(title, 0, len(tasks))
    for (name, _), result in zip(tasks, found, strict=True):
        results.append(result)
        if report is not None:
            report(f"{title}: {name}", len(results), len(tasks))
    return results


def jobs_for(num_requests: int) -> int | None:
    """Processes for runs of so many requests in all: 1 where starting others takes longer."""
    return None if num_requests >= WORTH_REQUESTS else 1


def num_cores() -> int:
    """Processes worth starting here; 1 inside a worker, which must not start its own."""
    backend, _ = get_active_backend()
    return 1 if backend.nesting_level else int(cpu_count())


def _call(task: Callable[[], T]) -> T:
    return task()
