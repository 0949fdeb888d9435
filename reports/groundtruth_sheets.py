"""A comparison with real runs as tables: goals, every figure, steps, what was run."""

from __future__ import annotations

from collections.abc import Sequence

from ..sim.groundtruth.truth import Truth
from . import groundtruth_words as said
from . import words
from .compare_sheets import percent
from .sheet import Sheet


def runs_sheet(truths: Sequence[Truth]) -> Sheet:
    """A row per run: what it was and how many of its goals held."""
    return Sheet(
        title="Runs",
        columns=("run", "requests", "steps", "goals held", "missed", "repeat"),
        rows=tuple(_run_row(truth) for truth in truths),
        text_columns=(0, 4, 5),
    )


def steps_sheet(truths: Sequence[Truth]) -> Sheet:
    """Level one: each step from its composition."""
    return Sheet(
        title="Step time from the logged composition",
        columns=("run", "steps", "number", "bias", "median error", "P95 error"),
        rows=tuple(
            (
                truth.name,
                one.kind,
                words.count(one.num_steps),
                percent(one.bias),
                words.share(one.median),
                words.share(one.p95),
            )
            for truth in truths
            for one in truth.forced.errors
        ),
        text_columns=(0, 1),
    )


def figures_sheet(truth: Truth) -> Sheet:
    """Levels two and three of one run: measured, predicted, error, noise floor, goal."""
    return Sheet(
        title=f"{truth.name}: predicted against measured",
        columns=("figure", "measured", "predicted", "error", "noise floor", "goal", "verdict"),
        rows=tuple(
            (
                said.title(one.name),
                said.value(one.name, one.measured),
                said.value(one.name, one.predicted),
                said.error(one),
                said.floor(one),
                said.goal(one),
                said.VERDICTS[one.met],
            )
            for one in truth.compared
        ),
        text_columns=(0, 6),
    )


def _run_row(truth: Truth) -> tuple[str, ...]:
    judged = [one for one in truth.compared if one.met is not None]
    held = sum(one.met is True for one in judged)
    return (
        truth.name,
        words.count(len(truth.log.requests)),
        words.count(len(truth.log.steps)),
        f"{held} of {len(judged)}",
        ", ".join(said.title(one.name) for one in truth.misses) or words.NONE,
        truth.repeat or words.NONE,
    )
