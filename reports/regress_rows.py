"""What a regression run found, as rows and sentences: every form of output prints these.

Two values of one metric are printed in one unit, with as many digits as tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..sim.metric_directions import METRICS
from . import words

if TYPE_CHECKING:
    from ..sim.regress.compare import Change, Comparison
    from ..sim.regress.run import Regression

COLUMNS = ("metric", "baseline", "now", "change", "tolerance", "verdict")
_MOST_DIGITS = 12
_SCALES = ((1.0, "s"), (1e3, "ms"), (1e6, "us"), (1e9, "ns"))
_STATES = {
    "regressed": "regressed",
    "improved": "improved",
    "within": "within tolerance",
    "same": "unchanged",
}


def change_row(change: Change) -> tuple[str, ...]:
    """The cells of one metric."""
    old, new = both(change.metric, change.old, change.new)
    return change.metric, old, new, moved(change), str(change.tolerance), verdict(change)


def change_sentence(change: Change) -> str:
    """``ttft_s.p95: worse, 1.00 s to 1.20 s (+20 %, tolerance 2 %).``"""
    old, new = both(change.metric, change.old, change.new)
    return (
        f"{change.metric}: {verdict(change)}, {old} to {new} "
        f"({moved(change)}, tolerance {change.tolerance})."
    )


def sorted_changes(comparison: Comparison) -> list[Change]:
    """What fails first."""
    return sorted(comparison.changes, key=lambda change: not change.fails)


def verdict(change: Change) -> str:
    """In a word or two."""
    if change.verdict == "improved" and change.fails:
        return "improved, which fails too"
    return {"within": "within tolerance"}.get(change.verdict, change.verdict)


def moved(change: Change) -> str:
    """The change as a share of the old value, or plain where that is 0."""
    if change.relative is not None:
        return f"{change.relative * 100:+.3g} %"
    if change.old is None or change.new is None:
        return words.NONE
    return f"{change.new - change.old:+.3g}"


def both(metric: str, old: float | None, new: float | None) -> tuple[str, str]:
    """Two values of a metric as text; where they differ, the texts do."""
    unit = METRICS[metric].unit if metric in METRICS else "mean"
    scale, name = 1.0, ""
    if unit == "seconds":
        scale, name = _scale(max(abs(old or 0.0), abs(new or 0.0)))
    for digits in range(3, _MOST_DIGITS + 1):
        texts = [_text(value, scale, name, digits) for value in (old, new)]
        if old == new or texts[0] != texts[1]:
            break
    return texts[0], texts[1]


def counts(regression: Regression) -> dict[str, int]:
    """How many cases and step logs came out each way, the worst first."""
    found = [case.verdict for case in regression.cases]
    found += ["regressed" if one.outcome.differs else "same" for one in regression.conformed]
    return {title: found.count(state) for state, title in _STATES.items()}


def headline(regression: Regression) -> str:
    """One line that says it all."""
    cases, logs = len(regression.cases), len(regression.conformed)
    what = [_many(cases, "case")] if cases or not logs else []
    what += [_many(logs, "step log")] if logs else []
    states = [f"{number} {title}" for title, number in counts(regression).items() if number]
    return f"{' and '.join(what)}: {', '.join(states)}."


def stale_note(names: Sequence[str]) -> str:
    """What to do about baselines without a case."""
    belongs = "belongs" if len(names) == 1 else "belong"
    return (
        f"{_many(len(names), 'baseline')} {belongs} to no case ({short(names)}): "
        "kvsim regress update removes them."
    )


def short(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and how many more."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most])}{more}"


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _scale(value_s: float) -> tuple[float, str]:
    """The unit in which a time is read."""
    fitting = [(scale, name) for scale, name in _SCALES if value_s * scale >= 1.0]
    return fitting[0] if fitting else (_SCALES[0] if value_s == 0 else _SCALES[-1])


def _text(value: float | None, scale: float, unit: str, digits: int) -> str:
    if value is None:
        return words.NONE
    whole = isinstance(value, int) and scale == 1.0
    text = words.count(value) if whole else words.number(value * scale, digits=digits)
    return f"{text} {unit}".rstrip()
