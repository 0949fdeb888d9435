"""A plan in words: what was assumed, how many requests run at once, what limits them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from . import words
from .decision_words import decision_lines

if TYPE_CHECKING:  # the values are only read: a table needs no simulator to be imported
    from ..sim.candidate import Advantage, Candidate
    from ..sim.plan import Plan


_LITTLE = 0.01


def headline(plan: Plan) -> list[str]:
    """The first lines of a plan: the defaults used, then the answer."""
    if plan.decision is not None:
        return [*setting(plan), "", *decision_lines(plan.decision), f"Start: {plan.serve_command}"]
    return [*setting(plan), "", *answer(plan)]


def setting(plan: Plan) -> list[str]:
    """Model, GPU, memory, flags, trace and clock, one line each."""
    flags, budget = plan.chosen.server.deployment, plan.budget
    on_off = {True: "on", False: "off"}
    return [
        f"Model {plan.model.name} on {_gpus(plan)}, gpu_memory_utilization "
        f"{flags.gpu_memory_utilization:g}, kv_cache_dtype {flags.kv_cache_dtype}.",
        f"KV pool {words.gib(budget.kv_cache_bytes)}: {words.count(budget.num_gpu_blocks)} blocks "
        f"of {budget.block_size} tokens, {words.count(budget.kv_cache_tokens)} tokens.",
        f"Scheduler {flags.scheduler}, max_num_seqs {flags.max_num_seqs}, max_num_batched_tokens "
        f"{flags.max_num_batched_tokens}, max_model_len {flags.max_model_len} "
        f"({plan.chosen.server.max_model_len_from}), prefix caching "
        f"{flags.caching}, asynchronous scheduling "
        f"{on_off[flags.async_scheduling]}.",
        f"Trace: {plan.origin}, {words.count(len(plan.trace))} requests{_skipped(plan)}; arrivals: "
        f"{plan.arrivals}.",
        f"Step times: {timing(plan)}.",
    ]


def answer(plan: Plan) -> list[str]:
    """Requests at once: under backlog, by memory alone, over the trace; then what did not run."""
    lines = [
        f"Under backlog the paged server runs {_running(plan.chosen)} requests at once: "
        f"{_against(plan, 'under_backlog')}; bound by {plan.chosen.bound_by}.",
        f"Memory alone (max_num_seqs and max_num_batched_tokens lifted): {_memory(plan.chosen)} "
        "requests at once: "
        f"{_against(plan, 'memory_alone')}.",
        f"Over the trace itself: {words.mean(plan.chosen.summary.mean_running)} on average: "
        f"{_against(plan, 'over_the_trace')}{_below_saturation(plan)}.",
    ]
    return [*lines, *_rejections(plan)]


def verdict(plan: Plan) -> str:
    """The answer in one or two sentences, for the top of the page."""
    chosen = plan.chosen
    first = (
        f"Under backlog, the paged server runs {_running(chosen)} requests at once: "
        f"{_against(plan, 'under_backlog')}."
    )
    if chosen.bound_by == "KV memory":
        return f"{first} KV memory is what limits it."
    return (
        f"{first} Here {chosen.bound_by} limits it; the memory alone would hold "
        f"{_memory(chosen)}: {_against(plan, 'memory_alone')}."
    )


def timing(plan: Plan) -> str:
    """Source of the step times, with its band."""
    cost = plan.chosen.server.cost
    band = cost.band
    if band.low == band.high == 1.0:
        return f"{cost.origin}, {band.source}"
    return f"{cost.origin}, expected within {band.low:.2f}-{band.high:.2f} of the figure"


def ratio(advantage: Advantage, name: str) -> str:
    """One of an advantage's ratios as ``4.4x``, or that the baseline runs nothing."""
    value: float = getattr(advantage, name)
    return "runs none" if math.isinf(value) else words.times(value)


def short_name(plan: Plan, title: str) -> str:
    """A baseline's title without the placement, where all baselines share it."""
    placements = {one.server.deployment.placement for one in plan.baselines}
    return title.split(" (")[0] if len(placements) == 1 else title


def _against(plan: Plan, name: str) -> str:
    """``1.2x contiguous-max, ...``; a baseline that can hold nothing is said to be so."""
    shown, none = [], []
    for advantage in plan.advantages:
        if math.isinf(getattr(advantage, name)):
            none.append(short_name(plan, advantage.baseline))
        else:
            shown.append(f"{ratio(advantage, name)} {short_name(plan, advantage.baseline)}")
    if none:
        shown.append(f"{words.listing(none)} can hold no request of the trace")
    return ", ".join(shown) if shown else "no baseline was asked for"


def _running(candidate: Candidate) -> str:
    return words.NONE if candidate.backlog is None else words.mean(candidate.backlog.mean_running)


def _memory(candidate: Candidate) -> str:
    backlog = candidate.memory_backlog
    if backlog is None:
        return words.NONE
    running = words.mean(backlog.mean_running)
    return running if backlog.saturated else f"at least {running}"


def _below_saturation(plan: Plan) -> str:
    """Why the ratios over a trace that fills no allocator are all 1."""
    if not all(one.summary.mean_waiting < 1 for one in plan.candidates):
        return ""
    if plan.chosen.summary.prefix_hit_ratio > _LITTLE:
        found = words.share(plan.chosen.summary.prefix_hit_ratio)
        return f" (below saturation; the paged server finds {found} of the prompt tokens cached)"
    return " (below saturation, every allocator runs the same requests)"


def _rejections(plan: Plan) -> list[str]:
    lines = []
    for candidate in plan.candidates:
        for reason, number in candidate.summary.reject_reasons.items():
            lines.append(f"{candidate.title} rejects {words.count(number)} requests: {reason}.")
    return lines


def _gpus(plan: Plan) -> str:
    number = plan.chosen.server.deployment.num_gpus
    return plan.gpu.title if number == 1 else f"{number} x {plan.gpu.title}"


def _skipped(plan: Plan) -> str:
    number = len(plan.trace.skipped)
    return f", {words.count(number)} rows skipped" if number else ""
