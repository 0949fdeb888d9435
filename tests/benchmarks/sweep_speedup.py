"""How much faster a sweep is on two processes than on one: linear would be 2.

    .venv/bin/python tests/benchmarks/sweep_speedup.py [CELLS [REQUESTS]]

Each sweep is run in a store of its own. Beside the wall clock, which other work on the machine
spoils, it prints the processor time of the cells: what two processes cost in all, and how evenly it
was spread over them; from these the speed-up of an idle machine follows.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

LOG = "KVSIM_SPEEDUP_LOG"
GRID = """\
schema = "kvsim-grid/1"
rates = {rates}

[[deployment]]
name = "paged"
block_size = [16, 32]

[[trace]]
name = "chat"
workload = "sharegpt"
num_requests = {num_requests}
"""


def timed(cell: object) -> bytes:
    """A cell, with its processor time in a log."""
    from kvsim.sim.sweep.cell import run_cell

    begin_s = time.process_time()
    data = run_cell(cell)  # type: ignore[arg-type]
    with open(os.environ[LOG], "a") as file:
        file.write(f"{os.getpid()} {time.process_time() - begin_s}\n")
    return data


def swept(folder: Path, grid: Path, jobs: int) -> tuple[float, dict[str, float]]:
    """Wall clock, and the processor time of each process's cells."""
    from sweep_speedup import timed as run

    from kvsim.sim.sweep.grid import read_grid
    from kvsim.sim.sweep.run import run_sweep

    os.environ[LOG] = str(folder / f"{jobs}.log")
    begin_s = time.monotonic()
    done = run_sweep(read_grid(grid), str(folder / str(jobs)), jobs=jobs, run=run)
    wall_s = time.monotonic() - begin_s
    assert not done.failures, done.failures
    work: dict[str, float] = defaultdict(float)
    for line in (folder / f"{jobs}.log").read_text().splitlines():
        pid, seconds = line.split()
        work[pid] += float(seconds)
    return wall_s, work


def main() -> None:
    """Print both and their ratios."""
    words = [int(word) for word in sys.argv[1:]]
    num_cells, num_requests = [*words, *(40, 4000)[len(words) :]]
    sys.path.insert(0, str(Path(__file__).parent))  # the workers import this file by its name
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grid = folder / "grid.toml"
        rates = [round(2 + 0.25 * index, 2) for index in range(num_cells // 2)]
        grid.write_text(GRID.format(rates=rates, num_requests=num_requests))
        one_s, one = swept(folder, grid, 1)
        two_s, two = swept(folder, grid, 2)
    work_1_s, work_2_s = sum(one.values()), sum(two.values())
    spread = work_2_s / max(two.values())
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {num_cells} cells")
    print(f"wall clock: {one_s:.1f} s on one, {two_s:.1f} s on two: {one_s / two_s:.2f} times")
    print(f"processor time of the cells: {work_1_s:.1f} s on one, {work_2_s:.1f} s on two")
    print(f"two processes cost {work_2_s / work_1_s:.2f} times one, spread {spread:.2f} of 2")


if __name__ == "__main__":
    main()
