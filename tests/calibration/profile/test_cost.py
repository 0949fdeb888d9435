"""The measured source: a step added up by hand, what is derived, what a profile cannot tell."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.host import ASSUMED, HostTimes
from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import load_model
from kvsim.calibration.operator_cost import OperatorCost
from kvsim.calibration.pipeline import PipelinedCost, pipelined
from kvsim.calibration.profile import forms
from kvsim.calibration.profile.cost import measured_cost
from kvsim.calibration.profile.uneven import typical_lengths
from kvsim.calibration.profile.unfit import Unfit
from kvsim.calibration.profile.values import AttentionKey, Profile
from kvsim.calibration.step_cost import Batch
from kvsim.calibration.terms import Term
from kvsim.kernels.split import split
from support.profiles import (
    HALF,
    HALF_LINEAR_S,
    HOST_LINES,
    KEY,
    LINEAR_S,
    LINES,
    SPLIT,
    decode_fit,
    line,
    make_profile,
    prefill_fit,
    residual,
    split_profile,
    tables,
)

H200 = load_gpu("h200")
LAYERS = 32
US = 1e3
"""Nanoseconds."""


def cost(
    profile: Profile | None = None, model: str = "llama-3.1-8b", **flags: object
) -> OperatorCost:
    return measured_cost(
        profile or make_profile(),
        model=load_model(model),
        gpu=H200,
        **flags,  # type: ignore[arg-type]  # of measured_cost
    )


def terms(found: OperatorCost, batch: Batch) -> dict[str, Term]:
    return {term.name: term for term in found.terms(batch)}


def ns(found: OperatorCost, batch: Batch) -> dict[str, float]:
    return {name: term.ns for name, term in terms(found, batch).items()}


def test_a_step_of_decodes_by_hand() -> None:
    """64 sequences of 4,096 tokens, 4 KiB each and layer."""
    found = ns(cost(), Batch(64, 64 * 4096))
    assert found["attention"] == pytest.approx(LAYERS * (10 * US + 64 * 4096 * 4096 / 4e12 * 1e9))
    assert found["qkv projection"] == pytest.approx(LAYERS * 100 * US)
    assert found["output projection"] == pytest.approx(LAYERS * 50 * US)
    assert found["gate and up projection"] == pytest.approx(LAYERS * 300 * US)
    assert found["down projection"] == pytest.approx(LAYERS * 200 * US)
    assert found["LM head"] == pytest.approx(400 * US)
    launches = 65 * 2 + 64 * 1 + 32 * (3 + 2) + 2
    moved = 64 * (65 * 16_384 + 64 * 24_576 + 32 * (24_576 + 86_016) + 16_384)
    small = found["norms, rotary, KV write, activation"]
    assert small == pytest.approx(launches * US + moved / 1e12 * 1e9)
    assert found["sampling"] == pytest.approx(30 * US + 64 * 513_024 / 1e12 * 1e9)
    assert found["host, exposed"] == pytest.approx(100 * US)


def test_a_step_that_prefills_by_hand() -> None:
    """512 new tokens after 1,024 beside 64 decodes: a quarter of the shorter launch is hidden."""
    keys = sum(1024 + 64 * math.ceil((i + 1) / 2) for i in range(16))  # tiles of 32 queries
    prefill = 20e-6 + 4 * 32 * 128 * 32 * keys / 4e14
    decode = 10e-6 + 64 * 4096 * 4096 / 4e12
    found = ns(cost(), Batch(64, 64 * 4096, ((512, 1024),)))
    expected = decode + prefill - 0.25 * min(decode, prefill)
    assert found["attention"] == pytest.approx(LAYERS * expected * 1e9)
    alone = ns(cost(), Batch(0, 0, ((512, 1024),)))
    assert alone["attention"] == pytest.approx(LAYERS * prefill * 1e9)


def test_a_shard_has_its_own_kernels() -> None:
    """The same bytes a token on half the KV heads: half the reading."""
    found = ns(cost(tensor_parallel_size=2), Batch(64, 64 * 4096))
    assert found["attention"] == pytest.approx(LAYERS * (10 * US + 64 * 4096 * 2048 / 4e12 * 1e9))
    assert found["qkv projection"] == pytest.approx(LAYERS * HALF_LINEAR_S[3072, 4096] * 1e9)
    assert found["LM head"] == pytest.approx(HALF_LINEAR_S[64_128, 4096] * 1e9)
    launches = 65 * 2 + 64 * 1 + 32 * (3 + 2) + 2
    moved = 64 * (65 * 16_384 + 64 * 24_576 + 32 * (24_576 + 86_016) / 2 + 16_384)
    small = found["norms, rotary, KV write, activation"]
    assert small == pytest.approx(launches * US + moved / 1e12 * 1e9)


def test_exact_kernels_are_not_flagged() -> None:
    found = cost()
    assert found.source == "measured"
    assert found.operators.derived == ()
    assert not any(term.extrapolated for term in found.terms(Batch(64, 64 * 4096)))
    assert (
        found.outside(
            num_seqs=256, num_tokens=8192, context_tokens=256 * 1024, longest_context=32_768
        )
        == ()
    )
    assert found.outside(
        num_seqs=256, num_tokens=8192, context_tokens=256 * 1024, longest_context=131_072
    ) == ("attention",)
    far = terms(found, Batch(1, 4 * 65_536))["attention"]
    assert (far.distance, far.extrapolated) == (2.0, True)
    products = terms(found, Batch(0, 0, ((32, 0),)))
    assert products["qkv projection"].distance == 1.0  # of 16 and 64 rows
    assert not products["qkv projection"].extrapolated


def test_another_head_layout_takes_the_nearest_kernels_rates() -> None:
    """24 query and 8 KV heads were not measured: the decode of 32 and 8 stands for them."""
    found = terms(cost(model="llama-3.2-3b"), Batch(64, 64 * 4096))["attention"]
    assert found.ns == pytest.approx(28 * (10 * US + 64 * 4096 * 4096 / 4e12 * 1e9))
    assert found.extrapolated
    assert found.doubt == pytest.approx(0.10)  # as where heads were left out
    assert "attention" in cost(model="llama-3.2-3b").operators.derived


def test_other_heads_fill_a_tile_with_other_queries() -> None:
    """128 rows of 32 queries by 4 heads are 43 queries by 3; ten tiles of 430 tokens."""
    keys = sum(64 * math.ceil(43 * (i + 1) / 64) for i in range(10))
    expected = 20e-6 + 4 * 24 * 128 * 43 * keys / 4e14
    found = ns(cost(model="llama-3.2-3b"), Batch(0, 0, ((430, 0),)))["attention"]
    assert found == pytest.approx(28 * expected * 1e9)


def test_as_many_query_heads_to_a_kv_head_are_nearer_than_as_many_kv_heads() -> None:
    """For 4 query heads on each of 4: those of 8 by 4 each, not 4 by 2.

    Its 528 programs at once are 264 items of 4 KV heads, the parts of which are written and read.
    """
    other = decode_fit(replace(KEY, heads=8, kv_heads=4), t0_s=1e-3)
    made = make_profile(decode=(other, decode_fit()), prefill=(prefill_fit(HALF),))
    found = terms(cost(made, tensor_parallel_size=2), Batch(64, 64 * 4096))["attention"]
    items = split(typical_lengths(64, 4096), target=264, tile_tokens=64).num_items
    moved = 64 * 4096 * 2048 + items * 16 * 128 * 4 * 2
    assert found.ns == pytest.approx(LAYERS * (10 * US + moved / 4e12 * 1e9))
    assert found.extrapolated


def test_rows_beyond_a_table_are_flagged() -> None:
    inside, beyond = (
        terms(cost(), Batch(0, 0, ((rows, 0),)))["qkv projection"] for rows in (8192, 10_000)
    )
    assert (inside.extrapolated, beyond.extrapolated) == (False, True)
    assert beyond.ns == pytest.approx(inside.ns * 10_112 / 8192)  # whole tiles of 128 rows


def test_another_block_size_is_the_same_kernel() -> None:
    wide = decode_fit(replace(KEY, block_size=64), t0_s=14e-6)
    found = cost(make_profile(decode=(decode_fit(), wide)), block_size=48)
    assert ns(found, Batch(1, 4096))["attention"] == pytest.approx(
        LAYERS * (14 * US + 4096 * 4096 / 4e12 * 1e9)
    )
    assert found.operators.derived == ()


def test_products_of_other_shapes_take_the_roofline() -> None:
    """A vocabulary of 32,000: n k / 4e12 for the weights, 16 padded rows at 600 TFLOP/s."""
    found = terms(cost(model="mistral-7b-v0.1"), Batch(1, 100))
    head = found["LM head"]
    moved, flops = 2 * (4096 + 32_000 * 4096 + 32_000), 2 * 16 * 32_000 * 4096
    assert head.ns == pytest.approx(1e9 * (5e-6 + moved / 4e12 + flops / 6e14))
    assert head.extrapolated
    assert not found["qkv projection"].extrapolated


def test_windows_bound_what_is_read() -> None:
    """Mistral sees 4,096 tokens: what lies behind them, but for part of a tile, is not read."""
    found = cost(model="mistral-7b-v0.1")
    name, read_ns = "attention, window 4096", LAYERS * 8 * 4096 / 4e12 * 1e9
    floor = LAYERS * 10 * US
    assert ns(found, Batch(8, 8 * 1024))[name] == pytest.approx(floor + 1024 * read_ns)
    for mean in (40_000, 400_000):
        far = terms(found, Batch(8, 8 * mean))[name]
        assert floor + 4096 * read_ns <= far.ns <= floor + (4096 + 64) * read_ns
        assert far.bytes == pytest.approx(LAYERS * 8 * 4096 * 4096)
    near = ns(found, Batch(8, 8 * 4096))[name]
    assert floor + 3000 * read_ns < near < floor + 4000 * read_ns, "some are shorter"


WAVES = {**SPLIT, "p": 16.0, "program_bytes_per_s": 8.7e9, "item_s": 2.5e-9}
"""Whole waves of slow programs: even batches take 10 % less than others of as many keys."""


@pytest.mark.parametrize("batch", [1, 3, 8, 24, 64, 130, 250])
def test_uneven_batches_are_met(batch: int) -> None:
    """Random ones, by the form: half to 4 %, without a bias; even ones would be 10 % off at 130."""
    fit, draw = decode_fit(**WAVES), np.random.default_rng(batch)
    decode = cost(make_profile(decode=(fit,))).operators.attention[0].decode
    errors = []
    for _ in range(60):
        mean, sigma = np.exp(draw.uniform(5.3, 9.9)), draw.choice([0.2, 0.5, 0.8, 1.2])
        drawn = mean * draw.lognormal(-(sigma**2) / 2, sigma, batch)
        lengths = np.maximum(1, drawn.round()).astype(int).tolist()
        exact = 1e9 * forms.decode_s(fit, lengths)
        errors.append(decode(batch, sum(lengths)).ns / exact - 1)
    assert abs(np.median(errors)) < 0.03
    assert np.median(np.abs(errors)) < 0.04
    assert np.quantile(np.abs(errors), 0.95) < 0.12


def test_more_context_never_takes_less() -> None:
    """Where another round of the merge is saved, the form itself falls by 8 %."""
    fit = decode_fit(
        **{**SPLIT, "program_bytes_per_s": 8e10, "item_s": 3e-9, "merge_s": 2e-6, "slots": 132,
           "target_items": 33}
    )  # fmt: skip
    found = cost(make_profile(decode=(fit,))).operators.attention[0].decode
    curve, _ = found.means(2, found.contexts)
    form = [forms.decode_s(fit, typical_lengths(2, int(x))) for x in found.contexts]
    assert form != sorted(form)
    assert curve == sorted(curve)


def test_batches_between_those_that_are_looked_at() -> None:
    """250 lies between 240 and 256: 10/16 of the way from one to the other, at every mean."""
    found = cost(split_profile()).operators.attention[0].decode
    below, between, above = (found.means(batch, [1000.0, 7000.0])[0] for batch in (240, 250, 256))
    for a, b, c in zip(below, between, above, strict=True):
        assert b == pytest.approx(a + 10 / 16 * (c - a))


@lru_cache
def server(model: str, size: int, *, ahead: bool) -> OperatorCost:
    return cost(
        split_profile(), model, tensor_parallel_size=size, async_scheduling=ahead, max_num_seqs=256
    )


SERVERS = (("llama-3.1-8b", 1), ("llama-3.1-8b", 2), ("mistral-7b-v0.1", 1), ("llama-3.2-3b", 1))


@given(
    of=st.sampled_from(SERVERS),
    ahead=st.booleans(),
    num=st.integers(1, 300),
    mean=st.one_of(st.floats(1, 60_000), st.floats(4050, 4150)),
    k=st.integers(0, 150),
    stages=st.sampled_from([1, 1, 3]),
)
@settings(max_examples=100, deadline=None)
def test_span_is_the_sum_of_its_steps(
    of: tuple[str, int], ahead: bool, num: int, mean: float, k: int, stages: int
) -> None:
    whole = server(*of, ahead=ahead)
    found = pipelined(whole, model=whole.model, gpu=H200, pipeline_parallel_size=stages)
    batch = Batch(num, round(num * mean), (), 0, round(mean * 2))
    steps = [
        found.step_ns(
            batch._replace(
                decode_context_tokens=batch.decode_context_tokens + j * num,
                longest_context_tokens=batch.longest_context_tokens + j,
            )
        )
        for j in range(k)
    ]
    assert found.span_s(batch, k) == pytest.approx(math.fsum(steps) / 1e9, rel=1e-12)


@given(
    of=st.sampled_from(SERVERS),
    num=st.integers(1, 250),
    mean=st.integers(1, 30_000),
    new=st.integers(1, 2048),
)
@settings(max_examples=60, deadline=None)
def test_more_work_takes_no_less_time(of: tuple[str, int], num: int, mean: int, new: int) -> None:
    """In context and in chunks; another sequence may fill a wave that was begun."""
    found = server(*of, ahead=True)
    batch = Batch(num, num * mean)
    assert found.step_ns(batch._replace(decode_context_tokens=2 * num * mean)) >= found.step_ns(
        batch
    )
    alone = found.step_ns(Batch(0, 0, ((new, 0),)))
    assert found.step_ns(Batch(0, 0, ((new, 4096),))) >= alone * (1 - 1e-12)
    assert found.step_ns(batch._replace(chunks=((new, 0),))) > min(alone, found.step_ns(batch))


def test_terms_sum_to_the_step() -> None:
    for of in SERVERS:
        for batch in (
            Batch(1, 100),
            Batch(64, 64 * 2000, (), 0, 9000),
            Batch(16, 16_000, ((512, 0), (300, 2048))),
        ):
            found = server(*of, ahead=True)
            made = found.terms(batch)
            assert math.fsum(t.ns for t in made) == pytest.approx(found.step_ns(batch), rel=1e-9)
            assert all(t.ns >= 0 and t.source for t in made)


# ---------------------------------------------------------------------- the host

SLOW_HOST_LINES = (
    line("host prepare", 700e-6, unit_s=2e-6),
    line("host upload", 230e-6, unit_s=0.5e-6),
    *HOST_LINES[2:],
)


def test_the_host_is_the_profiles() -> None:
    """700 + 230 + 20 us and 3 us a request (less than a scheduler's); a replay of 12 us."""
    lines = (*LINES, *SLOW_HOST_LINES)
    found = cost(make_profile(lines=lines))
    assert found.host == HostTimes(
        step_s=pytest.approx(950e-6),
        per_request_s=pytest.approx(8e-6),
        gap_s=pytest.approx(242e-6),
        eager_layer_s=pytest.approx(60e-6),
        piecewise_layer_s=pytest.approx(36e-6),
        source="profile h200.2026-11-22.a1b2: metadata, with a scheduler of 0.8 ms and 8 us a "
        "request assumed and launches",
    )
    batch = Batch(64, 64 * 4096)
    assert ns(found, batch)["host, exposed"] == pytest.approx(242 * US)
    lock = cost(make_profile(lines=lines), async_scheduling=False)
    assert ns(lock, batch)["host, exposed"] == pytest.approx((950 + 64 * 8) * US)
    eager = cost(
        make_profile(lines=LINES + HOST_LINES, gemm_tables=tables(dict.fromkeys(LINEAR_S, 1e-9))),
        enforce_eager=True,
        async_scheduling=False,
    )
    launches = 32 * 60 * US + (800 + 8) * US
    assert eager.step_ns(Batch(1, 100)) == pytest.approx(launches)


def test_a_profile_without_the_host_assumes_it() -> None:
    assert cost().host == ASSUMED
    partly = cost(make_profile(lines=LINES + HOST_LINES[:3])).host
    assert (partly.step_s, partly.gap_s) == (ASSUMED.step_s, ASSUMED.gap_s)
    assert partly.source == (
        "profile h200.2026-11-22.a1b2: metadata, with a scheduler of 0.8 ms and 8 us a request "
        "assumed; the rest assumed"
    )


def test_the_pipelines_host_is_the_profiles() -> None:
    """A stage of next to nothing takes as long as the host."""
    quick = make_profile(
        lines=(*(line(one.name, 1e-12) for one in LINES), *SLOW_HOST_LINES),
        gemm_tables=tables(dict.fromkeys(LINEAR_S, 1e-12)),
        decode=(decode_fit(t0_s=1e-12, read_bytes_per_s=1e30),),
    )
    found = pipelined(
        cost(quick), model=load_model("llama-3.1-8b"), gpu=H200, pipeline_parallel_size=2
    )
    assert isinstance(found, PipelinedCost)
    assert found.step_ns(Batch(2, 200)) == pytest.approx(2 * (950 + 8) * US)


# ---------------------------------------------------------------------- link, band, origin


def test_the_all_reduce_names_its_source() -> None:
    """The profile's line, else the card's tables, else its datasheet."""
    batch = Batch(64, 64 * 100)
    reduced = line("all_reduce 2 graph", 10e-6, bytes_per_s=1e11)
    own = terms(cost(make_profile(lines=(*LINES, reduced)), tensor_parallel_size=2), batch)
    assert own["all-reduce"].ns == pytest.approx(64 * (10 * US + 64 * 8192 / 1e11 * 1e9))
    assert own["all-reduce"].source == "profile h200.2026-11-22.a1b2: line of all-reduce"
    silicon = terms(cost(tensor_parallel_size=2), batch)["all-reduce"]
    assert silicon.source.startswith("aiconfigurator-core")
    card = replace(H200, name="my-h200")
    sheet = measured_cost(
        make_profile(), model=load_model("llama-3.1-8b"), gpu=card, tensor_parallel_size=2
    )
    assert terms(sheet, batch)["all-reduce"].source == "datasheet link"
    assert terms(sheet, batch)["all-reduce"].extrapolated


def test_the_band_follows_from_the_held_out_errors() -> None:
    """Decode 2 %, prefill 4 %, tables half of 2 %, small kernels 2 %, weighted by their shares."""
    found = cost()
    doubts = {name: term.doubt for name, term in terms(found, Batch(64, 64 * 4096)).items()}
    assert doubts["attention"] == pytest.approx(0.02)
    assert doubts["qkv projection"] == pytest.approx(0.01)
    assert doubts["sampling"] == pytest.approx(0.02)
    chunk = terms(found, Batch(0, 0, ((512, 0),)))["attention"]
    assert chunk.doubt == pytest.approx(0.04)
    made = found.terms(Batch(64, 64 * 4096))
    wider = sum(t.ns * t.doubt for t in made) / sum(t.ns for t in made)
    band = found.band_of(Batch(64, 64 * 4096))
    assert (band.low, band.high) == pytest.approx((0.95 / (1 + wider), 1.06 * (1 + wider)))
    assert found.band.low <= band.low
    worse = (residual("decode", "heldout", 32.9), *make_profile().residuals[1:])
    assert cost(make_profile(residuals=worse)).band.high > found.band.high + 0.02
    assert terms(cost(make_profile(residuals=())), Batch(1, 128))["attention"].doubt == 0.10
    apart = (*make_profile().residuals, residual("gemm", "heldout", 4.935))
    products = terms(cost(make_profile(residuals=apart)), Batch(1, 128))["qkv projection"]
    assert products.doubt == pytest.approx(0.03)
    roofed = (*make_profile().residuals, residual("gemm_roofline", "leave_layer_out", 8.225))
    head = terms(cost(make_profile(residuals=roofed), "mistral-7b-v0.1"), Batch(1, 128))["LM head"]
    assert head.doubt == pytest.approx(0.05)


def test_the_origin_names_profile_provenance_and_date() -> None:
    assert cost().origin == "measured (profile h200.2026-11-22.a1b2, measured 2026-11-22)"
    scaled = replace(
        make_profile(),
        provenance="derived",
        derived_from={"from": "h100.2026-11-01"},
        decode=(decode_fit(uncertainty={"t0_s": 0.3, "read_bytes_per_s": 0.1}),),
    )
    found = cost(scaled)
    assert found.source == "derived"
    assert found.origin == (
        "derived (profile h200.2026-11-22.a1b2, derived 2026-11-22, scaled from h100.2026-11-01)"
    )
    assert terms(found, Batch(1, 128))["attention"].doubt == pytest.approx(0.3)
    undated = cost(make_profile(run={}))
    assert undated.origin == "measured (profile h200.2026-11-22.a1b2, measured)"
    described = cost().describe()
    assert isinstance(described["profile"], dict)
    assert described["profile"]["kernel_hash"] == make_profile().software["kernel_hash"]


# ---------------------------------------------------------------------- what a profile lacks


def narrow(model: str, bits: float) -> ModelSpec:
    spec = load_model(model)
    return replace(spec, weights=tuple(replace(g, bits_per_parameter=bits) for g in spec.weights))


LACKS = {
    "mixtral-8x7b": "has no kernels of routed experts, which mixtral-8x7b has.",
    "qwen3.5-27b": "has no kernels of recurrent layers, which qwen3.5-27b has.",
    "gemma-2-9b": "has no decode attention of 16 query and 8 KV heads of 256 in bf16 over bf16",
}


@pytest.mark.parametrize("model", LACKS)
def test_models_that_it_has_no_kernels_of(model: str) -> None:
    with pytest.raises(Unfit) as error:
        cost(model=model)
    assert LACKS[model] in str(error.value)
    assert str(error.value).startswith("profile(=h200.2026-11-22.a1b2) has no")


def test_flags_that_it_has_no_kernels_of() -> None:
    with pytest.raises(Unfit, match="over fp8_e4m3, which llama"):
        cost(kv_cache_dtype="fp8")
    with pytest.raises(Unfit, match="no attention over kv_cache_dtype nvfp4"):
        cost(kv_cache_dtype="nvfp4")
    eight = measured_cost(
        make_profile(decode=(decode_fit(replace(KEY, kv_dtype="fp8_e4m3")),),
                     prefill=(prefill_fit(replace(KEY, kv_dtype="fp8_e4m3")),)),
        model=load_model("llama-3.1-8b"), gpu=H200, kv_cache_dtype="fp8",
    )  # fmt: skip
    assert ns(eight, Batch(64, 64 * 4096))["attention"] == pytest.approx(
        LAYERS * (10 * US + 64 * 4096 * 2048 / 4e12 * 1e9)
    )
    with pytest.raises(Unfit, match="no matrix products of 8-bit weights, which the qkv"):
        measured_cost(make_profile(), model=narrow("llama-3.1-8b", 8.0), gpu=H200)
    with pytest.raises(ValueError, match=r"tensor_parallel_size\(=3\) must divide"):
        cost(tensor_parallel_size=3)
    with pytest.raises(ValueError, match=r"max_num_seqs\(=0\) must be > 0"):
        cost(max_num_seqs=0)


def test_a_partial_profile_says_what_is_missing() -> None:
    with pytest.raises(Unfit, match="has no prefill attention of 32 query and 8 KV heads of 128"):
        cost(make_profile(prefill=()))
    with pytest.raises(Unfit, match="has no times of rms_norm: it was not measured in full"):
        cost(make_profile(lines=LINES[1:]))
    with pytest.raises(Unfit, match="has no times of sample"):
        cost(make_profile(lines=LINES[:5]))
    with pytest.raises(Unfit, match="products of bf16 with n = 6144 and k = 4096"):
        cost(make_profile(gemm_tables=(), gemm=()))
    with pytest.raises(Unfit, match="was measured with another-7b, a model that kvsim does not"):
        cost(make_profile(model="another-7b"))


def test_exact_takes_nothing_that_is_derived() -> None:
    assert cost(exact=True).operators.derived == ()
    with pytest.raises(Unfit, match="has no decode attention of 24 query"):
        cost(model="llama-3.2-3b", exact=True)
    with pytest.raises(Unfit, match="products of bf16 with n = 32000 and k = 4096"):
        cost(model="mistral-7b-v0.1", exact=True)


def test_a_latent_key_serves_latent_attention() -> None:
    """512 + 64 values of 2 bytes, read once; of the projections there is a roofline."""
    spec = load_model("deepseek-v2-lite")
    dense = replace(spec, num_experts=0, shared_expert_intermediate_size=0)
    key = AttentionKey(
        kind="latent",
        dtype="bf16",
        kv_dtype="bf16",
        heads=16,
        kv_heads=1,
        head_dim=576,
        block_size=16,
    )
    made = make_profile(decode=(decode_fit(key),), prefill=(prefill_fit(key),))
    found = measured_cost(made, model=dense, gpu=H200)
    latent = ns(found, Batch(8, 8 * 1024))["latent attention"]
    assert latent == pytest.approx(27 * (10 * US + 8 * 1024 * 1152 / 4e12 * 1e9))
    with pytest.raises(Unfit, match="no latent decode attention of 16 query and 1 KV heads of 576"):
        measured_cost(make_profile(), model=dense, gpu=H200)
