"""What an engine reads through the ledger's tables, over many runs (``support.sums_runner``)."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

import pytest

from kvsim.calibration.engine.steps import Move
from support.engine_cases import FORKED, KINDS, SHARED, SWAPPED, TWICE, Case, drawn
from support.sums_runner import SumsRunner
from support.toy_engine import Toy, run_toy


def served(case: Case) -> Toy:
    """A run without a model; the answers of all who got one are compared."""
    toy = run_toy(case.trace, model=False, **case.flags)
    assert not toy.served.num_unfinished
    wrong = toy.wrong(case.trace)
    assert not wrong, f"{case.trace.name}: sequences {wrong} answer wrongly"
    return toy


@pytest.mark.parametrize("case", [SHARED, SWAPPED, FORKED, TWICE], ids=lambda case: case.trace.name)
def test_the_named_cases(case: Case) -> None:
    served(case)


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_right(kind: str) -> None:
    sweep(kind, range(12))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_right_in_many_runs(kind: str) -> None:
    seen = sweep(kind, range(12, 300))
    assert seen["preempted"] > 10
    if kind in ("fork", "fork_swap"):
        assert seen["copy"] > 40
    if "swap" in kind:
        assert min(seen["out"], seen["in"]) > 40
    if kind in ("shared", "fan_out"):
        assert seen["cached"] > 100


def sweep(kind: str, seeds: range) -> Counter[str]:
    """Random runs of a kind; what happened in them."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        toy = served(drawn(kind, seed))
        assert isinstance(toy.runner, SumsRunner)
        seen.update(toy.runner.num_moves)
        seen["preempted"] += sum(one.preemptions for one in toy.run.requests)
        seen["cached"] += sum(one.cached_tokens for one in toy.run.requests)
    return seen


def test_nobody_samples_before_the_end_of_a_prompt() -> None:
    rows = run_toy(SHARED.trace, model=False, **SHARED.flags).shown
    at_the_end = [row for row in rows if row.takers]
    middle = [row for row in rows if not row.takers]
    assert middle[0].new_tokens == 8, "of a prompt of eleven"
    assert {row.past_tokens + row.new_tokens for row in middle} & {11, 14} == set()
    assert len(at_the_end) == sum(SHARED.trace.output_tokens)


def without_the_last_copy(moves: list[Move]) -> list[Move]:
    return [move for move in moves if move.kind != "copy"]


def to_another_host_block(moves: list[Move]) -> list[Move]:
    return [m._replace(target=(m.target + 1) % 8) if m.kind == "out" else m for m in moves]


def back_to_another_block(moves: list[Move]) -> list[Move]:
    return [m._replace(target=m.target % 8 + 1) if m.kind == "in" else m for m in moves]


@pytest.mark.parametrize(
    "broken", [without_the_last_copy, to_another_host_block, back_to_another_block]
)
def test_a_move_that_goes_wrong_is_seen(broken: Any) -> None:
    launch = SumsRunner.launch

    def wrongly(runner: SumsRunner, moves: list[Move]) -> None:
        launch(runner, broken(moves))

    with mock.patch.object(SumsRunner, "launch", wrongly), pytest.raises(AssertionError):
        served(SWAPPED)
