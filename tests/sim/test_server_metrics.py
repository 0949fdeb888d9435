"""vLLM's metrics as a run: one page, the difference of two, a series; engines and old names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kvsim.sim.validation.exposition import read_scrapes
from kvsim.sim.validation.figures import measured_figures
from kvsim.sim.validation.measured import Measured
from kvsim.sim.validation.read import read_measured

LABELS = 'engine="0",model_name="meta-llama/Llama-3.1-8B"'


def page(
    counts: tuple[int, int, int] = (2, 6, 2),
    *,
    labels: str = LABELS,
    tokens: int = 100,
    name: str = "vllm:time_to_first_token_seconds",
) -> str:
    """As a server gives it: cumulative buckets up to 1 s, 2 s and above."""
    one, two, more = counts
    return "\n".join(
        [
            "# HELP vllm:num_requests_running Number of requests in model execution batches.",
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{{{labels}}} 3.0",
            f"vllm:kv_cache_usage_perc{{{labels}}} 0.25",
            f'{name}_bucket{{{labels},le="1.0"}} {one}.0',
            f'{name}_bucket{{{labels},le="2.0"}} {one + two}.0',
            f'{name}_bucket{{{labels},le="+Inf"}} {one + two + more}.0',
            f"{name}_count{{{labels}}} {one + two + more}.0",
            f"{name}_sum{{{labels}}} 15.0",
            f"vllm:generation_tokens_total{{{labels}}} {tokens}.0",
            f"vllm:generation_tokens_created{{{labels}}} 1.7e+09",
            f'vllm:request_success_total{{finished_reason="stop",{labels}}} 7.0',
            f'vllm:request_success_total{{finished_reason="abort",{labels}}} 1.0',
            f"vllm:num_preemptions_total{{{labels}}} 4.0",
            f"vllm:prefix_cache_queries_total{{{labels}}} 200.0",
            f"vllm:prefix_cache_hits_total{{{labels}}} 50.0",
            "process_cpu_seconds_total 12.5",
            "",
        ]
    )


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Measured]:
    def put_down(*texts: str) -> Measured:
        paths = [tmp_path / f"{position}.txt" for position in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return read_measured(paths)

    return put_down


def test_one_page_is_everything_since_the_start(read: Callable[..., Measured]) -> None:
    found = read(page())
    figures = measured_figures(found)
    ttft = figures["ttft_s.p50"]
    assert (ttft.low, ttft.value, ttft.high) == (1.0, pytest.approx(1.5), 2.0)
    assert (figures["ttft_s.p95"].low, figures["ttft_s.p95"].high) == (2.0, float("inf"))
    assert figures["num_finished"].value == 7
    assert figures["num_preemptions"].value == 4
    assert figures["prefix_hit_ratio"].value == 0.25
    assert found.sources == ("0.txt: vLLM's metrics, one scrape, all since the server's start",)


def test_a_moment_is_no_mean(read: Callable[..., Measured]) -> None:
    figures = measured_figures(read(page()))
    figures |= measured_figures(read(f"vllm:num_requests_running{{{LABELS}}} 3 5.0\n# EOF\n"))
    for path in ("mean_running", "peak_running", "kv_use.mean", "output_tokens_per_s"):
        assert path not in figures


@pytest.mark.parametrize("turned", [False, True])
def test_two_pages_are_their_difference(read: Callable[..., Measured], turned: bool) -> None:
    pages = [page(tokens=40), page((2, 16, 2), tokens=90)]
    found = read(*(reversed(pages) if turned else pages))
    histogram = found.histograms["ttft_s"]
    assert histogram.counts.tolist() == [0, 10, 0]
    assert found.totals["output_tokens"] == 50
    assert found.totals["num_preemptions"] == 0
    assert "the difference of two scrapes" in found.sources[0]


def test_engines_are_summed_and_their_usage_averaged() -> None:
    other = page(labels=LABELS.replace('engine="0"', 'engine="1"'), tokens=11)
    (scrape,) = read_scrapes(page() + other.replace("} 0.25", "} 0.75"), "x")
    assert scrape.counter("vllm:generation_tokens_total") == {"": 111}
    assert scrape.gauge("vllm:num_requests_running") == 6
    assert scrape.gauge("vllm:kv_cache_usage_perc") == 0.5


def test_the_old_name_of_the_token_times_is_not_counted_twice(
    read: Callable[..., Measured],
) -> None:
    new = page(name="vllm:inter_token_latency_seconds")
    old = page((5, 5, 5), name="vllm:time_per_output_token_seconds")
    buckets = [line for line in old.splitlines() if "time_per_output" in line]
    assert read("\n".join([new, *buckets, ""])).histograms["itl_s"].counts.tolist() == [2, 6, 2]
    assert read(old).histograms["itl_s"].counts.tolist() == [5, 5, 5]


def test_requests_of_one_token_have_no_time_per_token(read: Callable[..., Measured]) -> None:
    text = page(name="vllm:request_time_per_output_token_seconds")
    more = page((2, 8, 0), name="vllm:request_generation_tokens")
    buckets = [line for line in more.splitlines() if "request_generation" in line]
    found = read("\n".join([text, *buckets, ""]))
    assert found.histograms["tpot_s"].counts.tolist() == [0, 6, 2]


def series_text(*, milliseconds: bool = False) -> str:
    """Ten seconds: tokens come from 2 s to 8 s, 50 a second."""
    lines = []
    for second in range(11):
        tokens = 50 * min(max(second - 2, 0), 6)
        running = 4 if 2 <= second < 8 else 0
        time = f"{second * 1000}" if milliseconds else f"{second}.0"
        lines += [
            f"vllm:num_requests_running{{{LABELS}}} {running} {time}",
            f"vllm:num_requests_waiting{{{LABELS}}} {max(running - 2, 0)} {time}",
            f"vllm:kv_cache_usage_perc{{{LABELS}}} {0.1 * running} {time}",
            f"vllm:generation_tokens_total{{{LABELS}}} {tokens} {time}",
        ]
    return "\n".join([*lines, "# EOF" if not milliseconds else "", ""])


@pytest.mark.parametrize("milliseconds", [False, True])
def test_a_series_has_means_peaks_and_rates(
    read: Callable[..., Measured], milliseconds: bool
) -> None:
    figures = measured_figures(read(series_text(milliseconds=milliseconds)))
    assert figures["mean_running"].value == 4
    assert figures["peak_waiting"].value == 2
    assert figures["kv_use.mean"].value == pytest.approx(0.4)
    assert figures["makespan_s"].value == 5.0
    assert figures["output_tokens_per_s"].value == 60.0


def test_a_gauge_that_is_missing_at_a_time_is_not_0(read: Callable[..., Measured]) -> None:
    kept = [line for line in series_text().splitlines() if not line.endswith(" 5.0")]
    kept.insert(0, f"vllm:num_requests_waiting{{{LABELS}}} 2 5.0")
    series = read("\n".join([*kept, ""])).series
    assert series is not None
    assert series.running is not None
    assert np.isnan(series.running[5])
    figures = measured_figures(read("\n".join([*kept, ""])))
    assert figures["mean_running"].value == 4


def test_exemplars_escapes_and_exponents_are_read() -> None:
    text = (
        'vllm:num_requests_running{model_name="a\\"b}",engine="0"} 2e0 1.5 # {id="x"} 1 1\n# EOF\n'
    )
    (scrape,) = read_scrapes(text, "x")
    assert scrape.time_s == 1.5
    assert scrape.gauge("vllm:num_requests_running") == 2


WRONG = {
    "no sample": (
        page() + "nonsense here is\n",
        r"0\.txt line 18 holds no number: 'nonsense here is'",
    ),
    "no line of the format": (page() + "{} 1\n", r"0\.txt line 18 is no sample"),
    "a word": (page().replace("} 3.0", "} three"), r"line 3 holds no number"),
    "negative": (page().replace("} 3.0", "} -3.0"), r"line 3: .*\(=-3\.0\) must be >= 0"),
    "two models": (page() + page(labels='model_name="b"'), r"several models \(b, meta-llama"),
    "none of ours": ("# vllm: soon\nup 1\n", r"holds no metric of vLLM"),
    "with and without times": (page() + series_text(), r"samples with and without times"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_metrics_are_one_sentence(read: Callable[..., Measured], wrong: str) -> None:
    text, sentence = WRONG[wrong]
    with pytest.raises(ValueError, match=sentence):
        read(text)


def test_pages_that_make_no_run_are_one_sentence(read: Callable[..., Measured]) -> None:
    with pytest.raises(ValueError, match=r"\{1\.0\} fell: the server was started again"):
        read(page(tokens=10), page((1, 6, 2), tokens=20))
    with pytest.raises(ValueError, match="between which no token was generated"):
        read(page(), page())
    with pytest.raises(ValueError, match="give one before and one after, or a series"):
        read(page(tokens=1), page(tokens=2), page(tokens=3))
