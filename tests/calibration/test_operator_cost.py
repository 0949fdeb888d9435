"""Adding operators up: closed forms, growth, what graphs, host and imbalance do."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.calibration.costs import step_cost
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.host import ASSUMED
from kvsim.calibration.models import load_model
from kvsim.calibration.operator_cost import OperatorCost
from kvsim.calibration.step_cost import Batch

SERVERS = (
    ("llama-3.1-8b", "h100-sxm", 1),
    ("llama-3.1-8b", "a100", 1),
    ("gpt-oss-20b", "rtx-pro-6000", 1),
    ("gemma-3-27b", "l40s", 2),
    ("mixtral-8x7b", "h200", 2),
    ("qwen3.5-27b", "b200", 1),
    ("deepseek-v3", "h100-sxm", 8),
)


@lru_cache
def cost(
    model: str, gpu: str, size: int = 1, *, ahead: bool = True, eager: bool = False
) -> OperatorCost:
    found = step_cost(
        "silicon",
        model=load_model(model),
        gpu=load_gpu(gpu),
        tensor_parallel_size=size,
        max_num_seqs=256,
        async_scheduling=ahead,
        enforce_eager=eager,
    )
    assert isinstance(found, OperatorCost)
    return found


def decodes(num: int, mean: float, longest: float = 0.0) -> Batch:
    return Batch(num, round(num * mean), (), 0, round(longest))


@given(
    server=st.sampled_from(SERVERS),
    ahead=st.booleans(),
    num=st.integers(1, 300),
    mean=st.one_of(st.floats(1, 60_000), st.floats(1000, 1030), st.floats(100, 140)),
    stretch=st.floats(1.0, 8.0),
    k=st.integers(0, 150),
)
@settings(max_examples=120, deadline=None)
def test_span_is_the_sum_of_its_steps(
    server: tuple[str, str, int], ahead: bool, num: int, mean: float, stretch: float, k: int
) -> None:
    source = cost(*server, ahead=ahead)
    batch = decodes(num, mean, mean * stretch)
    steps = [
        source.step_ns(
            batch._replace(
                decode_context_tokens=batch.decode_context_tokens + j * num,
                longest_context_tokens=batch.longest_context_tokens + j,
            )
        )
        for j in range(k)
    ]
    assert source.span_s(batch, k) == pytest.approx(math.fsum(steps) / 1e9, rel=1e-12)


@given(
    server=st.sampled_from(SERVERS),
    num=st.integers(1, 250),
    mean=st.integers(1, 30_000),
    new=st.integers(1, 2048),
)
@settings(max_examples=120, deadline=None)
def test_more_work_takes_no_less_time(
    server: tuple[str, str, int], num: int, mean: int, new: int
) -> None:
    source = cost(*server)
    one = source.step_ns(decodes(num, mean))
    assert source.step_ns(decodes(num, mean * 2)) >= one
    assert source.step_ns(decodes(num + 1, mean)) >= one * (1 - 1e-9)
    alone = source.step_ns(Batch(0, 0, ((new, 0),)))
    assert source.step_ns(Batch(0, 0, ((new, 4096),))) >= alone
    assert source.step_ns(decodes(num, mean)._replace(chunks=((new, 0),))) > min(one, alone)


@pytest.mark.parametrize("server", SERVERS)
def test_terms_sum_to_the_step(server: tuple[str, str, int]) -> None:
    source = cost(*server)
    for batch in (
        decodes(1, 100),
        decodes(64, 2000, 9000),
        decodes(16, 1000)._replace(chunks=((512, 0), (300, 2048))),
        Batch(0, 0, ((2048, 0),)),
    ):
        terms = source.terms(batch)
        assert math.fsum(t.ns for t in terms) == pytest.approx(source.step_ns(batch), rel=1e-9)
        assert all(t.ns >= 0 and t.source for t in terms)


def test_uneven_batches_cost_more_where_sequences_are_not_split() -> None:
    """Same sum of contexts: FlashAttention 2 waits for the longest one, 3 splits it."""
    even, uneven = decodes(128, 1000, 1000), decodes(128, 1000, 60_000)
    ampere, hopper = cost("llama-3.1-8b", "a100"), cost("llama-3.1-8b", "h100-sxm")
    assert ampere.step_ns(uneven) > 1.5 * ampere.step_ns(even)
    assert hopper.step_ns(uneven) == hopper.step_ns(even)
    assert ampere.uses_longest
    assert not hopper.uses_longest
    assert "uneven contexts" in {term.name for term in ampere.terms(uneven)}
    assert ampere.step_ns(even) == ampere.step_ns(decodes(128, 1000))


def test_decodes_beside_a_prefill_cost_more_than_alone() -> None:
    """One tile for each query head: the same decodes, 1.3 to 6 times the attention."""
    source, batch = cost("llama-3.1-8b", "rtx-pro-6000"), decodes(128, 1000)
    pure = sum(t.ns for t in source.terms(batch) if t.name == "attention")
    chunk = Batch(0, 0, ((64, 0),))
    alone = sum(t.ns for t in source.terms(chunk) if t.name == "attention")
    mixed = batch._replace(chunks=chunk.chunks)
    both = sum(t.ns for t in source.terms(mixed) if t.name == "attention")
    assert 1.3 * pure < both - alone < 6 * pure


def test_steps_are_padded_to_captured_sizes() -> None:
    source, eager = cost("llama-3.1-8b", "h100-sxm"), cost("llama-3.1-8b", "h100-sxm", eager=True)
    name = "gate and up projection"

    def linear(found: OperatorCost, num: int) -> float:
        return sum(t.ns for t in found.terms(decodes(num, 500)) if t.name == name)

    assert linear(source, 33) == linear(source, 40)
    assert linear(source, 41) == linear(source, 48)
    assert linear(eager, 33) <= linear(eager, 40)
    assert eager.step_ns(decodes(1, 500)) >= source.step_ns(decodes(1, 500))


def test_the_host_shows_in_lock_step_only() -> None:
    ahead, lock = cost("llama-3.1-8b", "h100-sxm"), cost("llama-3.1-8b", "h100-sxm", ahead=False)
    batch = decodes(64, 2000)
    assert lock.step_ns(batch) - ahead.step_ns(batch) == pytest.approx(
        ASSUMED.ns(64) - ASSUMED.gap_s * 1e9
    )
    small = cost("qwen3-0.6b", "b200")
    assert small.step_ns(decodes(256, 2)) >= ASSUMED.ns(256)  # the GPU is the faster of the two


def test_all_reduce_grows_with_tokens_and_falls_out_on_one_gpu() -> None:
    def of(size: int, tokens: int) -> float:
        terms = cost("llama-3.1-8b", "h100-sxm", size).terms(Batch(0, 0, ((tokens, 0),)))
        return sum(t.ns for t in terms if t.name == "all-reduce")

    assert of(1, 512) == 0
    assert all(of(size, 2048) > of(size, 512) > 0 for size in (2, 4, 8))


def test_experts_are_read_as_tokens_choose_them() -> None:
    """Mixtral: a token reads 2 of 8 experts, 64 tokens nearly all; the time levels off."""
    source = cost("mixtral-8x7b", "h200", 2)
    times = [
        sum(t.ns for t in source.terms(decodes(n, 100)) if t.name == "routed experts")
        for n in (1, 2, 4, 16, 64, 128)
    ]
    assert all(a <= b for a, b in pairwise(times))
    assert times[2] > 1.7 * times[0]
    assert times[5] < 1.5 * times[3]


def test_bands_widen_with_distance() -> None:
    source = cost("llama-3.1-8b", "h100-sxm")
    near, far = source.band_of(decodes(64, 1024)), source.band_of(decodes(1, 130_000))
    assert far.low < near.low <= source.band.low
    assert far.high > near.high >= source.band.high
    assert source.outside(
        num_seqs=1, num_tokens=2048, context_tokens=130_000, longest_context=130_000
    )
    assert not source.outside(
        num_seqs=8, num_tokens=2048, context_tokens=16_384, longest_context=2048
    )


def test_the_host_shows_in_lock_step_and_launches_without_graphs() -> None:
    """0.8 ms + 8 us a request beside the GPU; 16 layers of 0.15 ms where nothing is captured."""
    batch = decodes(100, 4000)
    ahead, behind = cost("llama-3.1-8b", "h100-sxm"), cost("llama-3.1-8b", "h100-sxm", ahead=False)
    host, gap = 1e9 * (0.8e-3 + 100 * 8e-6), 1e9 * 0.1e-3
    assert behind.step_ns(batch) - ahead.step_ns(batch) == pytest.approx(host - gap)
    eager = cost("llama-3.2-1b", "h100-sxm", ahead=False, eager=True)
    launches = 16 * 0.15e-3 + 0.8e-3 + 8e-6
    assert eager.step_ns(decodes(1, 100)) == pytest.approx(1e9 * launches)


def test_decodes_beyond_the_table_are_flagged_beside_a_prefill() -> None:
    source = cost("llama-3.1-8b", "rtx-pro-6000")
    near, far = (
        next(
            term
            for term in source.terms(decodes(4, mean)._replace(chunks=((64, 0),)))
            if term.name == "attention"
        )
        for mean in (1000, 4_000_000)
    )
    assert far.extrapolated
    assert not near.extrapolated


def test_sources_by_name() -> None:
    model = load_model("llama-3.1-8b")
    assert step_cost("auto", model=model, gpu=load_gpu("h100-sxm")).source == "silicon"
    fallen = step_cost("auto", model=model, gpu=load_gpu("l4"))
    assert fallen.source == "derived"
    assert fallen.origin.startswith("derived (scaled from l40s by datasheet figures: bandwidth x0")
    assert fallen.origin.endswith("; there are no measured tables of l4)")
    assert fallen.describe()["why"] == "there are no measured tables of l4"
    latent = step_cost("auto", model=load_model("deepseek-v2-lite"), gpu=load_gpu("a100"))
    assert latent.origin.startswith("datasheet (aiconfigurator-core has no mla")
    with pytest.raises(ValueError, match=r"'silicon'\) cannot be had: there are no measured table"):
        step_cost("silicon", model=model, gpu=load_gpu("l4"))
    with pytest.raises(ValueError, match="takes no arguments"):
        step_cost("silicon:x", model=model, gpu=load_gpu("h100-sxm"))
    with pytest.raises(ValueError, match="takes no arguments"):
        step_cost("auto:x", model=model, gpu=load_gpu("h100-sxm"))
