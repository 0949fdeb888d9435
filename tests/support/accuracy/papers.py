"""How many published results come out, as docs/reproduce.md has them, which has its own tests."""

from __future__ import annotations

import re
from typing import NamedTuple

from kvsim.sim.reproduce import ROWS
from support.marks import block_in
from support.pages import ROOT

PAGE = ROOT / "docs" / "reproduce.md"
_LINE = re.compile(
    r"^\| `(?P<name>[\w-]+)` \| (?:(?P<held>\d+) of (?P<all>\d+)|-) \| (?P<verdict>[^|]+) \|"
)


class Rerun(NamedTuple):
    """One published result."""

    name: str
    num_held: int
    num_figures: int
    verdict: str


def reruns() -> list[Rerun]:
    """Every line of the page's table."""
    found = [_LINE.match(line) for line in block_in(PAGE, "reproduced").splitlines()]
    rows = [
        Rerun(one["name"], int(one["held"] or 0), int(one["all"] or 0), one["verdict"].strip())
        for one in found
        if one
    ]
    assert [one.name for one in rows] == list(ROWS), "a line for each result"
    return rows


def count() -> str:
    """Results and figures that hold."""
    rows = [one for one in reruns() if one.num_figures]
    held = sum(one.num_held == one.num_figures for one in rows)
    figures = sum(one.num_held for one in rows), sum(one.num_figures for one in rows)
    return f"{held} of {len(rows)} results, {figures[0]} of {figures[1]} figures"


def reproduced_block() -> str:
    """The count, and the names of what misses."""
    rows = reruns()
    missed = [
        f"`{one.name}` ({one.num_figures - one.num_held} of {one.num_figures})"
        for one in rows
        if one.num_held < one.num_figures
    ]
    skipped = [f"`{one.name}`" for one in rows if not one.num_figures]
    text = f"{count()} hold. Figures miss in {', '.join(missed)}."
    return text + (f" Not run: {', '.join(skipped)}." if skipped else "")
