"""The plan's answer as an interval, and what the interval comes from.

The chosen server is run again with one input at either end, the others kept. Two inputs are in
doubt and have a *band*: the step times (that of the timing source at the backlog's mean batch) and
the KV blocks (that of the memory budget). Two are what-ifs: output lengths and request rate, 20 %
less and more. The interval is the answer with both bands at their bad ends (slow clock, few
blocks) and at their good ends.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ..calibration.step_cost import Band, Batch
from ..traces import Trace
from .backlog import Backlog
from .job import Report
from .result import Result
from .server import Server
from .summary import Summary, plain
from .variant_runs import Outcome, Runs, Setting
from .variants import blocks_of_bytes

WHAT_IF = 0.2
"""Relative change of what has no band."""
LESS, MORE = 1 - WHAT_IF, 1 + WHAT_IF
BAND, SUPPOSED = "band", "what if"
BLOCK_SOURCE = "the other lines of the memory budget, all at their high or all at their low end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Varied:
    """One input with its two ends.

    Raises:
        ValueError: ends that do not enclose the base.
    """

    name: str
    """``step_times``, ``kv_blocks``, ``output_lengths``, ``request_rate`` ..."""
    kind: str
    """``band``: the truth is expected within; ``what if``: a change to see what it would do."""
    unit: str
    """Of the inputs: ``times`` (relative to the base) or ``blocks``."""
    low_input: float
    base_input: float
    high_input: float
    source: str
    """Where the ends come from."""

    def __post_init__(self) -> None:
        if not self.low_input <= self.base_input <= self.high_input:
            raise ValueError(
                f"{self.name}(=[{self.low_input:g}, {self.high_input:g}]) must enclose "
                f"{self.base_input:g}."
            )

    @property
    def is_given(self) -> bool:
        """The input is in no doubt."""
        return self.low_input == self.base_input == self.high_input


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor(Varied):
    """One input at either end, with what comes of it."""

    low: Outcome
    """With the input at its low end: short steps, few blocks, short outputs, a low rate."""
    high: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """The interval of the answer and the factors behind it."""

    base: Outcome
    low: Outcome
    """Slow clock and few blocks."""
    high: Outcome
    """Fast clock and many blocks."""
    factors: tuple[Factor, ...]

    @property
    def bands(self) -> tuple[Factor, ...]:
        """What the interval is made of: inputs in doubt."""
        return tuple(one for one in self.factors if one.kind == BAND and not one.is_given)

    def factor(self, name: str) -> Factor | None:
        """The factor of that name."""
        return next((one for one in self.factors if one.name == name), None)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "base": plain(asdict(self.base)),
            "low": plain(asdict(self.low)),
            "high": plain(asdict(self.high)),
            "factors": [plain(asdict(factor)) for factor in self.factors],
        }


def sensitivity(
    server: Server,
    trace: Trace,
    *,
    result: Result,
    summary: Summary,
    backlog: Backlog,
    concurrency: int | None = None,
    report: Report | None = None,
) -> Sensitivity:
    """Run the variants of a server that has been run.

    Args:
        server: the chosen one.
        trace: what it served.
        result: of the server over the trace.
        summary: of the same.
        backlog: of the server with its flags as given, from :func:`saturate`.
        concurrency: clients of a closed loop, which has no request rate.
        report: told about progress.
    """
    runs = Runs(server, trace, concurrency=concurrency, report=report)
    runs.know(result, summary, backlog)
    few, many = block_band(server)
    band = clock_band(server, trace, backlog)
    here = Setting(blocks=server.num_gpu_blocks)
    runs.prepare(_settings(here, band, few, many, rates=concurrency is None and _has_rate(trace)))
    low = runs.outcome(Setting(blocks=few, clock=band.high))
    factors = [_step_times(runs, here, band), _kv_blocks(runs, here, few, many)]
    less, more = LESS, MORE
    lengths = (here._replace(outputs=less), here._replace(outputs=more))
    factors.append(_supposed(runs, "output_lengths", *lengths))
    if concurrency is None and _has_rate(trace):
        rates = (here._replace(rate=less), here._replace(rate=more))
        factors.append(_supposed(runs, "request_rate", *rates))
    return Sensitivity(
        base=runs.outcome(here),
        low=low,
        high=runs.outcome(Setting(blocks=many, clock=band.low)),
        factors=tuple(factors),
    )


def _settings(here: Setting, band: Band, few: int, many: int, *, rates: bool) -> list[Setting]:
    """All that are going to be asked for."""
    return [
        here,
        *(Setting(blocks=few, clock=clock) for clock in (1.0, band.high)),
        *(Setting(blocks=many, clock=clock) for clock in (1.0, band.low)),
        *(here._replace(clock=clock) for clock in (band.low, band.high)),
        *(here._replace(outputs=outputs) for outputs in (LESS, MORE)),
        *(here._replace(rate=rate) for rate in (LESS, MORE) if rates),
    ]


def clock_band(server: Server, trace: Trace, backlog: Backlog) -> Band:
    """The timing source's band for the mean batch of decodes under backlog."""
    return clock_band_at(server, trace, backlog.mean_running)


def clock_band_at(server: Server, trace: Trace, mean_running: float) -> Band:
    """The timing source's band for so many decodes of the trace at once.

    Each request counts as long as it decodes, half of its output written on average.
    """
    outputs = trace.output_tokens
    context = float(((trace.prompt_tokens + outputs / 2) * outputs).sum() / outputs.sum())
    decodes = max(1, round(mean_running))
    return server.cost.band_of(Batch(decodes, round(decodes * context)))


def block_band(server: Server) -> tuple[int, int]:
    """Blocks of the pool at either end of its band."""
    low, high = server.budget.kv_cache_low_bytes, server.budget.kv_cache_high_bytes
    return blocks_of_bytes(server, low), blocks_of_bytes(server, high)


def _kv_blocks(runs: Runs, here: Setting, few: int, many: int) -> Factor:
    return Factor(
        name="kv_blocks",
        kind=BAND,
        unit="blocks",
        low_input=few,
        base_input=here.blocks,
        high_input=many,
        source=BLOCK_SOURCE,
        low=runs.outcome(here._replace(blocks=few)),
        high=runs.outcome(here._replace(blocks=many)),
    )


def _step_times(runs: Runs, here: Setting, band: Band) -> Factor:
    return Factor(
        name="step_times",
        kind=BAND,
        unit="times",
        low_input=band.low,
        base_input=1.0,
        high_input=band.high,
        source=band.source,
        low=runs.outcome(here._replace(clock=band.low)),
        high=runs.outcome(here._replace(clock=band.high)),
    )


def _supposed(runs: Runs, name: str, less: Setting, more: Setting) -> Factor:
    return Factor(
        name=name,
        kind=SUPPOSED,
        unit="times",
        low_input=1 - WHAT_IF,
        base_input=1.0,
        high_input=1 + WHAT_IF,
        source=f"supposed: {WHAT_IF:.0%} less and more",
        low=runs.outcome(less),
        high=runs.outcome(more),
    )


def _has_rate(trace: Trace) -> bool:
    """Whether its requests come at different times."""
    times = trace.arrival_s
    return times is not None and bool(np.nanmax(times) > np.nanmin(times))
