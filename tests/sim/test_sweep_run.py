"""A sweep: each run stored once, whatever runs it; what goes wrong with one leaves the others."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kvsim.sim.job import simulate_server
from kvsim.sim.load import load_server
from kvsim.sim.planner.probe import at_rate
from kvsim.sim.sweep import run as running
from kvsim.sim.sweep.cell import prepare, run_cell
from kvsim.sim.sweep.grid import read_grid
from kvsim.sim.sweep.run import Failure, run_sweep
from kvsim.sim.sweep.supervise import Outcome, release, supervised
from kvsim.traces.intake import Intake, take_in
from support.suites import CLOCK
from support.sweeps import GRID, bad_grid, ends_badly, grid_of, own_pid, tree, write_grid

PLAIN = "out"


@pytest.fixture(scope="module", name="swept")
def _swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small grid run, one cell after the other."""
    folder = tmp_path_factory.mktemp("sweep")
    done = run_sweep(grid_of(folder), str(folder / PLAIN), jobs=1)
    assert (done.num_cells, done.num_new, done.num_stored, done.failures) == (4, 4, 0, ())
    return folder


@pytest.fixture(name="place")
def _place(swept: Path, tmp_path: Path) -> Path:
    shutil.copytree(swept, tmp_path / "p")
    return tmp_path / "p"


def test_a_run_is_what_simulate_gives(swept: Path) -> None:
    own = take_in(Intake(workload="sharegpt", num_requests=20, rate_per_s=1.0)).trace
    cells = json.loads((swept / PLAIN / "grids" / "grid.json").read_text())["cells"]
    assert [(cell["deployment"], cell["rate_per_s"]) for cell in cells] == [
        *(("paged-8", 4.0), ("paged-8", 8.0), ("paged-16", 4.0), ("paged-16", 8.0))
    ]
    for cell in cells:
        trace = at_rate(own, cell["rate_per_s"])
        flags = {
            "step_cost": CLOCK,
            "num_gpu_blocks_override": 200,
            "block_size": int(cell["deployment"].rpartition("-")[2]),
        }
        server = load_server(trace, hardware={"gpu": "a100", "model": "llama-3.1-8b"}, flags=flags)
        _, summary = simulate_server(server, trace=trace)
        stored = json.loads((swept / PLAIN / "runs" / f"{cell['key']}.json").read_text())
        assert stored["summary"] == json.loads(json.dumps(summary.to_json()))
        assert (stored["schema"], stored["key"]) == ("kvsim-run/1", cell["key"])


def test_what_is_stored_is_not_run_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(place / PLAIN)
    with monkeypatch.context() as patch:
        patch.setattr(running, "_named", None)
        done = run_sweep(grid_of(place), str(place / PLAIN), jobs=1, run=ends_badly)
    assert (done.num_stored, done.num_new) == (4, 0)
    assert tree(place / PLAIN) == before
    gone, cut = sorted((place / PLAIN / "runs").iterdir())[:2]
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:100])  # a machine that stopped
    done = run_sweep(grid_of(place), str(place / PLAIN), jobs=1)
    assert (done.num_stored, done.num_new) == (2, 2)
    assert tree(place / PLAIN) == before


def test_two_grids_share_their_runs(place: Path) -> None:
    other = GRID.replace("rates = [4, 8]", "rates = [8, 16]").replace('"chat"', '"talk"')
    write_grid(place, other, name="more.toml")
    done = run_sweep(read_grid(place / "more.toml"), str(place / PLAIN), jobs=1)
    assert (done.num_stored, done.num_new) == (2, 2)
    assert len(list((place / PLAIN / "runs").iterdir())) == 6
    priced = GRID.replace("[defaults]", "[defaults]\nprice = 9.0")
    done = run_sweep(grid_of(place, priced), str(place / PLAIN), jobs=1)
    assert done.num_stored == 4
    (cell, *_) = json.loads((place / PLAIN / "grids" / "grid.json").read_text())["cells"]
    assert cell["usd_per_hour"] == 9.0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_requests = 20", "num_requests = 21"),
        ("num_requests = 20", "num_requests = 20\nseed = 1"),
        (CLOCK, "affine:0.007,0.00004,0.0000001"),
        ("num_gpu_blocks_override = 200", "num_gpu_blocks_override = 201"),
        ("[defaults]", '[defaults]\ngpu = "h100-sxm"'),
        ("rates = [4, 8]", "rates = [4.5, 8.5]"),
        ("rates = [4, 8]", "rates = [4, 8]\nslo_ttft = 1.0"),
    ],
)
def test_what_determines_a_run_changes_its_key(
    swept: Path, tmp_path: Path, old: str, new: str
) -> None:
    assert old in GRID
    plain = {one.key for one in prepare(grid_of(tmp_path).cells)}
    other = {one.key for one in prepare(grid_of(tmp_path, GRID.replace(old, new)).cells)}
    assert plain == {path.stem for path in (swept / PLAIN / "runs").iterdir()}
    assert len(other) == 4
    assert not plain & other


BAD = {
    "exits": ("crashed", "its process left with exit status 3."),
    "crashes": ("crashed", "its process was ended by SIGSEGV."),
    "killed": (
        "crashed",
        "its process was ended by SIGKILL, as the kernel does where memory runs out.",
    ),
    "greedy": ("out of memory", "the run asked for more memory than there is."),
    "hangs": ("timed out", "it took longer than timeout(=2) s."),
    "wrong": ("failed", "RuntimeError: no such thing"),
}


def test_bad_cells_leave_the_others(tmp_path: Path) -> None:
    grid, out = grid_of(tmp_path, bad_grid(*BAD)), tmp_path / "out"
    done = run_sweep(grid, str(out), jobs=1, timeout_s=2.0, run=ends_badly)
    assert done.failures == tuple(
        Failure(name=f"{name}, chat, 4/s", kind=kind, reason=reason)
        for name, (kind, reason) in BAD.items()
    )
    assert done.num_new == 1
    assert len(list((out / "runs").iterdir())) == 1
    assert len(list((out / "failures").iterdir())) == len(BAD)
    again = run_sweep(grid, str(out), jobs=1)  # mended: tried again, and no failure is left
    assert (again.num_stored, again.num_new, again.failures) == (1, len(BAD), ())
    assert list((out / "failures").iterdir()) == []


def test_two_processes_and_a_worker_that_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LIVES", 2)  # each costs two new processes
    grid = grid_of(tmp_path, bad_grid("orphans", "exits", "a", "b", "c"))
    done = run_sweep(grid, str(tmp_path / "two"), jobs=2, run=ends_badly)
    lost, crashed = done.failures
    assert (lost.name, lost.kind) == ("orphans, chat, 4/s", "lost")
    assert re.fullmatch(r"loky lost its workers \(\w+\)\.", lost.reason)
    assert (crashed.name, crashed.reason) == ("exits, chat, 4/s", BAD["exits"][1])
    assert done.num_new == 4
    run_sweep(grid, str(tmp_path / "one"), jobs=1)
    runs = {name: tree(tmp_path / name / "runs") for name in ("one", "two")}
    assert len(runs["two"]) == 4
    assert runs["two"].items() <= runs["one"].items(), "the same bytes from any process"
    assert run_sweep(grid, str(tmp_path / "two"), jobs=2).num_new == 2
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


def test_a_server_that_cannot_be_is_a_cell_without_a_result(tmp_path: Path) -> None:
    text = GRID.replace("block_size = [8, 16]", 'model = ["llama-3.1-8b", "llama-3.1-405b"]')
    text = text.replace("num_gpu_blocks_override = 200\n", "")
    done = run_sweep(grid_of(tmp_path, text), str(tmp_path / "out"), jobs=1)
    assert done.num_new == 2
    assert [one.kind for one in done.failures] == ["refused", "refused"]
    assert all("405b" in one.name and "GiB" in one.reason for one in done.failures)


def test_a_trace_that_kills_its_reader_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process does not read traces itself."""
    dead = Outcome(kind="crashed", reason="its process was ended by SIGKILL.")
    whole = supervised

    def reader(call: bytes, timeout_s: float | None) -> Outcome:
        _, cells = pickle.loads(call)
        return dead if isinstance(cells, list) and cells[0].trace == "huge" else whole(call, None)

    monkeypatch.setattr(running, "supervised", reader)
    text = GRID + GRID[GRID.index("\n[[trace]]") :].replace("chat", "huge").replace("20", "22")
    done = run_sweep(grid_of(tmp_path, text), str(tmp_path / "out"), jobs=1)
    assert done.num_new == 4
    assert {(one.name.split(", ")[1], one.kind) for one in done.failures} == {("huge", "crashed")}


def test_a_worker_that_sees_another_trace_is_refused(tmp_path: Path) -> None:
    cell = replace(grid_of(tmp_path).cells[0], key="0" * 64)
    with pytest.raises(ValueError, match="are not what they were when the sweep began"):
        run_cell(cell)


def test_a_child_serves_many_calls_and_ends_with_its_parent() -> None:
    call = pickle.dumps((os.getpgid, 0))
    first = supervised(pickle.dumps((own_pid, None)))
    second = supervised(pickle.dumps((own_pid, None)))
    assert first.value == second.value != os.getpid()
    assert supervised(call).value == os.getpgid(0)
    release()
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(first.value)), 0)


def test_a_child_that_ran_out_of_memory_is_replaced() -> None:
    first = supervised(pickle.dumps((own_pid, None)))
    assert supervised(pickle.dumps((bytes, 1 << 60))).kind == "out of memory"
    second = supervised(pickle.dumps((own_pid, None)))
    release()
    assert first.value != second.value


def test_a_child_ends_with_a_parent_that_is_killed() -> None:
    """Which then has no time to say so."""
    code = (
        f"import os, pickle, signal, sys; sys.path[:] = {sys.path!r}\n"
        "from kvsim.sim.sweep.supervise import supervised\n"
        "print(supervised(pickle.dumps((eval, '__import__(\"os\").getpid()'))).value, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    child = Path("/proc") / done.stdout.strip()
    assert child.name.isdigit()
    end_s = time.monotonic() + 60
    while child.exists() and time.monotonic() < end_s:
        time.sleep(0.01)
    assert not child.exists()


def test_progress_counts_runs(place: Path) -> None:
    told: list[tuple[str, int, int]] = []
    (next(iter((place / PLAIN / "runs").iterdir()))).unlink()
    run_sweep(grid_of(place), str(place / PLAIN), jobs=1, report=lambda *step: told.append(step))
    assert told == [
        ("sweep: traces", 0, 1),
        ("sweep: traces", 1, 1),
        ("sweep", 3, 4),
        ("sweep", 4, 4),
    ]
