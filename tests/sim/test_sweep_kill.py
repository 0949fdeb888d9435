"""A sweep that is killed again and again ends with the bytes of one that was left in peace."""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from kvsim.sim.sweep.run import run_sweep
from support.killed_sweep import sweep
from support.sweeps import GRID, grid_of, tree

NUM_KILLS = 20
RATES = list(range(1, 41))
TEXT = GRID.replace("[4, 8]", str(RATES)).replace("num_requests = 20", "num_requests = 4")
LONGEST_S = 60.0


def visible(out: Path) -> dict[str, bytes]:
    """What a reader sees: not the parts that nobody finished."""
    return {name: data for name, data in tree(out).items() if not name.startswith(".")}


def killed(grid: Path, out: Path, chance: random.Random, *, jobs: int) -> bool:
    """Start a sweep and kill its group, somewhere; whether it was at work."""
    context = get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=sweep, args=(grid, out, jobs, theirs))
    process.start()
    theirs.close()
    # as it starts, while it reads the trace, or somewhere between two writes
    title, reports = chance.choice([("", 0), ("sweep: traces", 1), *[("sweep", 4)] * 4])
    for _ in range(chance.randrange(reports + 1)):
        _wait_for(ours, title)
    time.sleep(chance.uniform(0.0, 0.05))
    at_work = process.is_alive()
    try:
        os.killpg(process.pid or 0, signal.SIGKILL)
    except ProcessLookupError:  # it has no group of its own yet
        process.kill()
    process.join(LONGEST_S)
    return at_work


def _wait_for(told: Connection, title: str) -> None:
    end_s = time.monotonic() + LONGEST_S
    try:
        while told.poll(max(0.0, end_s - time.monotonic())):
            if told.recv()[0] == title:
                return
    except EOFError:
        return


def check_kills(folder: Path, *, num_kills: int, jobs: int, seed: int) -> None:
    """Kill so often, finish, compare."""
    grid, chance = grid_of(folder, TEXT), random.Random(seed)
    assert run_sweep(grid, str(folder / "left-in-peace"), jobs=1).num_new == 80
    expected, out = tree(folder / "left-in-peace"), folder / "out"
    kills = begun = 0
    while kills < num_kills:
        kills += killed(grid.path, out, chance, jobs=jobs)
        seen = visible(out)
        begun += any(name.startswith("runs/") for name in seen)
        assert all(expected[name] == data for name, data in seen.items()), "a part was to be seen"
        if len(seen) == len(expected):  # all done: as if the second half had not been
            for path in sorted((out / "runs").iterdir())[::2]:
                path.unlink()
    assert begun > num_kills / 2
    done = run_sweep(grid, str(out), jobs=jobs)
    assert done.num_stored > 0
    assert tree(out) == expected, "and no part is left lying about"


def test_killed_at_random(tmp_path: Path) -> None:
    check_kills(tmp_path, num_kills=NUM_KILLS, jobs=1, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_often(tmp_path: Path, jobs: int, seed: int) -> None:
    check_kills(tmp_path, num_kills=50 // jobs, jobs=jobs, seed=100 + seed)
