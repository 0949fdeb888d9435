"""A decision in sentences: what to deploy, why, and what the engine's own flags would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import words
from .confidence_sheets import confidence_lines

if TYPE_CHECKING:  # the values are only read
    from ..sim.planner.decision import Decision
    from ..sim.planner.option import Option


def decision_lines(decision: Decision) -> list[str]:
    """The question, the answer first to last, as the terminal and the page show them."""
    return [*question_lines(decision), *answer_lines(decision)]


def question_lines(decision: Decision) -> list[str]:
    """Objective and target, with what was assumed."""
    assumed = " (assumed: no limit was given)" if decision.assumed_slo else ""
    lines = [f"Objective: {decision.slo}{assumed}."]
    if decision.target_rate_per_s is None:
        return [*lines, "No target rate: the cheapest output token wins, each server at its rate."]
    limit = "" if decision.max_gpus is None else f", on at most {decision.max_gpus} GPUs"
    rate = words.number(decision.target_rate_per_s)
    return [*lines, f"Target: {rate} requests/s ({decision.target_from}){limit}."]


def answer_lines(decision: Decision) -> list[str]:
    """What to deploy; where nothing keeps the objective, what comes nearest."""
    if decision.chosen is None:
        return [f"No server keeps the objective. {decision.miss}"]
    flips, sure = _sure(decision)
    lines = [*flips, deploy_line(decision), *_confirmed(decision)]
    lines += [_runner_up(decision)] if decision.runner_up is not None else []
    lines += [*sure, *_limits(decision.chosen), advice_line(decision)]
    lines += [defaults_line(decision), _lossy(decision.chosen)]
    return [line for line in lines if line]


def _sure(decision: Decision) -> tuple[list[str], list[str]]:
    """How sure the choice is: what must come first, as it may flip, and the rest."""
    found = decision.confidence
    if found is None:
        return [], []
    first, *rest = confidence_lines(found)
    if found.flips:
        return [first], rest
    return [], rest if found.runner_up is None else [first, *rest]


def advice_line(decision: Decision) -> str:
    """The cheapest change that lifts what binds; empty where no change was tried."""
    if decision.chosen is None or not decision.what_ifs:
        return ""
    from ..sim.planner.lift import advice

    return advice(decision.chosen, decision.what_ifs)


def deploy_line(decision: Decision) -> str:
    """``Deploy 2 x a100: each holds 9.10 requests/s; 2.60 USD/h, ...``."""
    chosen = decision.chosen
    assert chosen is not None, "the caller has asked"
    held = f"{words.number(chosen.search.rate_per_s)} requests/s"
    return (
        f"Deploy {many(chosen)}: {'each holds' if chosen.num_replicas > 1 else 'holds'} {held}"
        f"{_bound(chosen)}; {_price(decision, chosen)}."
    )


def many(option: Option) -> str:
    """``2 x h200, TP 2`` for two replicas; the title alone for one."""
    if option.num_replicas == 1:
        return option.title
    return (
        f"{option.num_replicas} x ({option.title})"
        if "," in option.title
        else (f"{option.num_replicas} x {option.title}")
    )


def _bound(option: Option) -> str:
    bound = str(option.search.bound_by)
    return f", bound by {bound}" if bound else ""


def _price(decision: Decision, option: Option) -> str:
    gpu = option.server.gpu
    gpus = f"{option.num_gpus} GPU{'s' * (option.num_gpus > 1)}"
    if option.usd_per_hour is None:
        return f"{gpus}, whose price is not known (--price)"
    source = ", ".join(part for part in (gpu.price_date, gpu.price_source) if part)
    at = "at the target" if decision.target_rate_per_s is not None else "at that rate"
    per_token = usd_per_million_text(decision, option)
    return (
        f"{gpus}, {option.usd_per_hour:.2f} USD/h, {per_token} USD per million output tokens {at} "
        f"({gpu.price_usd_per_hour:g} USD per GPU and hour: {source})"
    )


def usd_per_million_text(decision: Decision, option: Option) -> str:
    """The cost of output tokens, ``-`` where it is not known."""
    from ..sim.planner.decision import usd_per_million

    value = usd_per_million(option, decision.target_rate_per_s)
    return words.NONE if value is None else words.number(value)


def _confirmed(decision: Decision) -> list[str]:
    found = decision.confirmed
    if found is None:
        return []
    where = (
        "on the whole trace"
        if found.num_replicas == 1
        else f"on {found.num_replicas} replicas, round robin by session"
    )
    only = found.num_simulated < found.num_replicas
    part = f" ({found.num_simulated} of them simulated)" if only else ""
    return [
        f"Confirmed {where}{part}: at {words.number(found.rate_per_s)} requests/s "
        f"{words.share(found.attainment)} keep every limit, "
        f"{words.number(found.goodput_per_s)} a second."
    ]


def _limits(option: Option) -> list[str]:
    """What binds just above the rate, with the evidence; the knee and where preemptions begin."""
    search = option.search
    lines = []
    if search.bindings:
        first = search.bindings[0]
        lines.append(f"What binds there is {first.kind}: {first.evidence}")
    if search.knee is not None:
        onset = search.preemption_onset_per_s
        from_there = "at no rate tried" if onset is None else f"from {words.number(onset)}/s"
        lines.append(
            f"Most goodput {words.number(search.knee.goodput_per_s)}/s, at "
            f"{words.number(search.knee.rate_per_s)} requests/s offered; preemptions {from_there}; "
            f"no more than {words.number(search.saturated_per_s)}/s can be sustained."
        )
    return lines


def _runner_up(decision: Decision) -> str:
    assert decision.runner_up is not None, "the caller has asked"
    title = decision.runner_up.title
    reason = next((one.reason for one in decision.losers if one.title == title), "")
    return f"Runner-up: {many(decision.runner_up)}: {reason}."


def defaults_line(decision: Decision) -> str:
    """What the varied flags are worth beside the engine's own; empty where none was varied."""
    found, chosen = decision.defaults, decision.chosen
    if found is None or chosen is None:
        return ""
    from ..sim.planner.search import TOLERANCE

    names = words.listing(list(decision.flags))
    if found.option is None:
        return f"vLLM's defaults do not do here: {found.reason}"
    gain = decision.default_gain
    assert gain is not None, "there is an option"
    before, after = found.option.search.rate_per_s, chosen.search.rate_per_s
    if before > after * (1 + TOLERANCE):
        more = words.share(before / after - 1)
        return f"vLLM's defaults for {names} hold {more} more: leave them as they are."
    if decision.defaults_are_right:
        return (
            f"vLLM's defaults are already right for {names}: the best other value gains less than "
            "the search can tell (2 %)."
        )
    if not before:
        return f"vLLM's defaults for {names} hold no rate; these hold {words.number(after)}/s."
    return (
        f"Over vLLM's defaults for {names} this gains {words.share(gain)}: "
        f"{words.number(before)} to {words.number(after)} requests/s a replica."
    )


def _lossy(option: Option) -> str:
    from ..sim.planner.sizing import is_lossy

    if not is_lossy(option):
        return ""
    dtype = option.server.deployment.kv_cache_dtype
    return f"kv_cache_dtype {dtype} changes what the model says: kvsim does not see how much."
