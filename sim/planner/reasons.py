"""Why a server was not chosen, and by how much the nearest one misses: one clause each."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isfinite
from typing import TYPE_CHECKING

from ..slo import LIMITS, SLO
from .option import Option
from .probe import Probe
from .search import TOLERANCE
from .sizing import is_lossy, num_changed

if TYPE_CHECKING:
    from .decision import Decision

_MARGIN = 1.01
"""Over a latency that was seen: a limit that would have held, in whole digits."""


def why_lost(option: Option, decision: Decision) -> str:
    """The clause beside a server that was not chosen."""
    if option.search.best is None:
        return f"no rate holds: {nearest_miss(option)[0]}"
    if over_max_gpus(option, decision.max_gpus):
        return f"needs {option.num_gpus} GPUs: max_gpus is {decision.max_gpus}"
    chosen = decision.chosen
    if chosen is None or (chosen.usd_per_hour is not None and option.usd_per_hour is None):
        name = option.spec.hardware["gpu"]
        return f"no price is known: give --price {name}=..." if chosen else "not confirmed"
    return _dearer(option, chosen, decision)


def _dearer(option: Option, chosen: Option, decision: Decision) -> str:
    """By price; at one price by GPUs, then by what the cache keeps, the rate and the flags."""
    target = decision.target_rate_per_s
    usd, least, slack, per = option.usd_per_hour, chosen.usd_per_hour, 1e-9, ""
    if target is None:
        usd, least = option.usd_per_million_output_tokens, chosen.usd_per_million_output_tokens
        slack, per = TOLERANCE, " per output token"
    if usd is not None and least is not None and usd > least * (1 + slack):
        times = f"{usd / least:.2f}x" if least else "not free:"
        return f"{times} the price{per}{_needs(option, target)}"
    if option.num_gpus > chosen.num_gpus:
        return f"{option.num_gpus} GPUs instead of {chosen.num_gpus}"
    if is_lossy(option) and not is_lossy(chosen):
        return "the same price, and its KV cache keeps fewer bits"
    ours, theirs = chosen.search.rate_per_s, option.search.rate_per_s
    if theirs < ours * (1 - TOLERANCE):
        return f"the same price, but holds {1 - theirs / ours:.0%} less"
    if num_changed(option, decision.flags) > num_changed(chosen, decision.flags):
        return "no better than with fewer flags changed"
    return "no better, within what the search can tell (2 %)"


def _needs(option: Option, target_per_s: float | None) -> str:
    if target_per_s is None:
        return ""
    usd = option.usd_per_hour
    gpus = f"{option.num_gpus} GPU{'s' * (option.num_gpus > 1)}"
    return f": {gpus}, {usd:.2f} USD/h" if usd is not None else ""


def many_words(num_replicas: int) -> str:
    """``3 replicas``."""
    return f"{num_replicas} replica{'s' * (num_replicas > 1)}"


def over_max_gpus(option: Option, max_gpus: int | None) -> bool:
    """Whether it takes more GPUs than are allowed."""
    return max_gpus is not None and option.num_gpus > max_gpus


def unmet(
    options: Sequence[Option], max_gpus: int | None, target_per_s: float | None
) -> tuple[Option, str]:
    """What comes closest where nothing is chosen, and what would fix it, in one sentence."""
    holding = [one for one in options if one.search.best is not None]
    short = any(over_max_gpus(one, max_gpus) for one in holding)
    if short and max_gpus is not None and target_per_s is not None:
        return _too_few_gpus(holding, max_gpus, target_per_s)
    if holding:
        one = max(holding, key=lambda option: option.search.rate_per_s)
        return one, (
            f"{one.title} holds {one.search.rate_per_s:.3g}/s a replica, but no number of them "
            "near it kept the objective on the whole trace; a lower target_rate or a looser "
            "objective would."
        )
    one = max(options, key=lambda option: _closeness(option))
    how, fix = nearest_miss(one)
    return one, f"Nearest is {one.title}: {how}; {fix}."


def _too_few_gpus(holding: Sequence[Option], max_gpus: int, target: float) -> tuple[Option, str]:
    def within(option: Option) -> float:
        """Requests a second of as many replicas as are allowed."""
        each = option.server.deployment.num_gpus
        return floor(max_gpus / each) * option.search.rate_per_s

    one = max(holding, key=within)
    return one, (
        f"Nearest is {one.title}: {max_gpus} GPU{'s hold' if max_gpus > 1 else ' holds'} "
        f"{within(one):.3g}/s of {target:.3g}/s; "
        f"max_gpus {one.num_gpus} would carry it."
    )


def _closeness(option: Option) -> float:
    """How near a server that holds no rate came at the lowest one tried."""
    probes = option.search.probes
    return -excess(probes[0], option.search.slo) if probes else float("-inf")


def excess(probe: Probe, slo: SLO) -> float:
    """The largest of the latencies at the quantile over their limits."""
    over = [
        getattr(probe, name) / limit
        for name in LIMITS
        if (limit := getattr(slo, name)) is not None and isfinite(getattr(probe, name))
    ]
    return max(over, default=0.0)


def nearest_miss(option: Option) -> tuple[str, str]:
    """Which limits are missed at the lowest rate tried, and what would fix it."""
    slo, probes = option.search.slo, option.search.probes
    if not probes:
        return "no rate was tried", "give a longer trace"
    low = probes[0]
    point = f"P{100 * slo.quantile:g}"
    missed = [
        (name, limit, getattr(low, name))
        for name in LIMITS
        if (limit := getattr(slo, name)) is not None and getattr(low, name) > limit
    ]
    if not missed:
        kept = f"{low.attainment:.1%} of the requests keep every limit at {low.rate_per_s:.3g}/s"
        return kept, f"quantile {floor(low.attainment * 1000) / 1000:g} would hold"
    said = " and ".join(
        f"{name[:-2].upper()} {point} is {_time(seen)} > {_time(limit)}"
        for name, limit, seen in missed
    )
    fixes = " and ".join(
        f"--slo-{name[:-2]} {_time(_up(seen * _MARGIN)).replace(' ', '')}"
        for name, _, seen in missed
    )
    return f"at {low.rate_per_s:.3g}/s {said}", f"{fixes} would hold there"


def _up(value_s: float) -> float:
    """The next larger value of two significant digits."""
    text = f"{value_s:.1e}"
    rounded = float(text)
    if rounded >= value_s:
        return rounded
    mantissa, _, exponent = text.partition("e")
    return round(float(mantissa) + 0.1, 1) * 10.0 ** int(exponent)


def _time(value_s: float) -> str:
    return f"{value_s * 1e3:.3g} ms" if value_s < 1 else f"{value_s:.3g} s"
