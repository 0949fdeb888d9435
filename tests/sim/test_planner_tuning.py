"""Flags: which value is kept, and whether the engine's own were right already."""

from __future__ import annotations

from typing import Any

import pytest

from kvsim.reports.decision_sheets import rates_by_block_size, tuning_sheet
from kvsim.reports.decision_words import defaults_line
from kvsim.sim.planner.decision import Decision
from kvsim.sim.planner.tuning import VALUES
from kvsim.sim.server import Server
from support.planned import a_trace, decided, fake_searches, reason


def separable(server: Server) -> float:
    """10/s, times what each flag is worth: a coordinate search finds the best of a product."""
    flags = server.deployment
    worth = {
        "max_num_seqs": {512: 1.2, 1024: 1.21},
        "max_num_batched_tokens": {4096: 1.01},
        "kv_cache_dtype": {"fp8": 1.5},
        "block_size": {8: 0.9, 32: 1.1, 64: 1.3, 128: 1.0},
    }
    rate = 10.0
    for name, by_value in worth.items():
        rate *= by_value.get(getattr(flags, name), 1.0)  # type: ignore[attr-defined]
    return rate


def test_each_flag_keeps_its_best_value(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = fake_searches(monkeypatch, separable)
    decision = decided(tune=True)
    assert decision.tuning is not None
    assert decision.chosen is decision.tuning.option
    flags = decision.chosen.server.deployment
    assert (flags.max_num_seqs, flags.block_size, flags.kv_cache_dtype) == (1024, 64, "fp8")
    assert flags.max_num_batched_tokens == 2048  # 4096 gains 1 %, less than the search can tell
    assert decision.chosen.search.rate_per_s == pytest.approx(10 * 1.21 * 1.5 * 1.3)
    gains = {step.flag: step.gain for step in decision.tuning.steps}
    assert gains == {
        "max_num_seqs": pytest.approx(0.21),
        "max_num_batched_tokens": pytest.approx(0.01),
        "kv_cache_dtype": pytest.approx(0.5),
        "block_size": pytest.approx(0.3),
    }
    assert len(searched) == 1 + 3 + 3 + 1 + 4  # no prompts begin alike: the cache is not tried
    assert decision.default_gain == pytest.approx(1.21 * 1.5 * 1.3 - 1)
    assert "gains 135.9 %: 10.0 to 23.6 requests/s a replica" in defaults_line(decision)
    sheet = tuning_sheet(decision)
    assert sheet is not None
    assert ("max_num_batched_tokens", "2048 (as it was)", "+1.0%") in [
        (row[0], row[2], row[3]) for row in sheet.rows
    ]
    rates = rates_by_block_size(decision)
    assert {size: rate / rates[16] for size, rate in rates.items()} == {
        8: pytest.approx(0.9),
        16: 1.0,
        32: pytest.approx(1.1),
        64: pytest.approx(1.3),
        128: 1.0,
    }


def test_nothing_to_gain_means_the_defaults_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, lambda server: 10.0 + 0.15 * (server.deployment.block_size == 64))
    decision = decided(tune=True)
    assert decision.chosen is not None
    assert decision.chosen.title == "a100"
    assert decision.defaults_are_right
    assert defaults_line(decision).startswith("vLLM's defaults are already right for")
    assert not any(step.changed for step in decision.tuning.steps)  # type: ignore[union-attr]


def test_a_flag_that_was_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, separable)
    decision = decided(flags={"max_num_seqs": 128, "block_size": (16, 32)}, tune=True)
    assert decision.tuning is not None
    assert [step.flag for step in decision.tuning.steps] == [
        "max_num_batched_tokens",
        "kv_cache_dtype",
    ]
    assert decision.chosen is not None
    assert decision.chosen.server.deployment.max_num_seqs == 128
    assert decision.chosen.server.deployment.block_size == 32


def test_the_prefix_cache_is_tried_where_prompts_begin_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_searches(monkeypatch, lambda server: 10.0)
    trace = a_trace(prefix_groups=2, prefix_tokens=256)
    decision = decided(trace=trace, tune=True)
    assert decision.tuning is not None
    assert [step.flag for step in decision.tuning.steps] == list(VALUES)


def choose(monkeypatch: pytest.MonkeyPatch, rates: dict[Any, float], **flags: Any) -> Decision:
    """One flag with several values, each with its rate."""
    name = next(name for name, value in flags.items() if isinstance(value, tuple))
    fake_searches(monkeypatch, lambda server: rates[getattr(server.deployment, name)])
    return decided(flags=flags)


def test_rates_that_cannot_be_told_apart_keep_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {8: 10.1, 16: 10.0, 32: 10.15}
    decision = choose(monkeypatch, rates, block_size=(8, 16, 32))
    assert decision.chosen is not None
    assert decision.chosen.title == "a100, block_size 16"
    assert decision.defaults_are_right
    assert reason(decision, "a100, block_size 32") == "no better than with fewer flags changed"


def test_a_better_block_size_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {8: 8.0, 16: 10.0, 32: 11.0}
    decision = choose(monkeypatch, rates, block_size=(8, 16, 32))
    assert decision.chosen is not None
    assert decision.chosen.title == "a100, block_size 32"
    assert reason(decision, "a100, block_size 16") == "1.10x the price per output token"
    assert defaults_line(decision) == (
        "Over vLLM's defaults for block_size this gains 10.0 %: 10.0 to 11.0 requests/s a replica."
    )


def test_the_defaults_are_tried_where_the_list_has_them_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = {8: 8.0, 16: 10.0, 32: 9.0}
    decision = choose(monkeypatch, rates, block_size=(8, 32))
    assert decision.defaults is not None
    assert decision.defaults.option is not None
    assert decision.defaults.option.search.rate_per_s == 10.0
    assert decision.default_gain == pytest.approx(-0.1)
    assert defaults_line(decision) == (
        "vLLM's defaults for block_size hold 11.1 % more: leave them as they are."
    )


def test_fewer_bits_must_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """At one price the cache keeps its bits; where fp8 saves a GPU it wins, and is remarked on."""
    rates = {"auto": 10.0, "fp8": 15.0}
    fake_searches(monkeypatch, lambda server: rates[server.deployment.kv_cache_dtype])
    both = {"kv_cache_dtype": ("auto", "fp8")}
    same = decided(flags=both, target_rate_per_s=8.0)
    assert same.chosen is not None
    assert same.chosen.title == "a100, kv_cache_dtype auto"
    fewer = decided(flags=both, target_rate_per_s=12.0)
    assert fewer.chosen is not None
    assert fewer.chosen.title == "a100, kv_cache_dtype fp8"
    assert reason(same, "a100, kv_cache_dtype fp8") == (
        "the same price, and its KV cache keeps fewer bits"
    )


def test_both_ways_of_the_prefix_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {True: 10.0, False: 12.0}
    decision = choose(monkeypatch, rates, enable_prefix_caching=(True, False))
    assert decision.chosen is not None
    assert decision.chosen.title == "a100, no enable_prefix_caching"
    assert "--no-enable-prefix-caching" in str(decision.to_json()["serve_command"])
