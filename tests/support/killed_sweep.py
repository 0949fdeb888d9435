"""A sweep in a process group of its own, to be killed."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from kvsim.sim.sweep.grid import read_grid
from kvsim.sim.sweep.run import run_sweep


def sweep(grid: Path, out: Path, jobs: int, told: Connection) -> None:
    """Run it; every report goes to ``told``."""
    os.setsid()
    LocalFileSystem.pipe_file = _on_a_slow_disk
    run_sweep(
        read_grid(grid),
        str(out),
        jobs=jobs,
        report=lambda title, done, total: told.send((title, done, total)),
    )


def _on_a_slow_disk(_: LocalFileSystem, path: str, data: bytes) -> None:
    """Each write takes longer than a cell: most kills fall into one."""
    with open(path, "wb", buffering=0) as file:
        for begin in range(0, len(data), 500):
            file.write(data[begin : begin + 500])
            time.sleep(0.005)
