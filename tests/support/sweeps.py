"""A small grid in a folder, what a sweep left behind, and cells that end badly."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from kvsim.sim.sweep.cell import Cell, run_cell
from kvsim.sim.sweep.grid import Grid, read_grid
from kvsim.sim.sweep.show import Row
from support.suites import CLOCK

GRID = f"""\
schema = "kvsim-grid/1"
rates = [4, 8]

[defaults]
step_cost = "{CLOCK}"
num_gpu_blocks_override = 200

[[deployment]]
name = "paged"
block_size = [8, 16]

[[trace]]
name = "chat"
workload = "sharegpt"
num_requests = 20
"""


def write_grid(folder: Path, text: str = GRID, name: str = "grid.toml") -> Path:
    """A grid's file."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def grid_of(folder: Path, text: str = GRID) -> Grid:
    """A grid of this text."""
    return read_grid(write_grid(folder, text))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ends_badly(cell: Cell) -> bytes:
    """As the deployment's name says; any other one is simulated."""
    name = cell.deployment.partition("-")[0]
    if name == "exits":
        os._exit(3)
    if name == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "greedy":
        return bytes(1 << 60)
    if name == "hangs":
        time.sleep(600)
    if name == "wrong":
        raise RuntimeError("no such\nthing")
    if name == "orphans":
        os.kill(os.getppid(), signal.SIGKILL)
    return run_cell(cell)


def own_pid(_: None) -> int:
    """Where a call runs."""
    return os.getpid()


def bad_grid(*names: str) -> str:
    """A good deployment between bad ones; each is another run."""
    tables = [
        f'[[deployment]]\nname = "{name}"\nmax_num_seqs = {16 + number}\n'
        for number, name in enumerate((*names, "good"))
    ]
    head, _, rest = GRID.replace("rates = [4, 8]", "rates = 4").partition("[[deployment]]")
    return head + "\n".join(tables) + rest[rest.index("\n[[trace]]") :]


def row(
    name: str, cost: float | None, tokens: float | None, ttft: float | None, **more: Any
) -> Row:
    """Invented figures."""
    found = {"output_tokens_per_s": tokens, "ttft_s.p95": ttft}
    values: dict[str, Any] = {
        "grid": "g",
        "name": name,
        "deployment": name,
        "trace": "chat",
        "rate_per_s": 4.0,
        "status": "done",
        "reason": "",
        "gpu": "a100",
        "num_gpus": 1,
        "usd_per_hour": cost,
        "attainment": None,
        "goodput_per_s": None,
        "metrics": {**found, "tpot_s.p95": 0.02, "e2e_s.p50": 9.0},
        "key": name,
    }
    return Row(**(values | more))
