"""The pages in docs/ name what there is."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from kvsim.calibration.profile.forms import __doc__ as forms
from kvsim.calibration.profile.imported import TABLES
from kvsim.calibration.profile.values import FAMILIES, PROVENANCES, ROLES, SCHEMA, Profile
from kvsim.sim.job import simulate_server
from kvsim.sim.load import load_server
from kvsim.sim.summary import PoolShare, Quantiles
from kvsim.traces.intake import Intake, take_in

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
CALLED = ("paged_decode", "paged_prefill", "paged_mixed", "latent_decode", "kv_write", "block_move")
INNER = ("plan_", "constants", "head_groups")
"""Shared with calibration."""


def test_the_profile_page_names_every_field() -> None:
    names = [field.name for field in fields(Profile)]
    columns = [column for table in TABLES.values() for column in table]
    for name in (*names, *FAMILIES, *PROVENANCES, *ROLES, *TABLES, *columns, SCHEMA):
        assert f"`{name}`" in PAGES["profile.md"], name


def test_the_profile_page_has_the_forms_of_the_code() -> None:
    assert forms is not None
    for line in forms.splitlines():
        kind, _, form = line.strip().partition("  ")
        if kind in ("decode", "prefill", "mixed", "line"):
            assert f"`{form.strip()}`" in PAGES["profile.md"], kind


def test_the_formats_page_names_every_key() -> None:
    page = PAGES["formats.md"]
    trace = take_in(Intake(workload="sharegpt", num_requests=5, rate_per_s=1.0)).trace
    server = load_server(trace, hardware={"gpu": "a100", "model": "llama-3.1-8b"}, flags={})
    result, summary = simulate_server(server, trace=trace)
    keys = [*summary.to_json(), *result.requests, *result.segments, *result.phases]
    keys += [*Quantiles.__slots__, *PoolShare.__slots__, *summary.digests]
    for name in keys:
        assert f"`{name}`" in page, name


@pytest.mark.parametrize("module", CALLED)
def test_the_kernels_page_names_every_call(module: str) -> None:
    tree = ast.parse((ROOT / "kernels" / f"{module}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    called = [f.name for f in functions if not f.decorator_list and not f.name.startswith("_")]
    for name in called:
        if not name.startswith(INNER) and not name.endswith("_launch_for"):
            assert f"`{name}`" in PAGES["kernels.md"], name
