"""Every decision of the real vLLM scheduler, step by step, in every golden case kvsim supports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvsim.sim.conformance import Case, first_difference, load_case, per_request_differences, replay

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SHARED_ONLY = "07_poisson"  # too large to be committed
NUM_SUPPORTED = 29
"""Of the 71 cases: prefix caching off, synchronous, full attention."""


def _supported() -> list[Case]:
    cases = [load_case(path) for path in sorted((GOLDEN / "steps").glob("*.jsonl.gz"))]
    return [case for case in cases if case.supported]


CASES = _supported()


@pytest.fixture(name="large_case")
def _large_case(shared_file: Callable[[str], Path]) -> Case:
    path = shared_file(f"golden/steps/{SHARED_ONLY}.jsonl.gz")
    return load_case(path, GOLDEN / "traces")


def test_all_supported_cases_are_here() -> None:
    assert len(CASES) + len([SHARED_ONLY]) == NUM_SUPPORTED


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_step_matches(case: Case) -> None:
    difference = first_difference(case)
    assert difference is None, str(difference)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("exact_steps", [False, True], ids=["macro", "exact"])
def test_every_request_matches(case: Case, exact_steps: bool) -> None:
    result = replay(case, exact_steps=exact_steps)
    assert per_request_differences(case, result) == []


def test_every_step_of_the_large_case_matches(large_case: Case) -> None:
    difference = first_difference(large_case)
    assert difference is None, str(difference)
    assert per_request_differences(large_case, replay(large_case)) == []


def test_a_changed_rule_is_noticed() -> None:
    """The comparison itself can fail: one block less, and the tight case differs."""
    case = next(case for case in CASES if case.name == "02_tight")
    header = {**case.header, "num_blocks": case.header["num_blocks"] - 1}
    tighter = Case(
        name=case.name, header=header, steps=case.steps, summary=case.summary, trace=case.trace
    )
    difference = first_difference(tighter)
    assert difference is not None
    assert difference.key == "free"
    assert "recorded" in str(difference)
