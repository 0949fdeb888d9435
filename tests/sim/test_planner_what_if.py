"""What if: words to changes, what a change is worth, the cheapest that lifts what binds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from kvsim.sim.planner.changes import Change, change_of, changes_of
from kvsim.sim.planner.interval import Interval
from kvsim.sim.planner.lift import advice, suggested
from kvsim.sim.planner.nearby import Held
from kvsim.sim.planner.option import Option
from kvsim.sim.planner.spec import ServerSpec
from kvsim.sim.planner.what_if import WhatIf, what_if
from kvsim.sim.slo import SLO
from support.steady import alike
from support.sure import LOOSE, WHAT_IFS, at_backlog, delta, drawn, option_of

EVEN = alike(200, prompt=32, output=10, every_s=1.0)

# words


def test_words_become_changes() -> None:
    settings = {
        "kv_cache_dtype=fp8": {"kv_cache_dtype": "fp8"},
        "block_size=64": {"block_size": 64},
        "host_tier=256GiB": {"kv_offloading_size": 256.0},
        "host_tier=2TiB": {"kv_offloading_size": 2048.0},
        "kv_offloading_size=100": {"kv_offloading_size": 100.0},
        "gpu=h200, tensor_parallel_size=2": {"gpu": "h200", "tensor_parallel_size": 2},
        "gpu_memory_utilization=0.95": {"gpu_memory_utilization": 0.95},
        "enable_prefix_caching=off": {"enable_prefix_caching": False},
        "max_num_seqs=512": {"max_num_seqs": 512},
        "quantization=fp8": {"quantization": "fp8"},
        "non_kv_memory=4GiB": {"non_kv_memory_bytes": 4 << 30},
    }
    for text, expected in settings.items():
        assert dict(change_of(text).settings) == expected
    assert change_of("memory+20%").memory == pytest.approx(1.2)
    assert change_of("memory-12.5%").memory == pytest.approx(0.875)
    assert change_of("step_times+10%").step_times == pytest.approx(1.1)
    assert change_of("outputs+20%").traffic.outputs == pytest.approx(1.2)
    assert change_of("prompts-20%,outputs+20%").traffic.prompts == pytest.approx(0.8)
    assert change_of("rate+50%").rate == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("blok_size=32", "what_if(='blok_size') is unknown; near: block_size."),
        ("memry+20%", "what_if(='memry') is unknown; near: memory, host_memory, "),
        ("trace=x.csv", "what_if(='trace') is unknown; "),
        ("max_num_seqs", "what_if(='max_num_seqs') must be NAME=VALUE such as max_num_seqs=512, "),
        ("", "what_if(='') must be NAME=VALUE such as max_num_seqs=512, or a share such as "),
        ("memory=96GiB", "memory(='96GiB') must be a share of what it is, such as memory+20%."),
        ("block_size+100%", "block_size(=+100%) must be a value, such as block_size=...: "),
        ("memory-100%", "memory(=-100%) must leave more than nothing."),
        ("max_num_seqs=many", "max_num_seqs(='many') must be a whole number."),
        ("max_num_seqs=0", "max_num_seqs(=0) must be > 0."),
        ("tensor_parallel_size=0", "tensor_parallel_size(=0) must be > 0."),
        ("block_size=16.5", "block_size(='16.5') must be a whole number."),
        ("gpu_memory_utilization=1.5", "gpu_memory_utilization(=1.5) must be in (0, 1]."),
        ("gpu_memory_utilization=1GiB", "gpu_memory_utilization(='1GiB') must be a number."),
        ("host_tier=lots", "host_tier(='lots') must be a number."),
        ("enable_prefix_caching=maybe", "enable_prefix_caching(='maybe') must be on or off."),
        ("gpu=h20x", "gpu(='h20x') is unknown; near: "),
        ("gpu=a100,gpu=h200", "gpu(='h200') must be given once in a change."),
    ],
)
def test_wrong_words_are_said_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        change_of(text)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_a_change_is_asked_for_once() -> None:
    assert [one.text for one in changes_of(["memory+20%", "block_size=8"])] == [
        "memory+20%",
        "block_size=8",
    ]
    with pytest.raises(ValueError, match=r"what_if\(='memory\+20%'\) must be given once\."):
        changes_of(["memory+20%", "block_size=8", "memory+20%"])


SPEC = ServerSpec(hardware={"gpu": "a100", "model": "llama-3.1-8b", "price": 1.0}, flags={})


def test_another_card_has_another_price() -> None:
    server = change_of("gpu=h200").server(SPEC, EVEN)
    assert (server.gpu.name, server.gpu.price_source == "given by the user") == ("h200", False)
    assert change_of("gpu=h200,price=9").server(SPEC, EVEN).gpu.price_usd_per_hour == 9
    assert change_of("block_size=32").server(SPEC, EVEN).gpu.price_usd_per_hour == 1.0


def test_more_memory_is_more_pool_at_the_same_price() -> None:
    base, more = (
        change.server(SPEC, EVEN) for change in (Change(text=""), change_of("memory+20%"))
    )
    extra = 0.2 * base.gpu.total_memory_bytes * base.deployment.gpu_memory_utilization
    assert more.budget.kv_cache_bytes - base.budget.kv_cache_bytes == pytest.approx(extra, rel=0.01)
    assert more.gpu.price_usd_per_hour == 1.0
    given = ServerSpec(hardware=SPEC.hardware, flags={"num_gpu_blocks_override": 500})
    with pytest.raises(
        ValueError, match=r"memory\(=\+20%\) has no effect beside num_gpu_blocks_override\."
    ):
        change_of("memory+20%").server(given, EVEN)


# what they are worth


def tried(option: Option, *texts: str, trace: object = EVEN, **more: object) -> list[WhatIf]:
    given = {"runs": 0, "jobs": 1, "slo": LOOSE, **more}
    slo = given.pop("slo")
    return list(what_if(option, changes_of(texts), trace, slo, **given))  # type: ignore[arg-type]


def test_what_changes_nothing_is_worth_exactly_nothing() -> None:
    """Whatever other traffic does to the rate itself."""
    trace = drawn(120)
    option = option_of(trace, banded=False)
    (found,) = tried(option, "block_size=16", trace=trace, runs=3, target_rate_per_s=40.0)
    nothing = Interval(low=0, value=0, high=0)
    for name in ("rate_per_s", "mean_running", "num_replicas", "usd_per_hour"):
        assert getattr(found, name).delta == nothing, name
    assert found.usd_per_million_output_tokens is not None
    assert found.usd_per_million_output_tokens.delta == nothing
    assert not found.lifts


def test_steps_half_as_long_and_twice_the_seats_hold_twice_as_much() -> None:
    option = option_of(EVEN, banded=False, price=2.0)
    held = option.search.rate_per_s
    found = tried(
        option, "step_times-50%", "max_num_seqs=32", "rate+100%", target_rate_per_s=1.9 * held
    )
    faster, seats, more = found
    for one, rel in ((faster, 1e-6), (seats, 0.05)):
        assert one.rate_per_s is not None
        assert one.rate_per_s.value == pytest.approx(2 * held, rel=rel)
        assert one.rate_per_s.delta.value == pytest.approx(held, rel=2 * rel)
        assert one.lifts
        assert one.num_replicas is not None
        assert one.num_replicas.value == 1
        assert one.num_replicas.delta.value == -1
        assert one.usd_per_hour is not None
        assert one.usd_per_hour.delta.value == -2.0
    assert seats.mean_running is not None
    assert seats.mean_running.value == pytest.approx(32, rel=0.15)
    assert more.rate_per_s is not None
    assert more.rate_per_s.delta.value == 0
    assert more.num_replicas is not None
    assert more.num_replicas.delta == Interval(low=2, value=2, high=2)


def test_more_blocks_hold_more_of_what_waits_for_memory() -> None:
    trace = alike(300, prompt=32, output=1, every_s=1.0)
    option = option_of(trace, blocks=21, banded=False, max_num_seqs=100)
    (found,) = tried(option, "num_gpu_blocks_override=41", trace=trace)
    assert found.rate_per_s is not None
    assert found.rate_per_s.value == pytest.approx(2 * option.search.rate_per_s, rel=0.03)


def test_pairs_are_known_better_than_their_parts() -> None:
    """The interval of a difference, against the sum of the widths of both rates."""
    trace = drawn(200, spread=0.8)
    option = option_of(trace, banded=False)
    (found,) = tried(option, "step_times-10%", trace=trace, runs=5)
    assert found.rate_per_s is not None
    assert found.rate_per_s.delta.width < 0.02 * found.rate_per_s.value
    assert found.rate_per_s.delta.value == pytest.approx(option.search.rate_per_s / 9, rel=0.08)


def test_other_gpus_have_errors_of_their_own() -> None:
    """On the same card the band falls out of the ratio, on another one it does not."""
    trace = drawn(60)
    spec = ServerSpec(
        hardware={"gpu": "a100", "model": "llama-3.1-8b", "price": None},
        flags={"max_num_seqs": 8, "kv_cache_memory_bytes": 4 << 30},
    )
    option = at_backlog(spec, spec.server(trace), trace, title="a100")
    same, other = tried(option, "max_num_seqs=16", "gpu=h100-sxm", trace=trace)
    for one in (same, other):
        assert one.rate_per_s is not None
    assert same.rate_per_s is not None
    assert other.rate_per_s is not None
    assert same.rate_per_s.delta.width < 0.03 * same.rate_per_s.value
    assert other.rate_per_s.delta.width > 0.3 * other.rate_per_s.value


def test_what_cannot_be_says_why() -> None:
    option = option_of(EVEN)
    found = tried(option, "tensor_parallel_size=3", "step_times-50%", "kv_cache_dtype=fp9")
    assert found[0].refused == "tensor_parallel_size(=3) must divide the 32 attention heads of " + (
        "llama-3.1-8b."
    )
    assert found[0].rate_per_s is None
    assert found[1].refused == ""
    assert found[2].refused == "kv_cache_dtype(='fp9') is unknown; near: fp8."
    json.dumps([one.to_json() for one in found], allow_nan=False)
    none = replace(option, search=replace(option.search, best=None))
    with pytest.raises(ValueError, match=r"chosen\(='it'\) must hold the objective at some rate\."):
        tried(none, "block_size=8")


def test_a_change_that_holds_nothing_takes_endless_replicas() -> None:
    """Steps ten times as long miss the objective alone."""
    option = option_of(EVEN, banded=False, slo=SLO(tpot_s=0.05))
    (found,) = tried(option, "step_times+900%", slo=SLO(tpot_s=0.05), target_rate_per_s=5.0)
    assert found.rate_per_s is not None
    assert found.rate_per_s.value == 0
    assert found.num_replicas is not None
    assert found.num_replicas.value == inf
    assert found.to_json()["num_replicas"] == {
        "value": None,
        "delta": {"low": None, "value": None, "high": None},
    }
    assert Held().rate_per_s == 0


def test_defaults_are_tried_where_nothing_asked_for_lifts() -> None:
    option = option_of(EVEN, banded=False)
    more = [change_of("max_num_seqs=32")]
    found = tried(option, "block_size=16", suggested=more)
    assert [(one.title, one.asked, one.lifts) for one in found] == [
        ("block_size=16", True, False),
        ("max_num_seqs=32", False, True),
    ]
    assert len(tried(option, "step_times-50%", suggested=more)) == 1


def bound(kind: str, **flags: object) -> list[str]:
    spec = ServerSpec(hardware={**SPEC.hardware, "price": None}, flags=flags)
    option = option_of(EVEN)
    server = spec.server(EVEN)
    search = replace(option.search, bound_by=kind)
    option = replace(option, spec=spec, server=server, search=search)
    return [one.text for one in suggested(option)]


def test_suggestions_follow_what_binds() -> None:
    assert bound("max_num_seqs")[0] == "max_num_seqs=512"
    assert bound("max_num_batched_tokens")[0] == "max_num_batched_tokens=4096"
    assert bound("token budget")[0] == "max_num_batched_tokens=4096"
    assert bound("KV memory")[:2] == ["kv_cache_dtype=fp8", "gpu_memory_utilization=0.95"]
    assert "kv_cache_dtype=fp8" not in bound("KV memory", kv_cache_dtype="fp8")
    assert bound("compute")[0] == "quantization=fp8"
    assert "tensor_parallel_size=2" in bound("bandwidth")
    assert all(change_of(text) for text in bound(""))
    card = next(text for text in bound("bandwidth") if text.startswith("gpu="))
    server = change_of(card).server(SPEC, EVEN)
    assert server.gpu.memory_bandwidth_bytes_per_s > 2.0e12
    assert server.gpu.price_usd_per_hour is not None


def test_the_cheapest_lift_is_named() -> None:
    option = option_of(EVEN)
    option = replace(option, search=replace(option.search, bound_by="KV memory"))
    fp8, h200, memory, nothing, refused = WHAT_IFS
    assert advice(option, WHAT_IFS) == (
        "The cheapest change that lifts KV memory is kv_cache_dtype=fp8: +20 % (+15 to +26 %) "
        "requests a second, at no cost; the answers change with it."
    )
    assert advice(option, (h200, memory, nothing)) == (
        "The cheapest change that lifts KV memory is gpu=h200: +150 % (+100 to +200 %) requests a "
        "second, $2.70 an hour more."
    )
    assert advice(option, (memory, nothing)).endswith(
        "memory+20%: +10 % (+4 to +15 %) requests a second, at a price that is not known here."
    )
    assert advice(option, (nothing, refused)) == "No change tried lifts KV memory."
    doubtful = replace(fp8, rate_per_s=delta(12.0, -0.5, 2.0, 2.6))
    assert advice(option, (doubtful,)) == "No change tried lifts KV memory.", "not for sure"
    wish = replace(fp8, change=change_of("outputs-20%"))
    assert advice(option, (wish,)) == "No change tried lifts KV memory.", "not ours to change"
    unpriced = replace(h200, usd_per_hour=None)
    assert "on hardware without a known price" in advice(option, (unpriced,))


def test_other_traffic_is_the_same_for_all_changes() -> None:
    """The same draws, whatever else is asked for."""
    trace = drawn(80)
    option = option_of(trace, banded=False)
    alone = tried(option, "max_num_seqs=24", trace=trace, runs=2)[0].to_json()
    beside = tried(option, "step_times-50%", "max_num_seqs=24", trace=trace, runs=2)[1].to_json()
    assert alone == beside
    assert np.isfinite(option.search.rate_per_s)
