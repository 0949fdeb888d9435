"""The bundled suite: it covers what there is, its files and figures are what they say."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from kvsim.cli import app
from kvsim.sim.allocators import ALLOCATORS, PLACEMENTS, RESERVATIONS
from kvsim.sim.deployment import ON_IMPOSSIBLE, PREFIX_CACHES
from kvsim.sim.regress.baseline import baseline_path, read_baseline, stale_baselines
from kvsim.sim.regress.replay import replayed
from kvsim.sim.regress.suite import Suite, read_suite
from kvsim.sim.schedulers import SCHEDULERS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "regression"
BASELINES = FOLDER / "baselines"
LARGEST_BYTES = 3_000


@pytest.fixture(scope="module", name="suite")
def _suite() -> Suite:
    return read_suite(FOLDER / "SUITE.toml")


@pytest.fixture(scope="module", name="servers")
def _servers(suite: Suite) -> list[Mapping[str, Any]]:
    """What each case's baseline says of its server, defaults filled in."""
    defaults = {"allocator": "paged", "scheduler": "vllm", "prefix_cache": "hash"}
    defaults |= {"reservation": "max", "placement": "buddy"}
    found = [read_baseline(baseline_path(BASELINES, case.name)) for case in suite.cases]
    return [{**defaults, **one.server} for one in found]


def test_every_allocator_under_every_scheduler(servers: list[Mapping[str, Any]]) -> None:
    pairs = {(server["allocator"], server["scheduler"]) for server in servers}
    assert pairs == set(product(ALLOCATORS, SCHEDULERS))


def test_every_reservation_in_every_placement(servers: list[Mapping[str, Any]]) -> None:
    names = ("reservation", "placement", "scheduler")
    there = {
        tuple(server[name] for name in names)
        for server in servers
        if server["allocator"] == "contiguous"
    }
    assert there == set(product(RESERVATIONS, PLACEMENTS, SCHEDULERS))


def test_every_prefix_cache_with_and_without_scheduling_ahead(
    servers: list[Mapping[str, Any]],
) -> None:
    there = {
        (server["prefix_cache"], server.get("async_scheduling", False))
        for server in servers
        if server.get("enable_prefix_caching")
    }
    assert there == set(product(PREFIX_CACHES, (True, False)))


def test_everything_that_decides_a_schedule(servers: list[Mapping[str, Any]]) -> None:
    flags = {flag for server in servers for flag in server}
    assert flags >= {
        *("kv_groups", "concurrency", "watermark", "max_num_active_seqs", "scheduling_policy"),
        *("enable_chunked_prefill", "long_prefill_token_threshold", "prefill_schedule_interval"),
        *(
            "mixed_batches",
            "scheduler_reserve_full_isl",
            "tensor_parallel_size",
            "pipeline_parallel_size",
        ),
        *("kv_cache_dtype", "block_size", "max_num_batched_tokens", "max_num_seqs"),
    }
    assert {server.get("on_impossible", "reject") for server in servers} == set(ON_IMPOSSIBLE)


def test_pools_are_tight(suite: Suite) -> None:
    metrics = [read_baseline(baseline_path(BASELINES, case.name)).metrics for case in suite.cases]
    for name, at_least in (
        ("num_preemptions", 25),
        ("num_rejected", 3),
        ("num_length_capped", 1),
        ("prefix_hit_tokens", 15),
        ("shared_saved", 8),
        ("pool_share.external", 27),
        ("wasted_tokens", 20),
    ):
        assert sum((one[name] or 0) > 0 for one in metrics) >= at_least, name


def test_a_baseline_for_each_case_and_no_other_file(suite: Suite) -> None:
    wanted = {baseline_path(BASELINES, case.name) for case in suite.cases}
    assert set(BASELINES.iterdir()) == wanted
    assert stale_baselines(BASELINES, [case.name for case in suite.cases]) == []


def test_baselines_are_small_and_sorted() -> None:
    for path in BASELINES.iterdir():
        data = path.read_bytes()
        assert len(data) < LARGEST_BYTES
        assert data == read_baseline(path).to_bytes()
        found = json.loads(data)
        for table in ("server", "digests", "metrics"):
            assert list(found[table]) == sorted(found[table])


def test_no_tolerance_at_all(suite: Suite) -> None:
    for case in suite.cases:
        tolerance = case.tolerances.of("ttft_s.p95")
        assert (tolerance.relative, tolerance.absolute, tolerance.both) == (0, 0, True)


COMMANDS = re.findall(
    r"^#   (kvsim trace generate .+)$", (FOLDER / "SUITE.toml").read_text(), re.MULTILINE
)


def test_every_trace_has_its_command() -> None:
    outs = {shlex.split(command)[-1] for command in COMMANDS}
    assert outs == {f"traces/{path.name}" for path in (FOLDER / "traces").iterdir()}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: shlex.split(command)[-1])
def test_traces_are_drawn_again(command: str, tmp_path: Path) -> None:
    *words, out = shlex.split(command)[1:]
    drawn = tmp_path / "trace.jsonl.gz"
    app([*words, str(drawn)], standalone_mode=False)
    committed = (FOLDER / out).read_bytes()
    assert len(committed) < 10_000
    # other compressors, other bytes: what is compared is what is in it
    assert gzip.decompress(drawn.read_bytes()) == gzip.decompress(committed)


def test_another_processor_gives_the_same_digits() -> None:
    """Sums are added in another order on older processors; a baseline's digits do not show it."""
    older = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": ""}
    code = "from kvsim.cli import app; app()"
    command = [sys.executable, "-c", code, "regress", "run", str(FOLDER / "SUITE.toml")]
    command += ["--baseline", str(BASELINES), "-k", "contiguous-vllm", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **older}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {case["verdict"] for case in json.loads(done.stdout)["cases"]} == {"same"}


@pytest.mark.parametrize("name", ["closed-loop-1", "windows-cache", "never-fits-stall"])
def test_a_case_gives_its_baseline(suite: Suite, name: str) -> None:
    (case,) = [case for case in suite.cases if case.name == name]
    assert replayed(case, suite) == read_baseline(baseline_path(BASELINES, name))


def test_layers_that_keep_other_tokens_are_another_server(servers: list[Mapping[str, Any]]) -> None:
    groups = {server["model"]: server["kv_groups"] for server in servers if "kv_groups" in server}
    assert len(groups) == 2
    assert len(set(groups.values())) == 2


def test_the_checks_run_it() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "kvsim regress run" in line]
    assert "tests/regression/SUITE.toml --baseline tests/regression/baselines" in line
