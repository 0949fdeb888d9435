"""Synthetic workloads: determinism, means, arrivals, shared prefixes, sessions."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.traces import (
    PRESETS,
    PROCESSES,
    Arrivals,
    Lengths,
    PrefixGroups,
    Sessions,
    Trace,
    Workload,
    arrival_times,
    empirical,
    fixed,
    fixed_workload,
    synthesize,
    trace_stats,
    workload_preset,
)


def draw(name: str, num_requests: int = 100_000, seed: int = 3) -> Trace:
    return synthesize(workload=PRESETS[name], num_requests=num_requests, seed=seed)


@pytest.mark.parametrize("name", PRESETS)
def test_a_seed_is_a_trace(name: str) -> None:
    assert draw(name, 500).digest == draw(name, 500).digest
    assert draw(name, 500).digest != draw(name, 500, seed=4).digest
    assert PRESETS[name].source


MEANS = {
    "sharegpt": (161.31, 337.99),
    "alpaca": (19.31, 58.45),
    "azure-chat": (1154.7, 211.13),
    "azure-code": (2048.0, 28.0),
}


@pytest.mark.parametrize("name", MEANS)
def test_preset_means_are_the_published_ones(name: str) -> None:
    trace = draw(name, 400_000)
    assert trace.prompt_tokens.mean() == pytest.approx(MEANS[name][0], rel=0.012)
    assert trace.output_tokens.mean() == pytest.approx(MEANS[name][1], rel=0.012)


@pytest.mark.parametrize(
    ("name", "prompt", "output", "std"),
    [
        ("openchat-sharegpt4", (1730, 5696), (415, 834), 2088),
        ("arxiv-summarization", (7059, 12985), (208, 371), 3638),
    ],
)
def test_sarathis_percentiles_are_the_published_ones(
    name: str, prompt: tuple[int, int], output: tuple[int, int], std: float
) -> None:
    trace = draw(name, 400_000)
    for lengths, printed in ((trace.prompt_tokens, prompt), (trace.output_tokens, output)):
        np.testing.assert_allclose(np.quantile(lengths, (0.5, 0.9)), printed, rtol=0.01)
    assert trace.prompt_tokens.std() == pytest.approx(std, rel=0.04), "not fitted"
    assert (trace.prompt_tokens + trace.output_tokens).max() <= PRESETS[name].max_total_tokens


def test_every_preset_is_checked_against_what_was_published() -> None:
    assert {*MEANS, "openchat-sharegpt4", "arxiv-summarization"} == set(PRESETS)


def test_tenants_come_on_top() -> None:
    workload = replace(PRESETS["alpaca"], tenants=4)
    trace = synthesize(workload=workload, num_requests=4_000, seed=3)
    assert trace.tenant is not None
    assert np.bincount(trace.tenant) == pytest.approx([1000] * 4, rel=0.1)
    alone = draw("alpaca", 4_000)
    assert alone.tenant is None
    np.testing.assert_array_equal(trace.prompt_tokens, alone.prompt_tokens)
    assert replace(trace, tenant=None).digest == alone.digest
    with pytest.raises(ValueError, match=r"tenants\(=0\) must be > 0"):
        replace(workload, tenants=0)


def test_a_session_is_one_tenants() -> None:
    workload = replace(
        PRESETS["alpaca"], tenants=5, sessions=Sessions(turns=fixed(3)), max_total_tokens=400
    )
    trace = synthesize(workload=workload, num_requests=900, seed=3)
    assert trace.tenant is not None
    assert trace.parent is not None
    later = trace.parent >= 0
    assert later.sum() > 100
    np.testing.assert_array_equal(trace.tenant[later], trace.tenant[trace.parent[later]])


@pytest.mark.parametrize(("name", "cv"), [("sharegpt", 0.87), ("alpaca", 1.0)])
def test_preset_output_cv(name: str, cv: float) -> None:
    output = draw(name).output_tokens
    assert output.std() / output.mean() == pytest.approx(cv, rel=0.01)


def test_sharegpt_keeps_to_the_papers_limit() -> None:
    trace = draw("sharegpt")
    assert (trace.prompt_tokens + trace.output_tokens).max() <= 2048
    # mean tokens still to come of a running request, seen at a random time
    output = trace.output_tokens.astype(float)
    assert (output**2).mean() / (2 * output.mean()) == pytest.approx(299, rel=0.02)


def test_azure_chat_has_the_published_percentiles() -> None:
    stats = trace_stats(draw("azure-chat"))
    for column, expected in (("input", (1020, 2735, 4142)), ("output", (129, 424, 601))):
        found = [stats[column][key] for key in ("p50", "p90", "p99")]
        np.testing.assert_allclose(found, expected, rtol=0.03)
    assert stats["arrivals"]["rate_mean"] == pytest.approx(5.53, rel=0.02)


def test_azure_code_has_the_published_percentiles() -> None:
    stats = trace_stats(draw("azure-code"))
    assert stats["input"]["p50"] == pytest.approx(1469, rel=0.02)
    assert stats["input"]["p99"] == 7436
    assert stats["output"]["p50"] == pytest.approx(13, abs=0.5)


def test_presets_by_name() -> None:
    arrivals = Arrivals(process="constant", rate_per_s=2.0)
    workload = workload_preset("ShareGPT", arrivals=arrivals)
    assert workload == replace(PRESETS["sharegpt"], arrivals=arrivals)
    assert workload_preset("azure_code") is PRESETS["azure-code"]
    with pytest.raises(ValueError, match=r"must be one of sharegpt.*did you mean sharegpt\?"):
        workload_preset("shargpt")


def test_lengths_do_not_depend_on_arrivals() -> None:
    still = synthesize(workload=PRESETS["sharegpt"], num_requests=100, seed=1)
    timed = workload_preset("sharegpt", arrivals=Arrivals(rate_per_s=3.0))
    moving = synthesize(workload=timed, num_requests=100, seed=1)
    np.testing.assert_array_equal(still.prompt_tokens, moving.prompt_tokens)
    np.testing.assert_array_equal(still.output_tokens, moving.output_tokens)
    assert still.arrival_s is None
    assert moving.arrival_s is not None


@pytest.mark.parametrize(
    ("lengths", "mean", "cv"),
    [
        (Lengths(kind="lognormal", mean_tokens=500, cv=0.7), 500, 0.7),
        (Lengths(kind="gamma", mean_tokens=500, cv=1.3), 500, 1.3),
        (Lengths(kind="uniform", low_tokens=10, high_tokens=30), 20, 6.055 / 20),
        (fixed(77), 77, 0.0),
        (Lengths(kind="quantile", points=((0, 100), (0.5, 200), (1, 600))), 275, 0.548),
    ],
    ids=lambda value: value.kind if isinstance(value, Lengths) else None,
)
def test_length_distributions(lengths: Lengths, mean: float, cv: float) -> None:
    drawn = lengths.sample(200_000, np.random.default_rng(0))
    assert drawn.dtype == np.int64
    assert drawn.mean() == pytest.approx(mean, rel=0.01)
    assert drawn.std() / drawn.mean() == pytest.approx(cv, rel=0.02)
    assert drawn.min() >= 1


def test_uniform_reaches_both_ends() -> None:
    drawn = Lengths(kind="uniform", low_tokens=3, high_tokens=5).sample(
        1000, np.random.default_rng(0)
    )
    assert set(drawn.tolist()) == {3, 4, 5}


def test_empirical_lengths_are_observed_ones() -> None:
    source = draw("alpaca", 50)
    lengths = empirical(source, "output_tokens")
    drawn = lengths.sample(2000, np.random.default_rng(0))
    assert set(drawn.tolist()) == set(source.output_tokens.tolist())
    with pytest.raises(ValueError, match=r"column\(=x\)"):
        empirical(source, "x")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "normal"}, r"length distribution\(=normal\) must be one of lognormal"),
        ({"kind": "gamma"}, r"mean_tokens\(=None\) must be >= 1"),
        ({"kind": "gamma", "mean_tokens": 5, "cv": 0}, r"cv\(=0\) must be > 0"),
        ({"kind": "uniform", "low_tokens": 0}, r"low_tokens\(=0\) must be >= 1"),
        (
            {"kind": "uniform", "low_tokens": 4, "high_tokens": 3},
            r"high_tokens\(=3\) must be >= low_tokens",
        ),
        ({"kind": "quantile", "points": ((0, 1), (0.5, 2))}, r"points"),
        ({"kind": "empirical"}, r"observed must hold lengths >= 1"),
        ({"kind": "fixed", "mean_tokens": 5, "max_tokens": 0}, r"max_tokens\(=0\) must be > 0"),
    ],
)
def test_impossible_lengths(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lengths(**fields)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("process", "burstiness", "cv"),
    [("poisson", 1.0, 1.0), ("gamma", 0.25, 2.0), ("gamma", 4.0, 0.5), ("constant", 1.0, 0.0)],
)
def test_arrival_processes(process: str, burstiness: float, cv: float) -> None:
    rng = np.random.default_rng(0)
    times = arrival_times(100_000, process=process, rate_per_s=8.0, burstiness=burstiness, rng=rng)
    gaps = np.diff(times)
    assert times[0] == 0.0
    assert gaps.mean() == pytest.approx(1 / 8, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.02, abs=1e-6)
    np.testing.assert_array_equal(times, np.rint(times * 1e9) / 1e9)


def test_backlog_needs_no_rate() -> None:
    rng = np.random.default_rng(0)
    assert arrival_times(3, process="backlog", rate_per_s=None, rng=rng).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"process": "weibull", "rate_per_s": 1}, "must be one of " + ", ".join(PROCESSES)),
        ({"rate_per_s": 0}, r"rate\(=0\) must be > 0"),
        ({"rate_per_s": None}, r"rate must be given for arrival process poisson"),
        ({"rate_per_s": 1, "burstiness": -1}, r"burstiness\(=-1\) must be > 0"),
    ],
)
def test_impossible_arrivals(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Arrivals(**fields)  # type: ignore[arg-type]  # wrong on purpose


def test_fixed_workload() -> None:
    workload = fixed_workload(prompt_tokens=1000, output_tokens=200)
    trace = synthesize(workload=workload, num_requests=3, seed=0)
    assert trace.prompt_tokens.tolist() == [1000] * 3
    assert trace.output_tokens.tolist() == [200] * 3
    with pytest.raises(ValueError, match=r"output_tokens\(=0\) must be > 0"):
        fixed_workload(prompt_tokens=1, output_tokens=0)


def test_impossible_workloads() -> None:
    workload = fixed_workload(prompt_tokens=10, output_tokens=10)
    with pytest.raises(ValueError, match=r"num_requests\(=0\) must be > 0"):
        synthesize(workload=workload, num_requests=0, seed=0)
    with pytest.raises(ValueError, match=r"seed\(=-1\) must be >= 0"):
        synthesize(workload=workload, num_requests=1, seed=-1)
    with pytest.raises(ValueError, match=r"max_total_tokens\(=19\) is too small"):
        synthesize(workload=replace(workload, max_total_tokens=19), num_requests=1, seed=0)
    with pytest.raises(ValueError, match=r"hash_block_size\(=0\)"):
        replace(workload, hash_block_size=0)


def test_groups_share_their_prefix_and_nothing_else() -> None:
    groups = PrefixGroups(num_groups=3, prefix_tokens=40, zipf_exponent=1.0)
    workload = Workload(
        name="w", prompt=fixed(30), output=fixed(5), prefix_groups=groups, hash_block_size=16
    )
    trace = synthesize(workload=workload, num_requests=300, seed=0)
    assert trace.prompt_tokens.tolist() == [70] * 300
    chains = [tuple(trace.hash_chain(row).tolist()) for row in range(300)]
    assert {len(chain) for chain in chains} == {5}  # ceil(70 / 16)
    prefixes = {chain[:2] for chain in chains}  # 40 tokens hold two full blocks
    assert len(prefixes) == 3
    rest = [block for chain in chains for block in chain[2:]]
    assert len(set(rest)) == len(rest)
    sizes = sorted(sum(chain[:2] == prefix for chain in chains) for prefix in prefixes)
    np.testing.assert_allclose(sizes, 300 / (11 / 6) * np.array([1 / 3, 1 / 2, 1]), rtol=0.25)


SESSIONS = Workload(
    name="s",
    prompt=Lengths(kind="gamma", mean_tokens=60, cv=1.0),
    output=Lengths(kind="gamma", mean_tokens=40, cv=1.0),
    arrivals=Arrivals(rate_per_s=2.0),
    prefix_groups=PrefixGroups(num_groups=2, prefix_tokens=50),
    sessions=Sessions(turns=Lengths(kind="uniform", low_tokens=1, high_tokens=5), think_mean_s=3),
    hash_block_size=16,
)


def test_later_turns_hold_the_earlier_ones() -> None:
    trace = synthesize(workload=SESSIONS, num_requests=400, seed=5)
    assert trace.parent is not None
    assert trace.delay_s is not None
    assert trace.arrival_s is not None
    later = np.flatnonzero(trace.parent >= 0)
    assert 200 < len(later) < 320
    assert np.isnan(trace.arrival_s[later]).all()
    assert trace.delay_s[later].mean() == pytest.approx(3.0, rel=0.2)
    for row in later.tolist():
        before = int(trace.parent[row])
        said = trace.prompt_tokens[before] + trace.output_tokens[before]
        assert trace.prompt_tokens[row] > said
        full = int(trace.prompt_tokens[before]) // 16
        ours, theirs = trace.hash_chain(row).tolist(), trace.hash_chain(before).tolist()
        assert ours[:full] == theirs[:full]
        assert set(ours[full:]).isdisjoint(theirs)


def test_one_chain_per_id() -> None:
    trace = synthesize(workload=SESSIONS, num_requests=400, seed=5)
    parents: dict[int, int] = {}
    for row in range(len(trace)):
        chain = [-1, *trace.hash_chain(row).tolist()]
        for parent, child in pairwise(chain):
            assert parents.setdefault(child, parent) == parent


@given(st.integers(1, 60), st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 70))
def test_chains_cover_their_prompts(n: int, seed: int, block_size: int, prefix: int) -> None:
    groups = PrefixGroups(num_groups=2, prefix_tokens=prefix)
    workload = replace(SESSIONS, prefix_groups=groups, hash_block_size=block_size)
    trace = synthesize(workload=workload, num_requests=n, seed=seed)
    assert len(trace) == n
    assert trace.hash_offsets is not None
    blocks = -(-trace.prompt_tokens // block_size)
    np.testing.assert_array_equal(np.diff(trace.hash_offsets), blocks)


def test_sessions_keep_to_the_limit() -> None:
    workload = replace(SESSIONS, max_total_tokens=300)
    trace = synthesize(workload=workload, num_requests=500, seed=1)
    free = synthesize(workload=SESSIONS, num_requests=500, seed=1)
    assert (free.prompt_tokens + free.output_tokens).max() > 300
    assert (trace.prompt_tokens + trace.output_tokens).max() <= 300
    assert 400 > trace.num_roots > free.num_roots


def test_a_preset_in_long_sessions() -> None:
    sessions = Sessions(turns=fixed(8), think_mean_s=1.0)
    workload = replace(PRESETS["sharegpt"], sessions=sessions)
    trace = synthesize(workload=workload, num_requests=2000, seed=0)
    assert (trace.prompt_tokens + trace.output_tokens).max() <= 2048
    assert 250 < trace.num_roots < 1000
