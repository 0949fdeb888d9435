"""Real clusters of two workers on this machine, and a sweep that goes to one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
PATIENCE_S = 120.0
SWEEP = """\
import json, sys
from kvsim.sim.sweep.grid import read_grid
from kvsim.sim.sweep.run import run_sweep
from support.sweeps import ends_badly
if __name__ == "__main__":
    grid, out, backend, address, limit = sys.argv[1:]
    done = run_sweep(
        read_grid(grid), out, backend=backend, address=address, run=ends_badly,
        timeout_s=float(limit),
    )
    print(json.dumps(done.to_json()))
"""


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """A scheduler and two worker processes; their address."""
    port = free_port()
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    scheduler += ["--host", "127.0.0.1", "--port", str(port), "--no-show"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}"]
    worker += ["--nworkers", "2", "--nthreads", "1", "--no-dashboard"]
    worker += ["--local-directory", str(folder)]
    with _running(scheduler, folder, port), _running(worker, folder):
        yield f"tcp://127.0.0.1:{port}"


@contextmanager
def ray_cluster(folder: Path) -> Iterator[str]:
    """A node of two CPUs; its address. Sockets of Ray need a short path."""
    port = free_port()
    start = ["from ray.scripts.scripts import main; main()", "start", "--head", "--block"]
    start += ["--num-cpus=2", f"--port={port}", "--node-ip-address=127.0.0.1"]
    start += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
    start += [f"--object-store-memory={100 << 20}", "--dashboard-agent-listen-port=0"]
    with _running([sys.executable, "-c", *start], folder, port):
        yield f"127.0.0.1:{port}"


def sweep_there(
    grid: Path, out: Path, *, backend: str, address: str, timeout_s: float = 60.0
) -> dict[str, Any]:
    """A sweep by a process of its own, standing elsewhere; what it did."""
    words = [str(grid), str(out), backend, address, str(timeout_s)]
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, *words],
        capture_output=True,
        text=True,
        env=_environment(),
        cwd="/",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _running(command: list[str], folder: Path, port: int | None = None) -> Iterator[None]:
    log = folder / f"{port or 'worker'}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=_environment(), cwd=folder
        )
        try:
            if port is not None:
                _wait_for(port, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"it did not start: {log.read_text(errors='replace')}")


def _environment() -> dict[str, str]:
    """Workers find the tests' helpers; Ray asks for no token, whatever lies in this home."""
    paths = [os.environ.get("PYTHONPATH", ""), str(TESTS)]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "RAY_AUTH_MODE": "disabled"}
    return {**os.environ, **own}
