"""Measures a plan's points on a card, as long as there is time, and keeps each at once.

What cannot run (a library that is absent, a shape that a kernel refuses, no memory left) is kept
with its reason and never ends a run. Memory is read first; then the kernels are compiled; then the
points come in their order. A card that no longer answers, the budget and Ctrl-C end a session; what
was measured stays, and the same command goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..profile.store import nine_digits
from ..profile.values import Sample
from .card import Card
from .pace import Pace
from .partial import Partial
from .point import Point
from .points import Plan
from .timer import Timer

Report = Callable[[str, int, int], None]
"""``report(title, done, total)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a session ended."""

    why: str = ""
    """Nothing where everything is measured; else ``interrupted``, ``budget`` or what broke."""


def measure(card: Card, plan: Plan, partial: Partial, report: Report) -> Ended:
    """Measure what is not in the file yet."""
    begin_s, started = card.now_s(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = Ended(why="interrupted")
    try:
        ended = _measure(card, plan, partial, report, begin_s)
    except KeyboardInterrupt:
        pass
    finally:
        partial.add_run(_run(card, started, card.now_s() - begin_s))
    return ended


def header(card: Card, plan: Plan) -> dict[str, Any]:
    """What samples must have in common to be of one profile."""
    identity = card.identity
    software = {name: identity.software.get(name) for name in ("kernel_hash", "torch", "triton")}
    card_facts = {"gpu": identity.hardware.gpu, "name": identity.hardware.name}
    asked = {"model": plan.model, "families": ",".join(plan.families), "seed": plan.seed}
    return {**asked, **card_facts, **software}


def measured_once(card: Card, timer: Timer, point: Point) -> Sample:
    """A point's operands, its times, and its sample."""
    work = card.prepare(point)
    timing = timer.measure(work)
    return Sample(
        family=point.family,
        x=work.x,
        t=tuple(nine_digits(value) for value in timing.t),  # as stored: a refit gives the same
        unit=work.unit,
        role=point.role,
        flags=(*point.flags, *timing.flags),
    )


def _measure(card: Card, plan: Plan, partial: Partial, report: Report, begin_s: float) -> Ended:
    timer, pace, total = Timer(card), Pace(plan.budget_s), len(plan.points)
    todo = [point for point in plan.points if point.key not in partial]
    compiled = False
    while todo:
        if not compiled and todo[0].family != "memory":
            card.compile_ahead(todo, lambda done, of: report("compiling kernels", done, of))
            compiled = True
        point = pace.next(todo, card.now_s() - begin_s)
        if point is None:
            return Ended(why="budget")
        todo.remove(point)
        point_s = card.now_s()
        _keep(card, timer, point, partial)
        broken = _release(card)
        if broken:
            return Ended(why=f"the card failed after {point}: {broken}")
        pace.add(point, card.now_s() - point_s)
        report("calibrating", total - len(todo), total)
    return Ended()


def _keep(card: Card, timer: Timer, point: Point, partial: Partial) -> None:
    """Measure a point, or keep why it cannot be."""
    try:
        sample = measured_once(card, timer, point)
    except Exception as error:  # of any library; it is written down, and told in the profile
        partial.add_failure(point, reason_of(error))
    else:
        partial.add_sample(point, sample)


def _release(card: Card) -> str:
    """Why the card no longer answers; nothing where it does."""
    try:
        card.release()
    except Exception as error:  # an error of the device stays until the process ends
        return reason_of(error)
    return ""


def reason_of(error: BaseException) -> str:
    """The first line of what an exception says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _run(card: Card, started_utc: str, seconds: float) -> Mapping[str, Any]:
    clocks = card.clocks()
    return {
        "started_utc": started_utc,
        "seconds": round(seconds, 1),
        "uuid_hash": card.identity.hardware.more.get("uuid_hash", ""),
        "clocks_source": clocks.source,
        "clocks_columns": list(clocks.columns),
        "clocks_log": [list(row) for row in clocks.rows],
    }
