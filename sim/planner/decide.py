"""From servers to a decision: try each, size, rank, confirm, tune, compare with the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...traces import Trace
from ..job import Report
from ..slo import SLO
from .decision import Decision, Defaults, Loser
from .grid import Grid
from .option import Option
from .question import Question
from .reasons import many_words, over_max_gpus, unmet, why_lost
from .shares import Confirmation, confirm
from .sizing import Refused, ranked, sized, try_each, with_defaults
from .spec import ServerSpec
from .tuning import Tuning, kept, tune

MOST_EXTRA = 0.25
"""More replicas than an even split asks for, relative, that are tried before a server is given up.
"""


def decide(
    grid: Grid,
    trace: Trace,
    question: Question,
    *,
    report: Report | None = None,
) -> Decision:
    """Choose a server of the grid.

    Args:
        grid: what could be deployed.
        trace: with arrival times, whose pattern is kept.
        question: objective, target and limits.
        report: told about progress.

    Raises:
        ValueError: no server of the grid can be set up.
    """
    slo, target = question.slo, question.target_rate_per_s
    tried = try_each(list(grid.specs()), trace, slo, title="rates that hold", report=report)
    refused = [one for one in tried if isinstance(one, Refused)]
    options = [sized(one, target) for one in tried if isinstance(one, Option)]
    if not options:
        raise ValueError(refused[0].reason)
    flags, tuning = list(grid.flags), None
    if question.tune:
        options, tuning = _tuned(options, question, trace, flags, report)
        flags += [step.flag for step in tuning.steps if step.flag not in flags] if tuning else []
    allowed = _allowed(options, question)
    order = ranked(allowed, target, flags)
    order, confirmed, given_up = _confirmed(order, question, trace, flags, report)
    chosen = order[0] if order else None
    base = Decision(
        slo=slo,
        assumed_slo=question.assumed_slo,
        target_rate_per_s=target,
        target_from=question.target_from,
        max_gpus=question.max_gpus,
        flags=tuple(flags),
        options=tuple(_updated(options, order)),
        chosen=chosen,
        runner_up=_runner_up(order),
        losers=(),
        confirmed=confirmed,
        tuning=tuning,
    )
    lost = [Loser(title=one.title, reason=one.reason) for one in refused]
    if chosen is None:
        nearest, miss = unmet(base.options, question.max_gpus, target)
        base = replace(base, nearest=nearest, miss=miss)
    losers = [
        Loser(title=one.title, reason=given_up.get(one.title) or why_lost(one, base), option=one)
        for one in [*order[1:], *(one for one in base.options if one not in order)]
        if one is not chosen
    ]
    defaults = (
        None if chosen is None else _defaults(chosen, base.options, trace, slo, flags, report)
    )
    return replace(base, losers=(*losers, *lost), defaults=defaults)


def _allowed(options: Sequence[Option], question: Question) -> list[Option]:
    """Those that hold a rate, within the GPUs allowed, at a price where others have one."""
    holding = [one for one in options if one.search.best is not None]
    within = [one for one in holding if not over_max_gpus(one, question.max_gpus)]
    priced = [one for one in within if one.usd_per_hour is not None]
    return priced or within


def _confirmed(
    order: list[Option],
    question: Question,
    trace: Trace,
    flags: Sequence[str],
    report: Report | None,
) -> tuple[list[Option], Confirmation | None, dict[str, str]]:
    """The first of the order that carries the target on all its replicas together.

    One that does not gets a replica more and takes its place in the order again, a few times; then
    it is given up, with the reason by its title.
    """
    target, slo = question.target_rate_per_s, question.slo
    if target is None:
        return order, None, {}
    given_up: dict[str, str] = {}
    asked = {one.title: one.num_replicas for one in order}
    while order:
        first = order[0]
        found = confirm(
            first.server, trace, target, slo, num_replicas=first.num_replicas, report=report
        )
        if found.holds:
            return order, found, given_up
        more = replace(first, num_replicas=first.num_replicas + 1)
        most = max(asked[first.title] + 2, (1 + MOST_EXTRA) * asked[first.title])
        order = order[1:]
        if more.num_replicas <= most and not over_max_gpus(more, question.max_gpus):
            order = ranked([*order, more], target, flags)
        else:
            given_up[first.title] = (
                f"{many_words(first.num_replicas)} together keep it for {found.attainment:.1%} only"
            )
    return order, None, given_up


def _runner_up(order: Sequence[Option]) -> Option | None:
    """The best on other GPUs, which is what a purchase hangs on; else with other flags."""
    if not order:
        return None
    others = [one for one in order[1:] if _gpus(one) != _gpus(order[0])]
    return next(iter([*others, *order[1:]]), None)


def _gpus(option: Option) -> tuple[str, int]:
    return option.server.gpu.name, option.server.deployment.num_gpus


def _updated(options: Sequence[Option], order: Sequence[Option]) -> list[Option]:
    """The options with the replicas that the confirmation left them."""
    known = {one.title: one for one in order}
    return [known.get(one.title, one) for one in options]


def _tuned(
    options: list[Option],
    question: Question,
    trace: Trace,
    flags: Sequence[str],
    report: Report | None,
) -> tuple[list[Option], Tuning | None]:
    """The best option with its flags tuned, as an option more."""
    target = question.target_rate_per_s
    holding = _allowed(options, question) or [one for one in options if one.search.best is not None]
    start = ranked(holding, target, flags)[0] if holding else options[0]
    fixed = [*flags, *kept(start)]
    tuning = tune(start, trace, question.slo, fixed=fixed, report=report)
    if tuning.option is start or not any(step.changed for step in tuning.steps):
        return options, tuning
    tuned = sized(replace(tuning.option, num_replicas=1), target)
    return [*options, tuned], replace(tuning, option=tuned)


def _defaults(
    chosen: Option,
    options: Sequence[Option],
    trace: Trace,
    slo: SLO,
    flags: Sequence[str],
    report: Report | None,
) -> Defaults | None:
    """The engine's own flags on the chosen GPUs; None where no flag was varied."""
    if not flags:
        return None
    spec = with_defaults(chosen.spec, flags)
    found: Option | Refused | None = next((one for one in options if _same(one, spec, trace)), None)
    if found is None:
        title = f"{chosen.spec.hardware['gpu']}, vLLM's defaults"
        found = try_each([(title, spec)], trace, slo, title="vLLM's defaults", report=report)[0]
    if isinstance(found, Refused):
        return Defaults(option=None, reason=found.reason)
    return Defaults(option=found)


def _same(option: Option, spec: ServerSpec, trace: Trace) -> bool:
    """Whether an option is that server, whatever was said and what was left to the engine."""
    if option.spec.hardware != spec.hardware:
        return False
    try:
        return option.server.deployment == spec.server(trace).deployment
    except ValueError:
        return False
