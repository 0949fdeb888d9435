"""The tables behind the interval: each factor at either end, and both bands together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from . import words
from .interval import NOUNS
from .sheet import Sheet

if TYPE_CHECKING:
    from ..sim.sensitivity import Sensitivity
    from ..sim.variant_runs import Outcome


class At(Protocol):
    """What says how an input's ends are printed."""

    @property
    def unit(self) -> str: ...


COLUMNS = (
    "input",
    "at",
    "kind",
    "output tokens/s under backlog",
    "requests at once",
    "TTFT p95",
    "TPOT p95",
)


def sensitivity_sheet(found: Sensitivity) -> Sheet:
    """The base, both bands at their ends, then a row for each end of each factor."""
    rows = [
        ("as planned", "", "", *_outcome(found.base)),
        ("both bands", "worse ends", "interval", *_outcome(found.low)),
        ("both bands", "better ends", "interval", *_outcome(found.high)),
    ]
    for factor in found.factors:
        title = NOUNS[factor.name]
        if factor.is_given:
            rows.append((title, "given", "no band", *_outcome(found.base)))
            continue
        rows.append((title, at(factor, factor.low_input), factor.kind, *_outcome(factor.low)))
        rows.append((title, at(factor, factor.high_input), factor.kind, *_outcome(factor.high)))
    return Sheet(
        title="The answer with one input changed",
        columns=COLUMNS,
        rows=tuple(rows),
        text_columns=(0, 1, 2),
    )


def at(factor: At, value: float) -> str:
    """One end of a factor: ``x 0.89``, ``28,162`` or ``off``."""
    if factor.unit == "switch":
        return "on" if value else "off"
    if factor.unit == "blocks":
        return words.count(value)
    return f"x {value:.2f}"


def _outcome(outcome: Outcome) -> tuple[str, ...]:
    return (
        _shown(outcome.output_tokens_per_s, words.count),
        _shown(outcome.mean_running, words.mean),
        _shown(outcome.ttft_p95_s, words.seconds),
        _shown(outcome.tpot_p95_s, words.seconds),
    )


def _shown(value: float | None, text: Callable[[float], str]) -> str:
    return words.NONE if value is None else text(value)
