"""Published results as tables: paper, ours, tolerance, verdict."""

from __future__ import annotations

import math

from ..sim.reproduce.claim import Check, Claim
from ..sim.reproduce.run import Reproduction
from . import words
from .sheet import Sheet

HOLDS, FAILS, KNOWN = "holds", "does not hold", "does not hold (known)"
COLUMNS = ("figure", "paper", "ours", "tolerance", "verdict")
_TEXT = (0, 4)
_SIGNS = {"share": " %", "x": "x", "points": " points", "s": " s", "ms": " ms"}


def claims_sheet(found: Reproduction) -> Sheet:
    """A row for each published result."""
    return Sheet(
        title="Published results",
        columns=("result", "source", "figures that hold", "verdict"),
        rows=tuple(
            (claim.name, claim.source, _counted(claim), verdict_words(claim))
            for claim in found.claims
        ),
        text_columns=(0, 1, 3),
    )


def check_sheet(claim: Claim) -> Sheet:
    """A row for each figure of one result."""
    return Sheet(
        title=f"{claim.name}: paper and ours",
        columns=COLUMNS,
        rows=tuple(check_row(check) for check in claim.checks),
        text_columns=_TEXT,
    )


def all_checks_sheet(found: Reproduction) -> Sheet:
    """Every figure of every result, for a terminal; a line of its own names the result."""
    rows: list[tuple[str, ...]] = []
    for claim in found.claims:
        rows.append((claim.name, "", "", "", verdict_words(claim)))
        rows += [(f"  {row[0]}", *row[1:]) for row in map(check_row, claim.checks)]
    return Sheet(title="Published results", columns=COLUMNS, rows=tuple(rows), text_columns=_TEXT)


def check_row(check: Check) -> tuple[str, str, str, str, str]:
    """Paper, ours, tolerance, verdict."""
    verdict = HOLDS if check.held else KNOWN if check.known else FAILS
    return (check.what, check.paper, value_words(check.ours, check.unit), room(check), verdict)


def verdict_words(claim: Claim) -> str:
    """The verdict, and whether it was known."""
    return f"{claim.verdict} (known)" if claim.reasons and not claim.surprises else claim.verdict


def room(check: Check) -> str:
    """The interval in which it holds: ``6.16 to 7.84``, ``at least 1x``, ``exact``."""
    if check.low == check.high:
        return "exact"
    low, high = (_number(end, check.unit) for end in (check.low, check.high))
    unit = _SIGNS.get(check.unit, "")
    if math.isinf(check.high):
        return f"at least {low}{unit}"
    if math.isinf(check.low) or (check.low == 0 and check.unit in _SIGNS):
        return f"at most {high}{unit}"
    return f"{low} to {high}{unit}"


def value_words(value: float, unit: str) -> str:
    """A figure with its unit, never more digits than can be compared."""
    if not math.isfinite(value):
        return words.NONE
    return f"{_number(value, unit)}{_SIGNS.get(unit, '')}"


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.4g}" if abs(value) >= 0.1 else f"{100 * value:.3g}"
    if unit == "x":
        return f"{value:.2f}" if value < 99.5 else words.count(value)
    if unit == "tokens" or abs(value) >= 1000:
        return words.count(value)
    return words.number(value, digits=4)


def closing_lines(found: Reproduction) -> list[str]:
    """What the whole comes to, then why what does not hold does not, and what was not run."""
    lines = [found.answer]
    for claim in found.not_held:
        lines += [f"Not held: {claim.name}: {reason}" for reason in claim.reasons]
    lines += [f"Skipped: {claim.name}: {claim.skipped}" for claim in found.claims if claim.skipped]
    return lines


def _counted(claim: Claim) -> str:
    return f"{claim.num_held} of {len(claim.checks)}" if claim.checks else words.NONE
