"""Metrics as a scraper would have read them: by hand, by law, by Prometheus's own parser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from kvsim.calibration.affine import AffineCost
from kvsim.reports import scrapes
from kvsim.reports.openmetrics import Scraping, metrics_text
from kvsim.reports.scrapes import scrape_times_ms, token_times, whole_span_s
from kvsim.sim.deployment import Deployment
from kvsim.sim.result import CATEGORIES, Result
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import Summary, summarise
from kvsim.sim.vllm_metrics import SERIES
from support.workloads import ALLOCATORS, COSTS, SCHEDULERS, Columns, deployments, traces

SECOND = AffineCost(base_s=1.0, per_scheduled_token_s=0.0, per_context_token_s=0.0)
ONE_SEAT = Deployment(
    max_model_len=10,
    max_num_seqs=1,
    max_num_batched_tokens=64,
    block_size=1,
    enable_prefix_caching=False,
    async_scheduling=False,
)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

Scrape = Mapping[str, float]


def summary_of(result: Result, deployment: Deployment, model: str = "m") -> Summary:
    """With the settings that a simulated server has."""
    return summarise(
        result,
        settings={"deployment": deployment.to_json()},
        sources={"model": {"name": model, "source": "a test"}},
    )


def read(text: str) -> dict[float, Scrape]:
    """Samples by time and name; labels but engine and model as ``name{label=value}``.

    Each scrape is parsed by itself: the parser takes the second point of a histogram for a
    duplicate of the first.
    """
    assert text.endswith("\n# EOF\n")
    lines = text.splitlines()[:-1]
    heads = [line for line in lines if line.startswith("#")]
    by_stamp: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith("#"):
            by_stamp.setdefault(line.rsplit(" ", 1)[1], []).append(line)
    return {float(stamp): _samples(_grouped(heads, samples)) for stamp, samples in by_stamp.items()}


def _grouped(heads: list[str], samples: list[str]) -> str:
    """One scrape's text, each family's samples behind its head."""
    out = []
    for head in heads:
        out.append(head)
        name = head.split(" ")[2]
        if head.startswith("# TYPE"):
            out += [line for line in samples if _family(line) == name]
    assert sum(not line.startswith("#") for line in out) == len(samples)
    return "\n".join([*out, "# EOF", ""])


def _family(line: str) -> str:
    name = line.split("{")[0]
    for suffix in ("_total", "_bucket", "_sum", "_count"):
        name = name.removesuffix(suffix)
    return name


def _samples(text: str) -> Scrape:
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.name in SERIES or family.name.startswith("kvsim:")
        assert family.name not in SERIES or SERIES[family.name].kind == family.type
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("engine", "model_name")}
            told = ",".join(f"{name}={value}" for name, value in labels.items())
            found[f"{sample.name}{{{told}}}" if told else sample.name] = sample.value
    return found


@pytest.fixture(name="two")
def two_on_one_seat() -> tuple[Result, dict[float, Scrape]]:
    """A (4 + 3 tokens, at 0) and B (6 + 4 tokens, at 0.5 s): steps of a second, one seat.

    A runs from 0 to 3, its tokens arrive at 1, 2 and 3; B runs from 3 to 7. C (5 tokens, at 1 s)
    gives up after two seconds in the queue; D (10 tokens) has no room to answer.
    """
    trace = Columns(
        arrival_s=np.array([0.0, 0.5, 1.0, 2.0]),
        prompt_tokens=np.array([4, 6, 5, 10]),
        output_tokens=np.array([3, 9, 5, 1]),
        cancel_s=np.array([np.nan, np.nan, 2.0, np.nan]),
    )
    result = simulate(trace, deployment=ONE_SEAT, cost=SECOND, num_gpu_blocks=41)
    text = metrics_text(result, summary_of(result, ONE_SEAT), Scraping(interval_s=1.0))
    return result, read(text)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("vllm:num_requests_running", [1, 1, 1, 1, 1, 1, 1, 0]),
        ("vllm:num_requests_waiting", [0, 2, 2, 0, 0, 0, 0, 0]),
        ("vllm:kv_cache_usage_perc", [0.1, 0.125, 0.15, 0.15, 0.175, 0.2, 0.225, 0]),
        ("kvsim:kv_cache_slots{category=token_states}", [4, 5, 6, 6, 7, 8, 9, 0]),
        ("kvsim:kv_cache_slots{category=free}", [36, 35, 34, 34, 33, 32, 31, 40]),
        ("vllm:prompt_tokens_total", [0, 4, 4, 4, 10, 10, 10, 10]),
        ("vllm:generation_tokens_total", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("vllm:num_preemptions_total", [0] * 8),
        ("vllm:prefix_cache_queries_total", [0] * 8),
        ("kvsim:requests_rejected_total", [0, 0, 1, 1, 1, 1, 1, 1]),
        ("vllm:request_success_total{finished_reason=stop}", [0, 0, 0, 1, 1, 1, 1, 1]),
        ("vllm:request_success_total{finished_reason=length}", [0, 0, 0, 0, 0, 0, 0, 1]),
        ("vllm:request_success_total{finished_reason=abort}", [0, 0, 0, 1, 1, 1, 1, 1]),
        ("vllm:time_to_first_token_seconds_bucket{le=1.0}", [0, 1, 1, 1, 1, 1, 1, 1]),
        ("vllm:time_to_first_token_seconds_bucket{le=2.5}", [0, 1, 1, 1, 1, 1, 1, 1]),
        ("vllm:time_to_first_token_seconds_bucket{le=5.0}", [0, 1, 1, 1, 2, 2, 2, 2]),
        ("vllm:time_to_first_token_seconds_sum", [0, 1, 1, 1, 4.5, 4.5, 4.5, 4.5]),
        ("vllm:inter_token_latency_seconds_bucket{le=0.75}", [0] * 8),
        ("vllm:inter_token_latency_seconds_bucket{le=1.0}", [0, 0, 1, 2, 2, 3, 4, 5]),
        ("vllm:inter_token_latency_seconds_sum", [0, 0, 1, 2, 2, 3, 4, 5]),
        ("vllm:request_time_per_output_token_seconds_sum", [0, 0, 0, 1, 1, 1, 1, 2]),
        ("vllm:e2e_request_latency_seconds_sum", [0, 0, 0, 3, 3, 3, 3, 9.5]),
        ("vllm:request_queue_time_seconds_bucket{le=0.3}", [0, 0, 0, 1, 1, 1, 1, 1]),
        ("vllm:request_queue_time_seconds_bucket{le=2.5}", [0, 0, 0, 1, 1, 1, 1, 2]),
        ("vllm:request_prefill_time_seconds_sum", [0, 0, 0, 1, 1, 1, 1, 2]),
        ("vllm:request_decode_time_seconds_sum", [0, 0, 0, 2, 2, 2, 2, 5]),
        ("vllm:request_inference_time_seconds_sum", [0, 0, 0, 3, 3, 3, 3, 7]),
        ("vllm:request_prompt_tokens_bucket{le=5.0}", [0, 0, 0, 1, 1, 1, 1, 1]),
        ("vllm:request_prompt_tokens_bucket{le=10.0}", [0, 0, 0, 1, 1, 1, 1, 2]),
        ("vllm:request_generation_tokens_sum", [0, 0, 0, 3, 3, 3, 3, 7]),
    ],
)
def test_by_hand(two: tuple[Result, dict[float, Scrape]], name: str, values: list[float]) -> None:
    _, scraped = two
    assert list(scraped) == list(range(8))
    assert [scrape[name] for scrape in scraped.values()] == pytest.approx(values)


def test_the_hand_s_clock(two: tuple[Result, dict[float, Scrape]]) -> None:
    """The run is the one that the table above was written for."""
    result, _ = two
    assert result.requests["finish_s"][:3].tolist() == [3, 7, 3]
    assert result.status.tolist() == ["finished", "finished", "cancelled", "rejected"]


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_last_values_are_the_summary_s(data: st.DataObject) -> None:
    trace = data.draw(traces())
    allocator = data.draw(st.sampled_from(ALLOCATORS))
    scheduler = data.draw(st.sampled_from(SCHEDULERS))
    deployment, blocks = data.draw(deployments(allocator=allocator, scheduler=scheduler))
    cost = COSTS[data.draw(st.sampled_from(sorted(COSTS)))]
    result = simulate(trace, deployment=deployment, cost=cost, num_gpu_blocks=blocks)
    summary = summary_of(result, deployment)
    span_s = np.subtract(*whole_span_s(result)[::-1])
    text = metrics_text(result, summary, Scraping(interval_s=max(0.001, float(span_s) / 5)))
    scraped = read(text)
    _assert_ends_as_summarised(list(scraped.values())[-1], result, summary)
    _assert_gauges(scraped, result)
    for before, after in zip(scraped.values(), list(scraped.values())[1:], strict=False):
        for name, value in before.items():
            assert after[name] >= value or SERIES.get(name.split("{")[0]) or "slots" in name


def _assert_ends_as_summarised(last: Scrape, result: Result, summary: Summary) -> None:
    requests = result.requests
    got_one = ~np.isnan(requests["first_token_s"])
    done = result.status == "finished"
    assert last["vllm:prompt_tokens_total"] == requests["prompt_tokens"][got_one].sum()
    assert last["vllm:generation_tokens_total"] == requests["output_tokens"][got_one].sum()
    assert last["vllm:num_preemptions_total"] == summary.num_preemptions
    assert last["vllm:prefix_cache_hits_total"] == summary.prefix_hit_tokens
    assert last["kvsim:requests_rejected_total"] == summary.num_rejected
    ended = {
        reason: last[f"vllm:request_success_total{{finished_reason={reason}}}"]
        for reason in ("stop", "length", "abort")
    }
    assert ended["stop"] + ended["length"] == summary.num_finished
    assert ended["length"] >= summary.num_length_capped
    assert ended["abort"] == summary.num_cancelled
    assert last["vllm:e2e_request_latency_seconds_count"] == summary.num_finished
    assert last["vllm:request_generation_tokens_sum"] == requests["output_tokens"][done].sum()
    assert last["vllm:num_requests_running"] == 0
    if summary.num_finished:
        mean = last["vllm:e2e_request_latency_seconds_sum"] / summary.num_finished
        assert mean == pytest.approx(summary.e2e_s.mean, abs=1e-8)
    later = last["vllm:inter_token_latency_seconds_count"]
    if later:
        mean = last["vllm:inter_token_latency_seconds_sum"] / later
        assert mean == pytest.approx(summary.itl_s.mean, rel=1e-6)


def _assert_gauges(scraped: Mapping[float, Scrape], result: Result) -> None:
    phases = result.phases
    end = np.where(np.isnan(phases["end_s"]), np.inf, phases["end_s"])
    runs = np.isin(phases["phase"], ["prefill", "decode"])
    for time_s, scrape in scraped.items():
        now = (phases["start_s"] <= time_s) & (time_s < end)
        assert scrape["vllm:num_requests_running"] == (now & runs).sum()
        assert scrape["vllm:num_requests_waiting"] == (now & ~runs).sum()
        slots = {name: scrape[f"kvsim:kv_cache_slots{{category={name}}}"] for name in CATEGORIES}
        assert sum(slots.values()) == pytest.approx(result.pool_slots)
        held = slots["token_states"] + slots["reserved"] + slots["internal"]
        assert scrape["vllm:kv_cache_usage_perc"] == pytest.approx(held / result.pool_slots)


def test_a_run_of_steps_gives_the_tokens_of_single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the steps of a run are portioned."""
    trace = Columns(
        arrival_s=np.zeros(3), prompt_tokens=np.array([9] * 3), output_tokens=np.array([90, 40, 7])
    )
    cost = AffineCost(base_s=9e-3, per_scheduled_token_s=2e-4, per_context_token_s=1e-5)
    deployment = replace(ONE_SEAT, max_num_seqs=2, max_model_len=4096)
    texts = []
    for exact, at_once in ((False, 1_000_000), (False, 10), (True, 1)):
        monkeypatch.setattr(scrapes, "_STEPS_AT_ONCE", at_once)
        result = simulate(
            trace, deployment=deployment, cost=cost, num_gpu_blocks=100, exact_steps=exact
        )
        assert (len(list(token_times(result))) > 2) == (at_once < 1000)
        text = metrics_text(result, summary_of(result, deployment), Scraping(interval_s=0.05))
        texts.append([line for line in text.splitlines() if "inter_token" in line])
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0]) > 100


def test_prompts_are_looked_up_where_prefixes_are_cached() -> None:
    cached = replace(ONE_SEAT, enable_prefix_caching=True, max_model_len=64, block_size=4)
    trace = Columns(
        arrival_s=np.array([0.0, 0.0]),
        prompt_tokens=np.array([9, 9]),
        output_tokens=np.array([2, 2]),
        prefix_row=np.array([-1, 0]),
        prefix_tokens=np.array([0, 9]),
    )
    result = simulate(trace, deployment=cached, cost=SECOND, num_gpu_blocks=41)
    scraped = read(metrics_text(result, summary_of(result, cached), Scraping(interval_s=1.0)))
    queries = [scrape["vllm:prefix_cache_queries_total"] for scrape in scraped.values()]
    hits = [scrape["vllm:prefix_cache_hits_total"] for scrape in scraped.values()]
    assert queries == [9, 9, 18, 18, 18]
    assert hits == [0, 0, 8, 8, 8]
    free = [scrape["kvsim:kv_cache_slots{category=cached}"] for scrape in scraped.values()]
    assert max(free) == 0 or scraped[2.0]["vllm:kv_cache_usage_perc"] < 0.5


def test_labels_and_start() -> None:
    result = simulate(
        Columns(
            arrival_s=np.array([1.5]), prompt_tokens=np.array([4]), output_tokens=np.array([2])
        ),
        deployment=ONE_SEAT,
        cost=SECOND,
        num_gpu_blocks=11,
    )
    summary = summary_of(result, ONE_SEAT, model='a"b\\c\nd')
    scraping = Scraping(start_s=1_700_000_000.25, interval_s=0.5, engine="3")
    text = metrics_text(result, summary, scraping)
    assert 'running{engine="3",model_name="a\\"b\\\\c\\nd"} 1 1700000001.750\n' in text
    families = list(text_string_to_metric_families(text.split("# HELP vllm:time_to")[0] + "# EOF"))
    assert families[0].samples[0].labels == {"engine": "3", "model_name": 'a"b\\c\nd'}
    assert len(families[0].samples) == 5
    named = metrics_text(result, summary, replace(scraping, model_name="mine"))
    assert 'model_name="mine"' in named
    assert text == metrics_text(result, summary, scraping)


def test_a_long_run_is_scraped_less_often() -> None:
    def times(end_s: float, interval_s: float | None = None) -> list[int]:
        trace = Columns(
            arrival_s=np.array([0.0, end_s]),
            prompt_tokens=np.array([4, 4]),
            output_tokens=np.array([1, 1]),
        )
        result = simulate(trace, deployment=ONE_SEAT, cost=SECOND, num_gpu_blocks=41)
        return scrape_times_ms(result, interval_s).tolist()

    assert times(9.0) == [1000 * second for second in range(11)]
    assert times(3599.0)[1] == 1000
    assert times(3600.0)[:2] == [0, 2000]
    assert times(3600.0)[-1] == 3602000
    assert times(1.2, 0.7) == [0, 700, 1400, 2100, 2800]
    with pytest.raises(ValueError, match=r"^metrics_interval\(=0\.001\) gives 1,001,001 scrapes"):
        times(1000.0, 0.001)
    for wrong in (0.0, -1.0, 0.0001, float("nan")):
        with pytest.raises(ValueError, match=r"^metrics_interval\(=.*\) must be >= 0\.001 seconds"):
            times(1.0, wrong)
        with pytest.raises(ValueError, match=r"^metrics_interval\(=.*\) must be >= 0\.001 seconds"):
            Scraping(interval_s=wrong)


@pytest.mark.parametrize("start_s", [-1.0, float("nan"), float("inf")])
def test_a_start_that_is_no_time(start_s: float) -> None:
    with pytest.raises(ValueError, match=r"^metrics_start\(=.*\) must be >= 0, in Unix seconds\.$"):
        Scraping(start_s=start_s)


def test_a_summary_without_settings_is_refused(two: tuple[Result, dict[float, Scrape]]) -> None:
    result, _ = two
    with pytest.raises(ValueError, match=r"^settings\(=none\) of the summary must hold"):
        metrics_text(result, summarise(result))
