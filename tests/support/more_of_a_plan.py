"""A plan with values that it lacks, and outcomes by hand."""

from __future__ import annotations

from typing import Any, cast

from kvsim.sim.plan import Plan
from kvsim.sim.sensitivity import BAND, SUPPOSED, Factor, Sensitivity
from kvsim.sim.variant_runs import Outcome


class _With:
    """A plan's attributes, some of them replaced."""

    def __init__(self, plan: Plan, more: dict[str, Any]) -> None:
        self._plan, self._more = plan, more

    def __getattr__(self, name: str) -> Any:
        more = self._more
        return more[name] if name in more else getattr(self._plan, name)


def with_more(plan: Plan, **more: Any) -> Plan:
    """The plan as a figure sees it, with these attributes."""
    return cast(Plan, _With(plan, more))


def outcome(running: float, tokens_per_s: float, ttft_s: float, tpot_s: float = 0.02) -> Outcome:
    return Outcome(
        mean_running=running,
        output_tokens_per_s=tokens_per_s,
        ttft_p95_s=ttft_s,
        tpot_p95_s=tpot_s,
    )


BASE = outcome(100, 4000, 0.100)
NOTHING = Outcome(mean_running=None, output_tokens_per_s=None, ttft_p95_s=None, tpot_p95_s=None)


def factor(
    name: str, kind: str, ends: tuple[float, float], *, low: Outcome, high: Outcome
) -> Factor:
    blocks = name == "kv_blocks"
    return Factor(
        name=name,
        kind=kind,
        unit="blocks" if blocks else "times",
        low_input=ends[0],
        base_input=1000 if blocks else 1.0,
        high_input=ends[1],
        source="by hand",
        low=low,
        high=high,
    )


STEPS = factor(
    "step_times",
    BAND,
    (0.8, 1.25),
    low=outcome(100, 5000, 0.080, 0.016),
    high=outcome(100, 3200, 0.125, 0.025),
)
BLOCKS = factor(
    "kv_blocks", BAND, (900, 1100), low=outcome(90, 3800, 0.100), high=outcome(110, 4200, 0.100)
)
LENGTHS = factor(
    "output_lengths",
    SUPPOSED,
    (0.8, 1.2),
    low=outcome(120, 4300, 0.090),
    high=outcome(80, 3700, 3.0),
)
RATE = factor(
    "request_rate",
    SUPPOSED,
    (0.8, 1.2),
    low=outcome(100, 4000, 0.095),
    high=outcome(100, 4000, 0.11),
)
BY_HAND = Sensitivity(
    base=BASE,
    low=outcome(90, 3040, 0.130, 0.026),
    high=outcome(110, 5250, 0.080, 0.016),
    factors=(STEPS, BLOCKS, LENGTHS, RATE),
)
GIVEN = Sensitivity(
    base=BASE,
    low=BASE,
    high=BASE,
    factors=(
        factor("step_times", BAND, (1.0, 1.0), low=BASE, high=BASE),
        factor("kv_blocks", BAND, (1000, 1000), low=BASE, high=BASE),
        LENGTHS,
    ),
)
