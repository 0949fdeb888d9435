"""Published results as lines of the table in ``docs/reproduce.md``."""

from __future__ import annotations

from collections.abc import Iterable

from kvsim.reports.reproduce_sheets import value_words, verdict_words
from kvsim.sim.reproduce.claim import Claim

MOST_FIGURES = 3
HEAD = ("| result | figures that hold | verdict | ours (printed) |", "|---|---|---|---|")


def line(claim: Claim) -> str:
    """One result: how much of it holds, and its first figures."""
    figures = [
        f"{check.what}: {value_words(check.ours, check.unit)} ({check.paper})"
        for check in claim.checks[:MOST_FIGURES]
    ]
    more = len(claim.checks) - len(figures)
    shown = "; ".join(figures) + (f"; {more} more" if more else "")
    held = f"{claim.num_held} of {len(claim.checks)}" if claim.checks else "-"
    return f"| `{claim.name}` | {held} | {verdict_words(claim)} | {shown or claim.skipped} |"


def table(claims: Iterable[Claim]) -> str:
    """All of them."""
    return "\n".join([*HEAD, *map(line, claims)])
