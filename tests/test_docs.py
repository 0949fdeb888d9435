"""The pages in docs/ name what there is."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from kvsim.calibration.profile.forms import __doc__ as forms
from kvsim.calibration.profile.imported import TABLES
from kvsim.calibration.profile.values import FAMILIES, PROVENANCES, ROLES, SCHEMA, Profile

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


@pytest.mark.parametrize("module", CALLED)
def test_the_kernels_page_names_every_call(module: str) -> None:
    tree = ast.parse((ROOT / "kernels" / f"{module}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    called = [f.name for f in functions if not f.decorator_list and not f.name.startswith("_")]
    for name in called:
        if not name.startswith(INNER) and not name.endswith("_launch_for"):
            assert f"`{name}`" in PAGES["kernels.md"], name
