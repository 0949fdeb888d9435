"""A run as OpenMetrics text, under the names of vLLM's own series.

A scrape a second, as a Prometheus beside a server would have taken, with timestamps: the text can
be imported beside production (``promtool tsdb create-blocks-from openmetrics``). Series and their
meaning are in :mod:`kvsim.sim.vllm_metrics`; kvsim's own begin with ``kvsim:``.

Counts of requests, tokens and preemptions are exact at every scrape, and so are the histograms.
Slots of the pool are those of :func:`kvsim.sim.pool_at.pool_at`: between the first and the last
step of a run of decode steps, blocks grow along a line. ``kv_cache_usage_perc`` is the share of the
pool that requests hold: tokens, reserved and internal slots; what is merely cached is free.
``prefix_cache_queries`` counts a prompt once, when it is admitted. A finished request counts as
``length`` where it reached ``max_model_len`` and as ``stop`` elsewhere; ``abort`` is a client that
gave up. Rejected requests never reached the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from ..sim import vllm_metrics as vllm
from ..sim.pool_at import pool_at
from ..sim.result import CANCELLED, CATEGORIES, FINISHED, REJECTED, Result
from ..sim.summary import Summary
from ..sim.vllm_metrics import COUNTER, GAUGE, Series
from .scrapes import (
    Observed,
    Tally,
    check_interval,
    count_until,
    requests_at,
    scrape_times_ms,
    token_times,
)

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64] | Floats
Labels = Mapping[str, str]

SLOTS = Series(
    name="kvsim:kv_cache_slots", kind=GAUGE, help="Slots of the KV pool, by what they hold."
)
REJECTIONS = Series(
    name="kvsim:requests_rejected", kind=COUNTER, help="Requests that the server refused."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraping:
    """How a run is scraped.

    Raises:
        ValueError: a start before 1970, or less than a millisecond between scrapes.
    """

    interval_s: float | None = None
    """Between two scrapes; None: see :func:`kvsim.reports.scrapes.scrape_times_ms`."""
    start_s: float = 0.0
    """Unix time of the trace's second 0."""
    model_name: str = ""
    """Value of the label; by default the model's name in the summary."""
    engine: str = "0"

    def __post_init__(self) -> None:
        if self.interval_s is not None:
            check_interval(self.interval_s)
        if not (isfinite(self.start_s) and self.start_s >= 0):
            raise ValueError(f"metrics_start(={self.start_s:g}) must be >= 0, in Unix seconds.")


def metrics_text(result: Result, summary: Summary, scraping: Scraping | None = None) -> str:
    """All series of a run.

    Args:
        result: the run.
        summary: of the same run, with the server's settings and sources.
        scraping: when to scrape, and the labels.

    Raises:
        ValueError: an interval that gives too many scrapes, or a summary without settings.
    """
    scraping = scraping or Scraping()
    model = scraping.model_name or _model_name(summary)
    labels = {"engine": scraping.engine, "model_name": model}
    times_ms = scrape_times_ms(result, scraping.interval_s)
    stamps = [_stamp(time) for time in (times_ms + round(scraping.start_s * 1e3)).tolist()]
    lines = [
        line
        for part in (_gauges, _counters, _histograms)
        for line in part(_Run(result, summary, times_ms / 1e3, stamps, labels))
    ]
    return "\n".join([*lines, "# EOF", ""])


class _Run:
    """A result at the times of its scrapes."""

    def __init__(
        self, result: Result, summary: Summary, at_s: Floats, stamps: list[str], labels: Labels
    ) -> None:
        self.result = result
        self.requests = result.requests
        self.at_s = at_s
        self.stamps = stamps
        self.labels = labels
        deployment = summary.settings.get("deployment")
        if not isinstance(deployment, Mapping):
            raise ValueError("settings(=none) of the summary must hold the deployment.")
        self.max_model_len = int(deployment["max_model_len"])
        self.prefix_caching = bool(deployment["enable_prefix_caching"])

    def until(self, name: str, amounts: str = "") -> NDArray[np.int64]:
        """Requests, or the sum of a column, of which this time has come."""
        return count_until(
            self.at_s, self.requests[name], self.requests[amounts] if amounts else None
        )

    def points(self, series: Series, values: Numbers, **more: str) -> Iterator[str]:
        """The samples of a gauge or counter, one a scrape."""
        head = f"{series.sample}{_braces({**self.labels, **more})}"
        for value, stamp in zip(values.tolist(), self.stamps, strict=True):
            yield f"{head} {_number(value)} {stamp}"

    def buckets(self, series: Series, edges: tuple[float, ...], seen: Observed) -> Iterator[str]:
        """The samples of a histogram: buckets, count and sum, scrape after scrape."""
        heads = [
            f"{series.name}_bucket{_braces({**self.labels, 'le': edge})}"
            for edge in (*(_edge(edge) for edge in edges), "+Inf")
        ]
        count, total = (f"{series.name}_{end}{_braces(self.labels)}" for end in ("count", "sum"))
        rows = zip(self.stamps, seen.counts.tolist(), seen.sums.tolist(), strict=True)
        for stamp, counts, value in rows:
            for head, below in zip(heads, counts, strict=True):
                yield f"{head} {below} {stamp}"
            yield f"{count} {counts[-1]} {stamp}"
            yield f"{total} {_number(value)} {stamp}"


def _gauges(run: _Run) -> Iterator[str]:
    running, waiting = requests_at(run.result, run.at_s)
    slots = pool_at(run.result, run.at_s)
    held = slots["token_states"] + slots["reserved"] + slots["internal"]
    usage = held / run.result.pool_slots
    for series, values in (
        (vllm.RUNNING, running),
        (vllm.WAITING, waiting),
        (vllm.KV_USAGE, usage),
    ):
        yield from _head(series)
        yield from run.points(series, values)
    yield from _head(SLOTS)
    for name in CATEGORIES:
        yield from run.points(SLOTS, slots[name], category=name)


def _counters(run: _Run) -> Iterator[str]:
    nothing = np.zeros(len(run.at_s), dtype=np.int64)
    queries = run.until("scheduled_s", "prompt_tokens") if run.prefix_caching else nothing
    counts = {
        vllm.CACHE_QUERIES: queries,
        vllm.CACHE_HITS: run.until("scheduled_s", "cached_tokens"),
        vllm.PREEMPTIONS: count_until(run.at_s, run.result.pauses["preempted_s"]),
        vllm.PROMPT_TOKENS: run.until("first_token_s", "prompt_tokens"),
        vllm.GENERATION_TOKENS: run.until("first_token_s") + _later_tokens(run).counts[:, -1],
        REJECTIONS: _ended(run, run.result.status == REJECTED, "arrival_s"),
    }
    for series, values in counts.items():
        yield from _head(series)
        yield from run.points(series, values)
    yield from _head(vllm.SUCCESS)
    status = run.result.status
    total = run.requests["prompt_tokens"] + run.requests["output_tokens"]
    full = total >= run.max_model_len
    reasons = {"stop": ~full & (status == FINISHED), "length": full & (status == FINISHED)}
    for reason, which in {**reasons, "abort": status == CANCELLED}.items():
        yield from run.points(vllm.SUCCESS, _ended(run, which), finished_reason=reason)


def _ended(run: _Run, which: NDArray[np.bool_], name: str = "finish_s") -> NDArray[np.int64]:
    return count_until(run.at_s, run.requests[name][which])


def _later_tokens(run: _Run) -> Observed:
    tally = Tally(run.at_s, vllm.INTER_TOKEN.edges)
    for times_s, lasts_s, counts in token_times(run.result):
        tally.add(times_s, lasts_s, counts)
    return tally.observed()


def _histograms(run: _Run) -> Iterator[str]:
    requests = run.requests
    started = ~np.isnan(requests["first_token_s"])
    arrival, first = requests["arrival_s"][started], requests["first_token_s"][started]
    yield from _histogram(run, vllm.TTFT, first, first - arrival)
    yield from _head(vllm.INTER_TOKEN)
    yield from run.buckets(vllm.INTER_TOKEN, vllm.INTER_TOKEN.edges, _later_tokens(run))
    done = {name: column[run.result.status == FINISHED] for name, column in requests.items()}
    for series, values in _of_finished(done).items():
        yield from _histogram(run, series, done["finish_s"], values)


def _of_finished(done: Mapping[str, NDArray[np.float64]]) -> dict[Series, Numbers]:
    """What is observed of each request that finishes."""
    arrival, scheduled = done["arrival_s"], done["scheduled_s"]
    first, finish = done["first_token_s"], done["finish_s"]
    later = done["output_tokens"] - 1
    per_token = np.divide(finish - first, later, out=np.zeros(len(finish)), where=later > 0)
    return {
        vllm.TPOT: per_token,
        vllm.E2E: finish - arrival,
        vllm.QUEUE_TIME: scheduled - arrival,
        vllm.PREFILL_TIME: first - scheduled,
        vllm.DECODE_TIME: finish - first,
        vllm.INFERENCE_TIME: finish - scheduled,
        vllm.REQUEST_PROMPT: done["prompt_tokens"],
        vllm.REQUEST_GENERATION: done["output_tokens"],
    }


def _histogram(run: _Run, series: Series, times_s: Floats, values: Numbers) -> Iterator[str]:
    edges = series.edges or vllm.token_edges(run.max_model_len)
    tally = Tally(run.at_s, edges)
    tally.add(times_s, np.asarray(values, dtype=np.float64))
    yield from _head(series)
    yield from run.buckets(series, edges, tally.observed())


def _head(series: Series) -> tuple[str, str]:
    return f"# HELP {series.name} {series.help}", f"# TYPE {series.name} {series.kind}"


def _braces(labels: Labels) -> str:
    inside = ",".join(f'{name}="{_escape(labels[name])}"' for name in sorted(labels))
    return f"{{{inside}}}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def _edge(value: float) -> str:
    """As Prometheus clients write it: an exponent from a million on."""
    return f"{value:g}" if value >= 1e6 else repr(value)


def _stamp(time_ms: int) -> str:
    sign = "-" if time_ms < 0 else ""
    return f"{sign}{abs(time_ms) // 1000}.{abs(time_ms) % 1000:03d}"


def _model_name(summary: Summary) -> str:
    model = summary.sources.get("model")
    return str(model["name"]) if isinstance(model, Mapping) else "unknown"
