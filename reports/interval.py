"""The plan's answer with its interval, in words for the first screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import words

if TYPE_CHECKING:  # the values are only read
    from ..sim.plan import Plan
    from ..sim.sensitivity import Factor, Sensitivity

NOUNS = {
    "step_times": "step times",
    "kv_blocks": "KV blocks",
    "output_lengths": "output lengths",
    "request_rate": "request rate",
    "prompt_lengths": "prompt lengths",
    "slo_limits": "SLO limits",
    "burstiness": "burstiness",
    "prefix_cache": "prefix cache",
}


def interval_lines(plan: Plan) -> list[str]:
    """What the server does, each figure with its interval; then what the interval comes from.

    Empty where the plan has no sensitivity.
    """
    found: Sensitivity | None = getattr(plan, "sensitivity", None)
    if found is None:
        return []
    return [_answer(plan, found), _because(found)]


def interval_sources(plan: Plan) -> list[str]:
    """Where the bands behind the interval come from, a sentence each, for the assumptions."""
    found: Sensitivity | None = getattr(plan, "sensitivity", None)
    bands = () if found is None else found.bands
    return [f"Interval, {NOUNS[one.name]}: {inputs(one)} ({one.source})." for one in bands]


def inputs(factor: Factor) -> str:
    """Both ends: ``0.89-1.14 times the source's``, ``28,162-29,297 of 28,827 planned``."""
    if factor.name == "kv_blocks":
        ends = f"{words.count(factor.low_input)}-{words.count(factor.high_input)}"
        return f"{ends} of {words.count(factor.base_input)} planned"
    if factor.name == "step_times":
        return f"{factor.low_input:.2f}-{factor.high_input:.2f} times the source's"
    return f"{(factor.high_input - factor.base_input) * 100:.0f} % less and more"


def between(low: float | None, high: float | None, shown: Callable[[float], str]) -> str:
    """`` (4,101-5,252)``, ascending; empty where both ends print alike or one is missing."""
    if low is None or high is None or shown(low) == shown(high):
        return ""
    return f" ({shown(min(low, high))}-{shown(max(low, high))})"


def _answer(plan: Plan, found: Sensitivity) -> str:
    budget = plan.budget
    pool = between(budget.kv_cache_low_bytes, budget.kv_cache_high_bytes, _gib)
    parts = [f"KV pool {_gib(budget.kv_cache_bytes)} GiB{pool}"]
    for name, title, shown in _FIGURES:
        value, low, high = (getattr(one, name) for one in (found.base, found.low, found.high))
        if value is not None:
            parts.append(f"{title.format(shown(value))}{between(low, high, shown)}")
    return ", ".join(parts) + "."


def _because(found: Sensitivity) -> str:
    bands = [f"{NOUNS[one.name]} {inputs(one)}" for one in found.bands]
    if not bands:
        return "No interval: step times and KV blocks are given, neither has a band."
    which = "both inputs in doubt" if len(bands) > 1 else "the input in doubt"
    its = "their" if len(bands) > 1 else "its"
    return f"In brackets, {which} at {its} worse and at {its} better end: {', '.join(bands)}."


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / words.GIB:.1f}"


_FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("output_tokens_per_s", "{} output tokens/s under backlog", words.count),
    ("mean_running", "{} requests at once", words.mean),
    ("ttft_p95_s", "TTFT p95 {}", words.seconds),
    ("tpot_p95_s", "TPOT p95 {}", words.seconds),
)
