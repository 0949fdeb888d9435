"""Every decision of the real vLLM scheduler, step by step, in every golden case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kvsim.sim.conformance import Case, first_difference, load_case, per_request_differences, replay

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NUM_CASES = 71
LARGE = [  # too large to be committed
    "07_h100_defaults",
    "07_poisson",
    "07_poisson_async",
    "07_poisson_pc",
    "07_prefix_big",
    "07_prefix_big_async",
]
CASES = [load_case(path) for path in sorted((GOLDEN / "steps").glob("*.jsonl.gz"))]


@pytest.fixture(name="large_case", params=LARGE)
def _large_case(request: pytest.FixtureRequest, shared_file: Callable[[str], Path]) -> Case:
    path = shared_file(f"golden/steps/{request.param}.jsonl.gz")
    return load_case(path, GOLDEN / "traces")


def test_all_cases_are_here() -> None:
    assert len(CASES) + len(LARGE) == NUM_CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_step_matches(case: Case) -> None:
    difference = first_difference(case)
    assert difference is None, str(difference)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("exact_steps", [False, True], ids=["macro", "exact"])
def test_every_request_matches(case: Case, exact_steps: bool) -> None:
    result = replay(case, exact_steps=exact_steps)
    assert per_request_differences(case, result) == []


def test_every_step_of_the_large_cases_matches(large_case: Case) -> None:
    difference = first_difference(large_case)
    assert difference is None, str(difference)
    assert per_request_differences(large_case, replay(large_case)) == []


def test_a_changed_rule_is_noticed() -> None:
    """The comparison itself can fail: one block less, and the tight case differs."""
    case = next(case for case in CASES if case.name == "02_tight")
    header = {**case.header, "num_blocks": case.header["num_blocks"] - 1}
    difference = first_difference(replace(case, header=header))
    assert difference is not None
    assert difference.key == "free"
    assert "recorded" in str(difference)
