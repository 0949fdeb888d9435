"""Figures between marks in the README are those of this code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def _tool() -> ModuleType:
    path = ROOT / "tests" / "benchmarks" / "readme.py"
    spec = importlib.util.spec_from_file_location("readme_tool", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_are_up_to_date() -> None:
    tool = _tool()
    stale = tool.stale_blocks(tool.BLOCKS, tool.PAGES)
    assert not stale, f"run tests/benchmarks/readme.py: {stale}"
