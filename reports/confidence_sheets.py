"""The tables of how sure a plan is: figures with their intervals, and what moves the answer."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING

from . import words
from .interval import NOUNS
from .sensitivity_sheets import at
from .sheet import Sheet

if TYPE_CHECKING:  # the values are only read
    from ..sim.planner.confidence import Certainty, Confidence
    from ..sim.planner.interval import Interval
    from ..sim.planner.tornado import Answer, Leverage


def usd(value: float) -> str:
    """``$0.0458``, ``$12.30``: cents, or four digits of less than a dollar."""
    return f"${words.number(value, digits=3, least_decimals=2)}" if isfinite(value) else words.NONE


def per_s(value: float) -> str:
    """Requests a second."""
    return words.number(value, digits=3)


def spanned(found: Interval, shown: Callable[[float], str]) -> str:
    """``13.8 (11.0-15.9)``; the figure alone where both ends print like it.

    ``3 (2 or more)`` where there is no upper end.
    """
    low, value, high = (shown(one) for one in (found.low, found.value, found.high))
    if not isfinite(found.high):
        return f"{value} ({low} or more)" if isfinite(found.value) else words.NONE
    return value if low == value == high else f"{value} ({low}-{high})"


FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("rate_per_s", "requests/s of a replica", per_s),
    ("rate_by_traffic_per_s", "other traffic alone", per_s),
    ("num_replicas", "replicas", words.count),
    ("usd_per_hour", "$ an hour", usd),
    ("usd_per_million_output_tokens", "$/M output tokens", usd),
)


def confidence_sheet(found: Confidence) -> Sheet:
    """The winner and the runner-up, each figure with its interval."""
    options = [("chosen", found.winner)]
    if found.runner_up is not None:
        options.append(("next", found.runner_up))
    held = [name for name, _, _ in FIGURES if any(getattr(one, name) for _, one in options)]
    return Sheet(
        title="The answer with its intervals",
        columns=("", "server", *(title for name, title, _ in FIGURES if name in held)),
        rows=tuple((role, one.title, *_cells(one, held)) for role, one in options),
        text_columns=(0, 1),
    )


def _cells(one: Certainty, held: list[str]) -> list[str]:
    return [
        words.NONE if (value := getattr(one, name)) is None else spanned(value, shown)
        for name, _, shown in FIGURES
        if name in held
    ]


def confidence_lines(found: Confidence) -> list[str]:
    """How sure, in sentences: the choice first, then the interval, then what is extrapolated."""
    one = found.winner
    rate = spanned(one.rate_per_s, per_s)
    traffic = spanned(one.rate_by_traffic_per_s, per_s)
    lines = [
        found.first_line,
        f"{one.title} holds {rate} requests/s a replica: bands of step times and KV blocks at "
        f"their ends, times the 5th to 95th percentile of {found.num_runs} runs on other traffic "
        f"of the same kind (that alone: {traffic}).",
    ]
    if found.num_requests < found.num_of:
        lines.append(
            f"Each run serves {found.num_requests:,} of the trace's {found.num_of:,} requests; its "
            "spread is scaled to the whole trace."
        )
    return [*lines, *found.beyond]


def leverage_sheet(found: Leverage) -> Sheet:
    """The base, both bands at their ends, then a row for each end of each input."""
    rows = [
        ("as planned", "", "", *_answer(found.base)),
        ("both bands", "worse ends", "interval", *_answer(found.low)),
        ("both bands", "better ends", "interval", *_answer(found.high)),
    ]
    for one in found.factors:
        title = NOUNS[one.name]
        if one.is_given:
            rows.append((title, "given", "no band", *_answer(found.base)))
            continue
        rows.append((title, at(one, one.low_input), one.kind, *_answer(one.low)))
        if one.high_input != one.base_input:
            rows.append((title, at(one, one.high_input), one.kind, *_answer(one.high)))
    return Sheet(
        title="The rate that holds, with one input changed",
        columns=("input", "at", "kind", "requests/s", "$/M output tokens"),
        rows=tuple(rows),
        text_columns=(0, 1, 2),
    )


def _answer(one: Answer) -> tuple[str, str]:
    cost = one.usd_per_million_output_tokens
    return per_s(one.rate_per_s), words.NONE if cost is None else usd(cost)
