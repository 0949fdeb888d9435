"""The figures of a plan; each takes a plan and gives a picture."""

from __future__ import annotations

from collections.abc import Callable

from ...sim.plan import Plan
from ..picture import Picture
from .at_once import at_once
from .concurrency import concurrency
from .latency import latency
from .memory import memory
from .occupancy import occupancy
from .pool_shares import pool_shares

FIGURES: dict[str, Callable[[Plan], Picture]] = {
    "requests-at-once": at_once,
    "where-the-bytes-go": pool_shares,
    "concurrency": concurrency,
    "latency": latency,
    "kv-occupancy": occupancy,
    "memory-budget": memory,
}


def plan_pictures(plan: Plan) -> list[Picture]:
    """All figures of a plan, in the order of the page."""
    return [build(plan) for build in FIGURES.values()]
