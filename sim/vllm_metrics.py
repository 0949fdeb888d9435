"""vLLM's Prometheus series: the names, kinds and bucket edges of its V1 engine.

One table for those who write the series and those who read them (``vllm/v1/metrics/loggers.py`` and
``buckets.py``). Names stand without the suffixes of their samples: a counter's sample ends in
``_total``, a histogram's in ``_bucket``, ``_sum`` and ``_count``. What vLLM means by them:

- ``kv_cache_usage_perc`` is a fraction, ``1 - free blocks / usable blocks``. Cached blocks that
  nobody holds are free, the null block is not usable.
- ``prompt_tokens`` of a request count when its first token arrives, ``prefix_cache_queries`` (its
  prompt) and ``prefix_cache_hits`` when it is first scheduled. A server that retries the head of
  its queue counts the same prompt at every try.
- ``time_to_first_token_seconds`` is observed at the first token, ``inter_token_latency_seconds`` at
  every later one, pauses included; all others when a request finishes. Aborted ones are not among
  them.
- ``request_queue_time_seconds`` ends when a request is first scheduled,
  ``request_prefill_time_seconds`` at its first token, ``request_decode_time_seconds`` at its last;
  later waits after a preemption are part of the phase that they interrupt.
- ``request_time_per_output_token_seconds`` of a request of one token is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"
KINDS = (GAUGE, COUNTER, HISTOGRAM)

TTFT_EDGES_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
TOKEN_TIME_EDGES_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
REQUEST_TIME_EDGES_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)

FINISHED_REASONS = ("stop", "length", "abort")
"""Values of the label ``finished_reason`` that a simulation can give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric family.

    Raises:
        ValueError: an unknown kind, or edges of something that is no histogram.
    """

    name: str
    kind: str
    help: str
    edges: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, without ``+Inf``; empty where they are counted in
    tokens and end at the server's ``max_model_len``: see :func:`token_edges`."""
    older_names: tuple[str, ...] = ()
    """Names that earlier versions gave the same thing, the newest first."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind(={self.kind!r}) must be one of {', '.join(KINDS)}.")
        if self.edges and self.kind != HISTOGRAM:
            raise ValueError(f"edges(={len(self.edges)} of {self.name}) must be a histogram's.")

    @property
    def sample(self) -> str:
        """Name of the sample of a gauge or counter."""
        return f"{self.name}_total" if self.kind == COUNTER else self.name


RUNNING = Series(
    name="vllm:num_requests_running", kind=GAUGE, help="Requests in the running batch."
)
WAITING = Series(
    name="vllm:num_requests_waiting", kind=GAUGE, help="Requests that wait, preempted ones too."
)
KV_USAGE = Series(
    name="vllm:kv_cache_usage_perc",
    kind=GAUGE,
    help="Fraction of the KV blocks that requests hold.",
    older_names=("vllm:gpu_cache_usage_perc",),
)
CACHE_QUERIES = Series(
    name="vllm:prefix_cache_queries",
    kind=COUNTER,
    help="Prompt tokens looked up in the prefix cache.",
    older_names=("vllm:gpu_prefix_cache_queries",),
)
CACHE_HITS = Series(
    name="vllm:prefix_cache_hits",
    kind=COUNTER,
    help="Prompt tokens found in the prefix cache.",
    older_names=("vllm:gpu_prefix_cache_hits",),
)
PREEMPTIONS = Series(name="vllm:num_preemptions", kind=COUNTER, help="Preemptions.")
PROMPT_TOKENS = Series(
    name="vllm:prompt_tokens", kind=COUNTER, help="Prompt tokens of requests that got a token."
)
GENERATION_TOKENS = Series(name="vllm:generation_tokens", kind=COUNTER, help="Tokens generated.")
SUCCESS = Series(
    name="vllm:request_success", kind=COUNTER, help="Requests that ended, by finished_reason."
)
TTFT = Series(
    name="vllm:time_to_first_token_seconds",
    kind=HISTOGRAM,
    help="Arrival to first token.",
    edges=TTFT_EDGES_S,
)
INTER_TOKEN = Series(
    name="vllm:inter_token_latency_seconds",
    kind=HISTOGRAM,
    help="Time between two tokens of a request, per token.",
    edges=TOKEN_TIME_EDGES_S,
    older_names=("vllm:time_per_output_token_seconds",),
)
TPOT = Series(
    name="vllm:request_time_per_output_token_seconds",
    kind=HISTOGRAM,
    help="Mean time per token after the first, per request.",
    edges=TOKEN_TIME_EDGES_S,
)
E2E = Series(
    name="vllm:e2e_request_latency_seconds",
    kind=HISTOGRAM,
    help="Arrival to last token.",
    edges=REQUEST_TIME_EDGES_S,
)
QUEUE_TIME = Series(
    name="vllm:request_queue_time_seconds",
    kind=HISTOGRAM,
    help="Arrival to first schedule.",
    edges=REQUEST_TIME_EDGES_S,
)
PREFILL_TIME = Series(
    name="vllm:request_prefill_time_seconds",
    kind=HISTOGRAM,
    help="First schedule to first token.",
    edges=REQUEST_TIME_EDGES_S,
)
DECODE_TIME = Series(
    name="vllm:request_decode_time_seconds",
    kind=HISTOGRAM,
    help="First token to last token.",
    edges=REQUEST_TIME_EDGES_S,
)
INFERENCE_TIME = Series(
    name="vllm:request_inference_time_seconds",
    kind=HISTOGRAM,
    help="First schedule to last token.",
    edges=REQUEST_TIME_EDGES_S,
)
REQUEST_PROMPT = Series(
    name="vllm:request_prompt_tokens", kind=HISTOGRAM, help="Prompt tokens per request."
)
REQUEST_GENERATION = Series(
    name="vllm:request_generation_tokens", kind=HISTOGRAM, help="Tokens generated per request."
)

SERIES: dict[str, Series] = {
    series.name: series
    for series in (
        *(RUNNING, WAITING, KV_USAGE),
        *(CACHE_QUERIES, CACHE_HITS, PREEMPTIONS, PROMPT_TOKENS, GENERATION_TOKENS, SUCCESS),
        *(TTFT, INTER_TOKEN, TPOT, E2E),
        *(QUEUE_TIME, PREFILL_TIME, DECODE_TIME, INFERENCE_TIME),
        *(REQUEST_PROMPT, REQUEST_GENERATION),
    )
}
"""By name, in the order in which they are written."""


def token_edges(max_model_len: int) -> tuple[float, ...]:
    """Upper bounds of the buckets of token counts: 1, 2, 5, 10, ... up to ``max_model_len``.

    Raises:
        ValueError: ``max_model_len`` is below 1.
    """
    if max_model_len < 1:
        raise ValueError(f"max_model_len(={max_model_len}) must be > 0.")
    steps = (lead * 10**power for power in range(len(str(max_model_len))) for lead in (1, 2, 5))
    return tuple(float(step) for step in steps if step <= max_model_len)


def find_series(name: str) -> Series | None:
    """The family that a sample or family name of any version belongs to; None for strangers.

    ``vllm:time_per_output_token_seconds`` is the old name of the time between tokens.
    """
    for suffix, kinds in _SUFFIXES.items():
        series = _BY_ANY_NAME.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
        if series is not None and series.kind in kinds:
            return series
    return None


_SUFFIXES = {
    "": KINDS,
    "_total": (COUNTER,),
    "_bucket": (HISTOGRAM,),
    "_sum": (HISTOGRAM,),
    "_count": (HISTOGRAM,),
    "_created": (COUNTER, HISTOGRAM),
}
_BY_ANY_NAME = {
    name: series for series in SERIES.values() for name in (series.name, *series.older_names)
}
