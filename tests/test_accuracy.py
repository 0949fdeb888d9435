"""Figures between marks in docs/accuracy.md are those of this code, and every one is made by it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import pytest

from support.accuracy import summary
from support.marks import block_in, blocks_of
from support.pages import ROOT

PAGE = ROOT / "docs" / "accuracy.md"


def _tool() -> ModuleType:
    path = ROOT / "tests" / "benchmarks" / "accuracy.py"
    spec = importlib.util.spec_from_file_location("accuracy_tool", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = _tool()


def _and_slow(quick: Iterable[str], slow: Iterable[str]) -> list[object]:
    return [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]


@pytest.mark.parametrize("name", _and_slow(TOOL.BLOCKS, TOOL.SLOW))
def test_a_block_is_up_to_date(name: str) -> None:
    made = TOOL.BLOCKS | TOOL.SLOW
    assert block_in(PAGE, name) == made[name](), "run tests/benchmarks/accuracy.py"


@pytest.mark.parametrize("name", _and_slow(TOOL.RECORDED, TOOL.RECORDED_SLOW))
def test_a_recorded_block_is_up_to_date(shared_file: Callable[[str], Path], name: str) -> None:
    for needed in ("measured", "golden"):
        shared_file(needed)
    made = TOOL.RECORDED | TOOL.RECORDED_SLOW
    assert block_in(PAGE, name) == made[name](), "run tests/benchmarks/accuracy.py"


def test_every_block_is_made() -> None:
    assert set(blocks_of(PAGE)) == {
        *TOOL.BLOCKS,
        *TOOL.SLOW,
        *TOOL.RECORDED,
        *TOOL.RECORDED_SLOW,
        TOOL.SPEED,
    }


def test_every_claim_can_be_made_again() -> None:
    """Its tests are there, its commands too."""
    claims = [*summary.exact_rows(), *summary.law_rows(), *summary.data_rows()]
    before = ""
    for claim in claims:
        command = before if claim.command == "the same" else claim.command
        before = command
        for word in command.strip("`").split():
            if word.startswith("tests/") and "*" not in word:
                assert (ROOT / word).exists(), command
        assert re.match(r"`(kvsim|pytest) ", command), command
    assert len({claim.what for claim in claims}) == len(claims)
