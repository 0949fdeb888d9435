"""Queues and rates that theory has the answer to."""

from __future__ import annotations

from functools import cache
from statistics import mean

from support.queues import (
    Waited,
    m_d_1,
    m_d_n,
    m_m_c,
    m_m_n,
    rate_found,
    rate_of_theory,
)

SEEDS = (5, *range(20, 31))
"""Of the traces that a rate is looked for in; the first is that of the tests."""


@cache
def waits() -> dict[str, Waited]:
    """Each queue by what it is."""
    return {
        "M/D/1: one seat at a load of 0.8": m_d_1(0.8),
        "M/M/8: a server of 8 seats at 0.85": m_m_c(8, 0.85),
        "M/M/4: a fleet of 4 servers, one queue, at 0.7": m_m_n(4, 0.7),
        "M/D/2: a fleet of 2 servers, one queue, at 0.8": m_d_n(2, 0.8),
    }


def rate_error() -> float:
    """The planner's rate for an M/M/1 seat over that of theory, less one."""
    return rate_found().rate_per_s / rate_of_theory() - 1


def queues_block() -> str:
    """Theory beside the simulation, and how much a sample of that length tells."""
    lines = ["| queue | mean wait by theory | simulated | | doubt |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {one.theory_s:.4g} s | {one.found_s:.4g} s | {100 * one.error:+.1f} % "
        f"| {100 * one.doubt:.1f} % |"
        for name, one in waits().items()
    ]
    return "\n".join(lines)


def planner_block() -> str:
    """The rate that holds, beside the one of theory, for several traces."""
    theory = rate_of_theory()
    errors = [rate_found(seed).rate_per_s / theory - 1 for seed in SEEDS]
    return (
        f"For an M/M/1 seat and an objective of 12 s for 90 % of the requests, theory gives "
        f"{theory:.4f} requests/s. In {len(errors)} traces of 8,000 requests `kvsim plan`'s search "
        f"is {100 * min(errors):+.1f} to {100 * max(errors):+.1f} % off, on average "
        f"{100 * mean(errors):+.1f} %."
    )
