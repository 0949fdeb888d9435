"""The tables of a decision: every server tried, the flags tuned, block sizes with their rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import words
from .block_size_sheets import shown
from .decision_words import usd_per_million_text
from .sheet import Sheet
from .slo_sheets import binding_sheet, probe_sheet
from .what_if_sheets import what_if_sheet

if TYPE_CHECKING:  # the values are only read
    from ..sim.block_sizes import BlockSizes
    from ..sim.planner.decision import Decision
    from ..sim.planner.option import Option
    from ..sim.planner.search import RateSearch


def option_sheet(decision: Decision) -> Sheet:
    """A row per server, the chosen one first, then the others by why they lost."""
    rows = [] if decision.chosen is None else [(decision.chosen, "chosen")]
    rows += [(one.option, one.reason) for one in decision.losers if one.option is not None]
    refused = [one for one in decision.losers if one.option is None]
    return Sheet(
        title="Servers: what each holds within the objective, and costs",
        columns=(
            "server",
            "held, requests/s",
            "replicas",
            "GPUs",
            "USD/h",
            "USD per M output tokens",
            "why",
        ),
        rows=(
            *(_row(decision, option, why) for option, why in rows),
            *((one.title, *(words.NONE,) * 5, one.reason.rstrip(".")) for one in refused),
        ),
        text_columns=(0, 6),
    )


def _row(decision: Decision, option: Option, why: str) -> tuple[str, ...]:
    usd = option.usd_per_hour
    if option.search.best is None:
        return (option.title, "none", *(words.NONE,) * 4, why)
    return (
        option.title,
        words.number(option.search.rate_per_s),
        words.count(option.num_replicas),
        words.count(option.num_gpus),
        words.NONE if usd is None else f"{usd:.2f}",
        usd_per_million_text(decision, option),
        why,
    )


def tuning_sheet(decision: Decision) -> Sheet | None:
    """A row per flag: what was tried and what was kept; None where nothing was tuned."""
    found = decision.tuning
    if found is None:
        return None
    return Sheet(
        title="Flags tuned one after another",
        columns=("flag", "held at each value, requests/s", "kept", "best other value"),
        rows=tuple(
            (
                step.flag,
                "; ".join(
                    f"{one.value}: {shown(one.rate_per_s, words.number)}" for one in step.tried
                ),
                f"{step.after}{'' if step.changed else ' (as it was)'}",
                f"{step.gain:+.1%}",
            )
            for step in found.steps
        ),
        text_columns=(0, 1, 2),
    )


def rates_by_block_size(decision: Decision) -> dict[int, float]:
    """Rates that the chosen server holds in blocks of other sizes, the other flags kept."""
    if decision.tuning is not None:
        for step in decision.tuning.steps:
            if step.flag == "block_size":
                return {
                    int(str(one.value)): one.rate_per_s
                    for one in step.tried
                    if one.rate_per_s is not None
                }
    best = decision.best
    if best is None:
        return {}
    same = [one for one in decision.options if _but_block_size(one) == _but_block_size(best)]
    found = {one.server.deployment.block_size: one.search.rate_per_s for one in same}
    return found if len(found) > 1 else {}


def _but_block_size(option: Option) -> tuple[dict[str, object], dict[str, object]]:
    flags = {name: v for name, v in option.spec.flags.items() if name != "block_size"}
    return dict(option.spec.hardware), flags


def block_rate_sheet(decision: Decision, terms: BlockSizes | None) -> Sheet | None:
    """The three terms of each size tried, with the rate held; None where one size was tried."""
    rates = rates_by_block_size(decision)
    if not rates:
        return None
    by_size = {} if terms is None else {one.block_size: one for one in terms.sizes}
    best = decision.best
    chosen = 0 if best is None else best.server.deployment.block_size

    def row(size: int) -> tuple[str, ...]:
        term = by_size.get(size)
        return (
            f"{size}{' (chosen)' * (size == chosen)}",
            words.NONE if term is None else words.share(term.tail_share),
            words.NONE if term is None else shown(term.prefix_hit_ratio, words.share),
            words.NONE if term is None else shown(term.decode_slowdown, words.times),
            words.number(rates[size]),
        )

    return Sheet(
        title="Block sizes: the three terms, and the rate held",
        columns=(
            "block size",
            "tail waste, of held slots",
            "prefixes: prompt tokens found",
            "kernel: decode over blocks of 16",
            "held, requests/s",
        ),
        rows=tuple(row(size) for size in sorted(rates)),
    )


def searches_of(decision: Decision) -> list[tuple[str, RateSearch]]:
    """Titles and searches, the chosen server (or what comes nearest) first."""
    best = decision.best
    others = [one for one in decision.options if best is None or one.title != best.title]
    return [(one.title, one.search) for one in ([] if best is None else [best]) + others]


def decision_sheets(decision: Decision, terms: BlockSizes | None) -> list[Sheet]:
    """All tables that the decision has something for, as the terminal shows them."""
    changes = what_if_sheet(decision.what_ifs) if decision.what_ifs else None
    flags = (block_rate_sheet(decision, terms), tuning_sheet(decision), changes)
    return [option_sheet(decision), *(sheet for sheet in flags if sheet is not None)]


def evidence_sheets(decision: Decision) -> list[Sheet]:
    """What binds each server, and every rate that was tried on the best one."""
    searches = searches_of(decision)
    return [binding_sheet(searches), probe_sheet(searches[0][1])] if searches else []
