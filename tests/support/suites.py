"""A small suite in a folder, and what to change in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvsim.sim.regress.baseline import Baseline
from kvsim.sim.regress.run import Regression, run_suite
from kvsim.sim.regress.suite import Suite, read_suite
from kvsim.sim.regress.update import Update, update_baselines
from kvsim.traces.intake import Intake, take_in
from kvsim.traces.write import write_mooncake

CLOCK = "affine:0.006,0.00004,0.0000001"
HEAD = f"""\
schema = "kvsim-suite/1"

[defaults]
gpu = "a100"
step_cost = "{CLOCK}"
num_gpu_blocks_override = 200
"""
TEXT = f"""\
{HEAD}
[[case]]
name = "chat"
trace = "traces/chat.jsonl.gz"

[[case]]
name = "drawn"
workload = "alpaca"
num_requests = 20
rate = 10
"""


def write_suite(folder: Path, text: str = TEXT, *, seed: int = 0) -> Path:
    """``SUITE.toml`` and its trace."""
    (folder / "traces").mkdir(parents=True, exist_ok=True)
    wanted = Intake(workload="sharegpt", num_requests=30, rate_per_s=15.0, seed=seed)
    write_mooncake(take_in(wanted).trace, folder / "traces" / "chat.jsonl.gz")
    path = folder / "SUITE.toml"
    path.write_text(text, encoding="utf-8")
    return path


def read_text(folder: Path, text: str) -> Suite:
    """A suite of this text."""
    path = folder / "SUITE.toml"
    path.write_text(text, encoding="utf-8")
    return read_suite(path)


def updated(suite: Path, baselines: Path, **options: Any) -> Update:
    """Its baselines written."""
    return update_baselines(read_suite(suite), baselines, **options)


def ran(suite: Path, baselines: Path, **options: Any) -> Regression:
    """The suite compared."""
    return run_suite(read_suite(suite), baselines, **options)


def edit(path: Path, **values: Any) -> None:
    """Change a JSON file's members; those with a dot in their name are metrics."""
    found = json.loads(path.read_text(encoding="utf-8"))
    for name, value in values.items():
        found[name] = {**found[name], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def baseline(case: str = "chat", **changes: Any) -> Baseline:
    """Invented figures."""
    values: dict[str, Any] = {
        "case": case,
        "server": {"gpu": "a100", "block_size": 16},
        "digests": {"trace": "t" * 64, "cost": "c" * 64, "budget": "b" * 64},
        "metrics": {"ttft_s.p95": 0.5, "requests_per_s": 4.0, "peak_running": 12},
    }
    return Baseline(**(values | changes))
