"""From what a user asks for to a trace: files or a synthetic workload, with arrivals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .arrivals import arrival_times
from .formats import CsvColumns, resolve_format
from .lengths import fixed
from .load import load_trace
from .prefixes import PrefixGroups
from .presets import workload_preset
from .servegen import draw_servegen, is_servegen
from .sessions import Sessions
from .trace import Trace
from .workload import Workload, fixed_workload, synthesize

DEFAULT_WORKLOAD = "sharegpt"
DEFAULT_NUM_REQUESTS = 2_000
_MOST = 1_000_000_000
_LONGEST_SPAN_S = 3e8
_WALL_CLOCK_S = 1e8  # three years: no trace is that long, a Unix time is larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What to load or draw, and when it arrives.

    ``trace`` files (or a folder: of sessions, or of ServeGen's distributions, from which requests
    are drawn), or a ``workload`` preset, or fixed ``prompt_tokens`` and ``output_tokens``; by
    default the ShareGPT preset.

    Raises:
        ValueError: options that exclude each other or need each other.
    """

    trace: tuple[str, ...] = ()
    trace_format: str = "auto"
    trace_block_size: int | None = None
    strict: bool = False
    tokenizer: str | None = None
    timestamp_column: str | None = None
    prompt_tokens_column: str | None = None
    output_tokens_column: str | None = None
    timestamp_unit: str = "s"
    window: str | None = None
    """``START:END`` in seconds, either may be empty."""
    max_requests: int | None = None
    arrival_speedup_ratio: float | None = None
    session_replay: str = "auto"
    """``closed``: later turns start after the turn before has ended; ``open``: at their recorded
    times; ``auto``: as is usual for the format."""
    keep_empty: bool = False
    """Weka: keep requests that were answered with 0 tokens, with 1."""
    scale_rate: float | None = None
    """ServeGen: this many times the requests, at the same times of day."""

    workload: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    num_requests: int | None = None
    prefix_groups: int | None = None
    prefix_tokens: int | None = None
    turns: int | None = None
    think_time_s: float = 0.0
    tenants: int | None = None
    n: int | None = None
    """Samples of every request, whatever the trace says."""
    beam_width: int | None = None
    """Beams of every request."""

    arrival_process: str | None = None
    rate_per_s: float | None = None
    burstiness: float = 1.0
    concurrency: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        fixed_lengths = self.prompt_tokens is not None or self.output_tokens is not None
        ways = {"trace": bool(self.trace), "workload": self.workload is not None}
        ways["prompt_tokens"] = fixed_lengths
        chosen = [name for name, given in ways.items() if given]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} exclude each other: give one of them.")
        if fixed_lengths and (self.prompt_tokens is None or self.output_tokens is None):
            raise ValueError(
                f"prompt_tokens(={self.prompt_tokens}) and output_tokens(={self.output_tokens}) "
                "go together."
            )
        if (self.prefix_groups is None) != (self.prefix_tokens is None):
            raise ValueError(
                f"prefix_groups(={self.prefix_groups}) and prefix_tokens(={self.prefix_tokens}) "
                "go together."
            )
        drawn = (self.prefix_groups, self.turns, self.num_requests, self.tenants)
        if self.trace and any(drawn):
            raise ValueError(
                "num_requests, prefix_groups, turns and tenants are for synthetic workloads; a "
                "trace file takes max_requests."
            )
        if self.concurrency is not None and (self.rate_per_s or self.arrival_process):
            raise ValueError(
                f"concurrency(={self.concurrency}) is a closed loop: it excludes rate and "
                "arrival_process."
            )
        if self.n is not None and self.beam_width is not None:
            raise ValueError(
                f"n(={self.n}) and beam_width(={self.beam_width}) exclude each other: give one."
            )
        counts = ("num_requests", "prompt_tokens", "output_tokens", "prefix_tokens")
        for name in (*counts, "turns", "tenants", "n", "beam_width"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= _MOST:
                raise ValueError(f"{name}(={value}) must be > 0 and <= {_MOST}.")
        if self.turns is None and self.think_time_s:
            raise ValueError(f"think_time(={self.think_time_s}) needs turns.")
        if self.arrival_process == "backlog" and self.rate_per_s is not None:
            raise ValueError(f"rate(={self.rate_per_s}) has no place in a backlog.")
        if self.burstiness != 1 and self.arrival_process not in (None, "poisson", "gamma"):
            raise ValueError(
                f"burstiness(={self.burstiness}) needs arrival_process gamma, not "
                f"{self.arrival_process}."
            )
        if self.session_replay != "auto" and not self.trace:
            raise ValueError(f"session_replay(={self.session_replay}) needs a trace.")
        if self.seed < 0:
            raise ValueError(f"seed(={self.seed}) must be >= 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A trace, and in words what it is and where its arrivals come from."""

    trace: Trace
    origin: str
    arrivals: str
    """Empty where the trace has lengths only."""


def take_in(intake: Intake) -> Taken:
    """Load or draw the trace.

    Raises:
        ValueError: unreadable files, unknown names, numbers out of range.
    """
    trace, origin = _from_files(intake) if intake.trace else _synthetic(intake)
    if intake.window is not None:
        trace = trace.window(*_window(intake.window))
    if intake.max_requests is not None:
        trace = trace.head(intake.max_requests)
    trace = _sequences(intake, trace)
    if intake.concurrency is not None:
        words = f"closed loop, {intake.concurrency} clients"
        return Taken(trace=trace, origin=origin, arrivals=words)
    return _with_arrivals(intake, trace, origin)


def _sequences(intake: Intake, trace: Trace) -> Trace:
    """As many samples or beams of every request as are asked for."""
    if intake.n is not None:
        return replace(trace, num_samples=np.full(len(trace), intake.n), beam_width=None)
    if intake.beam_width is not None:
        beams = np.full(len(trace), intake.beam_width)
        return replace(trace, beam_width=beams, num_samples=None)
    return trace


def with_poisson(taken: Taken, *, rate_per_s: float, seed: int, why: str) -> Taken:
    """The same requests with Poisson arrivals at this rate."""
    rng = arrival_stream(seed)
    times = arrival_times(taken.trace.num_roots, process="poisson", rate_per_s=rate_per_s, rng=rng)
    words = f"Poisson at {rate_per_s:.4g}/s ({why}), seed {seed}"
    return replace(taken, trace=taken.trace.with_arrivals(times), arrivals=words)


def _from_files(intake: Intake) -> tuple[Trace, str]:
    if _is_drawn(intake):
        return _drawn(intake)
    if intake.scale_rate is not None:
        raise ValueError(
            f"scale_rate(={intake.scale_rate:g}) is for ServeGen's distributions; a trace takes "
            "arrival_speedup_ratio."
        )
    columns = None
    if intake.prompt_tokens_column is not None and intake.output_tokens_column is not None:
        columns = CsvColumns(
            timestamp_column=intake.timestamp_column,
            prompt_tokens_column=intake.prompt_tokens_column,
            output_tokens_column=intake.output_tokens_column,
            timestamp_unit=intake.timestamp_unit,
        )
    trace = load_trace(
        intake.trace,
        trace_format=intake.trace_format,
        trace_block_size=intake.trace_block_size,
        strict=intake.strict,
        tokenizer=intake.tokenizer,
        columns=columns,
        session_replay=intake.session_replay,
        keep_empty=intake.keep_empty,
    )
    return _from_zero(trace), trace.name


def _is_drawn(intake: Intake) -> bool:
    """Whether the trace is a folder of ServeGen's; ValueError where it must be and is not."""
    name = resolve_format(intake.trace_format)
    if name == "servegen":
        for path in intake.trace:
            if not is_servegen(path):
                raise ValueError(
                    f"trace(={path}) is not servegen: it must be a folder of chunk-N-trace.csv."
                )
    return len(intake.trace) == 1 and name in ("auto", "servegen") and is_servegen(intake.trace[0])


def _drawn(intake: Intake) -> tuple[Trace, str]:
    start_s, end_s = _window(intake.window or ":")
    trace = draw_servegen(
        intake.trace[0],
        seed=intake.seed,
        start_s=start_s,
        end_s=end_s,
        scale_rate=1.0 if intake.scale_rate is None else intake.scale_rate,
        strict=intake.strict,
    )
    return trace, f"{trace.name}, drawn with seed {intake.seed}"


def _from_zero(trace: Trace) -> Trace:
    """Wall-clock times count from the first arrival: seconds since 1970 are too coarse."""
    if trace.arrival_s is None:
        return trace
    first_s = float(np.nanmin(trace.arrival_s))
    span_s = float(np.nanmax(trace.arrival_s)) - first_s
    if span_s > _LONGEST_SPAN_S:
        raise ValueError(
            f"trace(={trace.name!r}) spans {span_s / 31_557_600:.0f} years: its files or rows "
            "count time from different clocks."
        )
    if first_s < _WALL_CLOCK_S:
        return trace
    note = f"times count from the first arrival, {first_s:.3f} s on the trace's clock."
    moved = trace.with_arrivals(trace.arrival_s - first_s)
    return replace(moved, notes=(*trace.notes, note))


def _synthetic(intake: Intake) -> tuple[Trace, str]:
    num_requests = DEFAULT_NUM_REQUESTS if intake.num_requests is None else intake.num_requests
    workload = workload_of(intake)
    trace = synthesize(workload=workload, num_requests=num_requests, seed=intake.seed)
    return trace, f"synthetic {workload.name}, seed {intake.seed}"


def workload_of(intake: Intake) -> Workload:
    """The synthetic workload that is asked for."""
    if intake.prompt_tokens is not None and intake.output_tokens is not None:
        workload = fixed_workload(
            prompt_tokens=intake.prompt_tokens, output_tokens=intake.output_tokens
        )
    else:
        workload = workload_preset(intake.workload or DEFAULT_WORKLOAD)
    if intake.prefix_groups is not None and intake.prefix_tokens is not None:
        groups = PrefixGroups(num_groups=intake.prefix_groups, prefix_tokens=intake.prefix_tokens)
        workload = replace(workload, prefix_groups=groups)
    if intake.turns is not None:
        sessions = Sessions(turns=fixed(intake.turns), think_mean_s=intake.think_time_s)
        workload = replace(workload, sessions=sessions)
    if intake.tenants is not None:
        workload = replace(workload, tenants=intake.tenants)
    if intake.rate_per_s is not None or intake.arrival_process is not None:
        workload = replace(workload, arrivals=None)  # the ones asked for come on top
    return workload


def _with_arrivals(intake: Intake, trace: Trace, origin: str) -> Taken:
    process, rate_per_s = intake.arrival_process, intake.rate_per_s
    if process is None and rate_per_s is None:
        words = "" if trace.arrival_s is None else _own_times(trace, intake)
    else:
        process = process or "poisson"
        if intake.burstiness != 1:
            process = "gamma"  # as vLLM: a rate with a burstiness
        rng = arrival_stream(intake.seed)
        # sessions at their recorded distances: the process says when a session begins
        by_session = intake.session_replay == "open" and trace.num_sessions < len(trace)
        times = arrival_times(
            trace.num_sessions if by_session else trace.num_roots,
            process=process,
            rate_per_s=rate_per_s,
            burstiness=intake.burstiness,
            rng=rng,
        )
        trace = trace.with_session_starts(times) if by_session else trace.with_arrivals(times)
        at = "" if rate_per_s is None else f" at {rate_per_s:.4g}/s"
        of = " for sessions" if by_session else ""
        words = f"{process}{at}{of}, seed {intake.seed}"
    if intake.arrival_speedup_ratio is not None:
        trace = trace.speedup(intake.arrival_speedup_ratio)
        words += f", sped up {intake.arrival_speedup_ratio:g} times"
    return Taken(trace=trace, origin=origin, arrivals=words)


def _own_times(trace: Trace, intake: Intake) -> str:
    assert trace.arrival_s is not None, "the caller has asked"
    span_s = float(np.nanmax(trace.arrival_s) - np.nanmin(trace.arrival_s))
    whose = "the trace's own times" if intake.trace else "the workload's own arrivals"
    rate = f", {len(trace) / span_s:.4g}/s" if span_s > 0 else ""
    later = len(trace) - trace.num_roots if intake.trace else 0
    turns = f"; {later} turns follow the turn before" if later else ""
    return f"{whose}, {span_s:.0f} s{rate}{turns}"


def arrival_stream(seed: int) -> np.random.Generator:
    """A stream of its own: the lengths do not change with the arrivals."""
    return np.random.default_rng(np.random.SeedSequence([seed, 0xA221]))


def _window(text: str) -> tuple[float, float]:
    start, colon, end = text.partition(":")
    try:
        if colon:
            return float(start or 0.0), float(end or "inf")
    except ValueError:
        pass
    raise ValueError(f"window(={text!r}) must be START:END in seconds, such as 0:600.")
