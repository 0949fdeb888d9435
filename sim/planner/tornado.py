"""What the answer hangs on: the rate that holds with one input at either end, the others kept.

Step times and KV blocks are *bands*: the truth is expected within. The rest are what-ifs, 20 % less
and more: output and prompt lengths, burstiness (an exponent of the gaps between arrivals), the
objective's limits; and, where a prefix cache finds something, the cache switched off.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from ...traces import Trace
from ...traces.bootstrap import session_starts_s
from ..content import shared_prefixes
from ..job import Report
from ..parallel import Task, run_each
from ..sensitivity import BAND, BLOCK_SOURCE, SUPPOSED, WHAT_IF, Varied, block_band, clock_band_at
from ..slo import LIMITS, SLO
from ..summary import plain
from .nearby import Held
from .option import Option
from .scenarios import Runs, Subject, held_by
from .spread import ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the plan says of one server."""

    rate_per_s: float
    usd_per_million_output_tokens: float | None
    """None without a price, or where nothing is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever(Varied):
    """One input at either end, with the answer there."""

    low: Answer
    high: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Leverage:
    """The answer, both bands together at their ends, and every input on its own."""

    base: Answer
    low: Answer
    """Slow clock and few blocks."""
    high: Answer
    factors: tuple[Lever, ...]

    @property
    def bands(self) -> tuple[Lever, ...]:
        """Inputs in doubt."""
        return tuple(one for one in self.factors if one.kind == BAND and not one.is_given)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            **{name: plain(asdict(getattr(self, name))) for name in ("base", "low", "high")},
            "factors": [plain(asdict(one)) for one in self.factors],
        }


_End = tuple[Subject, SLO]
_Input = tuple[Varied, _End | None, _End | None]
"""An input, at its low end and at its high end; None where that is the base itself."""


def leverage(
    option: Option,
    subject: Subject,
    runs: Runs,
    trace: Trace,
    slo: SLO,
    *,
    jobs: int | None = None,
    report: Report | None = None,
) -> Leverage:
    """Search an option with one input changed at a time.

    Args:
        option: whose answer it is.
        subject: the same for the scenarios.
        runs: of the subject.
        trace: of ``runs.base``.
        slo: the objective.
        jobs: processes.
        report: told about progress.
    """
    inputs = _inputs(subject, trace, slo)
    tasks: list[Task[Held]] = [
        (f"{varied.name.replace('_', ' ')}, {which}", partial(held_by, *end, trace))
        for varied, *ends in inputs
        for which, end in zip(("low", "high"), ends, strict=True)
        if end is not None
    ]
    found = iter(run_each(tasks, title="what it hangs on", jobs=jobs, report=report))

    def answer(held: Held) -> Answer:
        return _answer(option, held, runs.base)

    return Leverage(
        base=answer(runs.base),
        low=answer(runs.worse),
        high=answer(runs.better),
        factors=tuple(
            Lever(
                **asdict(varied),
                low=answer(runs.base if low is None else next(found)),
                high=answer(runs.base if high is None else next(found)),
            )
            for varied, low, high in inputs
        ),
    )


def _inputs(subject: Subject, trace: Trace, slo: SLO) -> list[_Input]:
    server = subject.server
    band, (few, many) = clock_band_at(server, trace, subject.mean_running), block_band(server)
    blocks = server.num_gpu_blocks

    def end(**changes: float) -> _End:
        return replace(subject, traffic=replace(subject.traffic, **changes)), slo

    less, more = 1 - WHAT_IF, 1 + WHAT_IF
    found: list[_Input] = [
        (
            _varied("step_times", BAND, band.low, band.high, source=band.source),
            None if band.low == 1.0 else (subject.at(clock=band.low), slo),
            None if band.high == 1.0 else (subject.at(clock=band.high), slo),
        ),
        (
            _varied("kv_blocks", BAND, few, many, base=blocks, unit="blocks", source=BLOCK_SOURCE),
            None if few == blocks else (subject.at(blocks=few), slo),
            None if many == blocks else (subject.at(blocks=many), slo),
        ),
        (_supposed("output_lengths"), end(outputs=less), end(outputs=more)),
        (_supposed("prompt_lengths"), end(prompts=less), end(prompts=more)),
        (_supposed("slo_limits"), (subject, _scaled(slo, less)), (subject, _scaled(slo, more))),
    ]
    gaps_s = np.diff(session_starts_s(trace))
    if len(gaps_s) and gaps_s.max() > gaps_s.min():
        found.append((_supposed("burstiness"), end(burstiness=less), end(burstiness=more)))
    if server.deployment.enable_prefix_caching and (shared_prefixes(trace)[0] >= 0).any():
        without = server.with_flags(enable_prefix_caching=False, prefix_cache="hash", tiers=())
        switch = _varied("prefix_cache", SUPPOSED, 0.0, 1.0, unit="switch", source="supposed: off")
        found.append((switch, (replace(subject, server=without), slo), None))
    return found


def _varied(
    name: str,
    kind: str,
    low: float,
    high: float,
    *,
    source: str,
    base: float = 1.0,
    unit: str = "times",
) -> Varied:
    return Varied(
        name=name,
        kind=kind,
        unit=unit,
        low_input=low,
        base_input=base,
        high_input=high,
        source=source,
    )


def _supposed(name: str) -> Varied:
    source = f"supposed: {WHAT_IF:.0%} less and more"
    return _varied(name, SUPPOSED, 1 - WHAT_IF, 1 + WHAT_IF, source=source)


def _scaled(slo: SLO, factor: float) -> SLO:
    limits = {name: getattr(slo, name) for name in LIMITS}
    return replace(slo, **{n: factor * limit for n, limit in limits.items() if limit is not None})


def _answer(option: Option, held: Held, base: Held) -> Answer:
    """As on the whole trace: the option's own figures, so many times."""
    cost = option.usd_per_million_output_tokens
    more = ratio(held.output_tokens_per_s, base.output_tokens_per_s)
    return Answer(
        rate_per_s=option.search.rate_per_s * ratio(held.rate_per_s, base.rate_per_s),
        usd_per_million_output_tokens=None if cost is None or not held.rate_per_s else cost / more,
    )
