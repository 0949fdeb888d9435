"""vLLM's series: names as its samples write them, edges as it builds them."""

from __future__ import annotations

import pytest

from kvsim.sim.vllm_metrics import (
    CACHE_HITS,
    GAUGE,
    HISTOGRAM,
    INTER_TOKEN,
    KV_USAGE,
    PROMPT_TOKENS,
    SERIES,
    TTFT,
    Series,
    find_series,
    token_edges,
)


@pytest.mark.parametrize(
    ("sample", "series"),
    [
        ("vllm:kv_cache_usage_perc", KV_USAGE),
        ("vllm:gpu_cache_usage_perc", KV_USAGE),
        ("vllm:prompt_tokens_total", PROMPT_TOKENS),
        ("vllm:prompt_tokens", PROMPT_TOKENS),
        ("vllm:prompt_tokens_created", PROMPT_TOKENS),
        ("vllm:gpu_prefix_cache_hits_total", CACHE_HITS),
        ("vllm:time_to_first_token_seconds_bucket", TTFT),
        ("vllm:inter_token_latency_seconds_sum", INTER_TOKEN),
        ("vllm:time_per_output_token_seconds_count", INTER_TOKEN),
    ],
)
def test_samples_find_their_series(sample: str, series: Series) -> None:
    assert find_series(sample) is series


@pytest.mark.parametrize(
    "sample",
    [
        "vllm:iteration_tokens_total_sum",
        "vllm:kv_cache_usage_perc_total",
        "vllm:prompt_tokens_bucket",
        "vllm:time_to_first_token_seconds_total",
        "process_cpu_seconds_total",
    ],
)
def test_strangers_have_none(sample: str) -> None:
    assert find_series(sample) is None


def test_every_name_leads_to_one_series() -> None:
    names = [name for s in SERIES.values() for name in (s.name, *s.older_names)]
    assert len(set(names)) == len(names)
    for name, series in SERIES.items():
        assert series.name == name
        assert find_series(series.sample) is series


def test_token_edges_end_at_the_longest_context() -> None:
    assert token_edges(100) == (1, 2, 5, 10, 20, 50, 100)
    assert token_edges(4096)[-2:] == (1000, 2000)
    assert token_edges(1) == (1,)
    with pytest.raises(ValueError, match=r"^max_model_len\(=0\) must be > 0\.$"):
        token_edges(0)


def test_edges_ascend() -> None:
    for series in SERIES.values():
        assert list(series.edges) == sorted(set(series.edges))
        assert (series.kind == HISTOGRAM) or not series.edges


def test_what_makes_no_series() -> None:
    with pytest.raises(ValueError, match=r"^kind\(='info'\) must be one of gauge, counter"):
        Series(name="x", kind="info", help="")
    with pytest.raises(ValueError, match=r"^edges\(=1 of x\) must be a histogram's\.$"):
        Series(name="x", kind=GAUGE, help="", edges=(1.0,))
