"""The figures of a plan; each gives a picture, or None where the run holds nothing for it."""

from __future__ import annotations

from collections.abc import Callable

from ...sim.plan import Plan
from ..picture import Picture
from .at_once import at_once
from .block_sizes import block_sizes
from .concurrency import concurrency
from .how_sure import changes, hangs_on, intervals
from .latency import latency
from .latency_cdf import latency_cdf
from .memory import memory
from .memory_map import memory_map
from .memory_tiers import memory_tiers
from .occupancy import occupancy
from .options import objective, options_cost, options_rate
from .pool_shares import pool_shares
from .prefix_curve import prefix_curve
from .sharing import sharing
from .swap_crossover import swap_crossover
from .tornado import tornado

FIGURES: dict[str, Callable[[Plan], Picture | None]] = {
    "requests-at-once": at_once,
    "options-cost": options_cost,
    "options-rate": options_rate,
    "slo": objective,
    "how-sure": intervals,
    "answer-tornado": hangs_on,
    "what-if": changes,
    "where-the-bytes-go": pool_shares,
    "memory-map": memory_map,
    "concurrency": concurrency,
    "kv-occupancy": occupancy,
    "latency": latency,
    "latency-cdf": latency_cdf,
    "block-sizes": block_sizes,
    "prefix-curve": prefix_curve,
    "sharing": sharing,
    "swap-crossover": swap_crossover,
    "memory-tiers": memory_tiers,
    "tornado": tornado,
    "memory-budget": memory,
}


def plan_pictures(plan: Plan) -> list[Picture]:
    """All figures for which the plan holds something, in the order of the page."""
    pictures = (build(plan) for build in FIGURES.values())
    return [picture for picture in pictures if picture is not None]
