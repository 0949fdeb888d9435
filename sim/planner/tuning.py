"""Flags one after another: each keeps the value that holds the highest rate (coordinate search).

A value replaces the one before only where it holds more than the search's tolerance more; else the
engine's own stays. One pass, in an order in which what binds first comes first: the limits of the
batch, then the memory, then the block. What is not searched: ``gpu_memory_utilization``, as more
always holds more, up to what else runs on the card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...traces import Trace
from ..content import shared_prefixes
from ..job import Report
from ..slo import SLO
from ..summary import plain
from .grid import worded
from .option import Option
from .search import TOLERANCE
from .sizing import Refused, own_flags, try_each

VALUES: dict[str, tuple[object, ...]] = {
    "max_num_seqs": (128, 256, 512, 1024),
    "max_num_batched_tokens": (2048, 4096, 8192, 16384),
    "kv_cache_dtype": ("auto", "fp8"),
    "enable_prefix_caching": (True, False),
    "block_size": (8, 16, 32, 64, 128),
}
"""What is tried, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One value of a flag, the others as they were."""

    value: object
    rate_per_s: float | None
    """The rate held; None where the server cannot be set up."""
    reason: str = ""
    """Then: why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One flag, tried."""

    flag: str
    tried: tuple[Tried, ...]
    before: object
    after: object
    gain: float
    """Relative gain of the best other value over the one before, adopted or not."""

    @property
    def changed(self) -> bool:
        """Whether another value was worth it."""
        return self.after != self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The flags tried one after another, and what came of it."""

    steps: tuple[Step, ...]
    before: Option
    option: Option

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "rate_per_s_before": plain(self.before.search.rate_per_s),
            "rate_per_s": plain(self.option.search.rate_per_s),
            "steps": [
                {
                    "flag": step.flag,
                    "before": step.before,
                    "after": step.after,
                    "gain": plain(step.gain),
                    "tried": [
                        {"value": one.value, "rate_per_s": plain(one.rate_per_s)}
                        for one in step.tried
                    ],
                }
                for step in self.steps
            ],
        }


def tune(
    option: Option,
    trace: Trace,
    slo: SLO,
    *,
    fixed: Sequence[str] = (),
    values: Mapping[str, Sequence[object]] | None = None,
    report: Report | None = None,
) -> Tuning:
    """Search the flags of one server.

    Args:
        option: where to begin.
        trace: what it serves.
        slo: the objective.
        fixed: flags that are not touched.
        values: flag -> values to try; by default :data:`VALUES`.
        report: told about progress.
    """
    best, steps = option, []
    for flag, wanted in (VALUES if values is None else values).items():
        if flag in fixed or (flag == "enable_prefix_caching" and not _shares(trace)):
            continue
        step, best = _coordinate(best, flag, wanted, trace, slo, report)
        steps.append(step)
    return Tuning(steps=tuple(steps), before=option, option=best)


def _shares(trace: Trace) -> bool:
    """Whether any prompts begin alike: else the prefix cache finds nothing."""
    return bool(shared_prefixes(trace)[1].any())


def _coordinate(
    best: Option, flag: str, wanted: Sequence[object], trace: Trace, slo: SLO, report: Report | None
) -> tuple[Step, Option]:
    before = value_of(best, flag)
    others = [value for value in wanted if value != before]
    specs = [
        (f"{best.title}, {worded(flag, value)}", best.spec.changed(**{flag: value}))
        for value in others
    ]
    guess = best.search.rate_per_s or None
    found = try_each(specs, trace, slo, title=f"tuning {flag}", guess_per_s=guess, report=report)
    tried = [Tried(value=before, rate_per_s=best.search.rate_per_s)]
    held = best.search.rate_per_s
    winner, most = best, 0.0
    for value, one in zip(others, found, strict=True):
        if isinstance(one, Refused):
            tried.append(Tried(value=value, rate_per_s=None, reason=one.reason))
            continue
        rate = one.search.rate_per_s
        tried.append(Tried(value=value, rate_per_s=rate))
        if rate > most:
            most = rate
            if rate > held * (1 + TOLERANCE):
                winner = replace(one, num_replicas=best.num_replicas)
    gain = most / held - 1 if held else (float("inf") if most else 0.0)
    after = before if winner is best else value_of(winner, flag)
    ordered = sorted(tried, key=lambda one: _order(wanted, one.value))
    step = Step(flag=flag, tried=tuple(ordered), before=before, after=after, gain=gain)
    return step, winner


def _order(wanted: Sequence[object], value: object) -> float:
    return wanted.index(value) if value in wanted else -1


def value_of(option: Option, flag: str) -> object:
    """What a flag is on a server, under the name that it is given by."""
    given = option.spec.flags.get(flag)
    return given if given is not None else getattr(option.server.deployment, flag)


def kept(option: Option) -> tuple[str, ...]:
    """Flags that the user has set to other than the engine's own: they stay."""
    own = own_flags(option.server)
    return tuple(
        flag for flag in VALUES if option.spec.flags.get(flag) not in (None, own.get(flag))
    )
