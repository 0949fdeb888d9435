"""Laws of a step's terms: they add up to it, none beats its roof, distance widens the band."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.costs import step_cost
from kvsim.calibration.datasheet import DatasheetCost
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.host import ASSUMED
from kvsim.calibration.models import load_model
from kvsim.calibration.operator_cost import EXTRAPOLATED, PER_OCTAVE, OperatorCost
from kvsim.calibration.operators import Operator
from kvsim.calibration.step_cost import Batch, StepCost
from kvsim.calibration.terms import bound_of

MODELS = {
    "llama-3.1-8b": 1,
    "gpt-oss-20b": 1,
    "gemma-3-27b": 1,
    "mixtral-8x7b": 2,
    "deepseek-v3": 8,
    "qwen3.5-27b": 1,
}
GPUS = ("h100-sxm", "rtx-pro-6000")
UNHURRIED = settings(deadline=None, max_examples=40)
"""The first question reads the tables."""
PREFILLS = st.lists(st.tuples(st.integers(1, 8192), st.integers(0, 60_000)), max_size=3)


@lru_cache(maxsize=64)
def cost_of(source: str, model: str, gpu: str = "h100-sxm", ahead: bool = True) -> StepCost:
    return step_cost(
        source,
        model=load_model(model),
        gpu=load_gpu(gpu),
        tensor_parallel_size=MODELS[model],
        async_scheduling=ahead,
    )


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Even and uneven decodes, chunks, or both."""
    contexts = draw(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 120_000)), max_size=3))
    chunks = tuple(draw(PREFILLS))
    if not contexts and not chunks:
        contexts = [(1, 1)]
    return Batch(
        num_decodes=sum(count for count, _ in contexts),
        decode_context_tokens=sum(count * context for count, context in contexts),
        chunks=chunks,
        longest_context_tokens=max((context for _, context in contexts), default=0),
    )


def check_sum(cost: StepCost, batch: Batch) -> None:
    terms = cost.terms(batch)
    whole = cost.step_ns(batch)
    assert sum(term.ns for term in terms) == pytest.approx(whole, rel=1e-12)
    assert [term.ns for term in terms] == sorted((term.ns for term in terms), reverse=True)
    assert all(term.source for term in terms)
    json.dumps([term.to_json() for term in terms], allow_nan=False)
    assert min(term.bytes for term in terms) >= 0
    assert min(term.flops for term in terms) >= 0


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("source", ["silicon", "datasheet"])
@UNHURRIED
@given(batch=batches(), ahead=st.booleans())
def test_terms_sum_to_the_step(
    source: str, model: str, gpu: str, batch: Batch, ahead: bool
) -> None:
    cost = cost_of(source, model, gpu, ahead)
    check_sum(cost, batch)
    least = ASSUMED.gap_s * 1e9 if ahead else ASSUMED.ns(batch.num_decodes + len(batch.chunks))
    whole = cost.step_ns(batch)
    (host,) = (term for term in cost.terms(batch) if term.bound == "host")
    assert host.ns >= least - 1e-9 * whole, "the GPU's terms leave the host its share"
    assert min(term.ns for term in cost.terms(batch)) >= 0


@UNHURRIED
@given(batch=batches())
def test_affine_is_one_term(batch: Batch) -> None:
    check_sum(AffineCost.parse("0.005,2e-5,1e-7"), batch)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("source", ["silicon", "datasheet"])
@UNHURRIED
@given(batch=batches())
def test_no_term_computes_faster_than_the_gpu(source: str, model: str, batch: Batch) -> None:
    gpu = load_gpu("h100-sxm")
    fastest = max(rate for _, rate in gpu.flops_per_s)
    for term in cost_of(source, model).terms(batch):
        assert term.flops <= 1.02 * fastest * term.ns / 1e9, term


@pytest.mark.parametrize("model", MODELS)
@UNHURRIED
@given(batch=batches())
def test_the_datasheets_terms_reach_their_efficiency(model: str, batch: Batch) -> None:
    cost = cost_of("datasheet", model)
    assert isinstance(cost, DatasheetCost)
    eta, rate = cost.roofline.efficiency, cost.roofline.gpu.memory_bandwidth_bytes_per_s
    best = max(eta.kv_read, eta.weight_read, 0.8)
    for term in cost.terms(batch):
        if term.bound == "bandwidth":
            assert term.bytes <= 1.0001 * best * rate * term.ns / 1e9, term
            assert term.bytes > 0, term


def test_bytes_and_flops_of_a_datasheet_step() -> None:
    by_name = {
        term.name: term for term in cost_of("datasheet", "llama-3.1-8b").terms(Batch(64, 64 * 4096))
    }
    assert by_name["attention"].bytes == 64 * 4096 * 131_072
    assert by_name["attention"].flops == 64 * 4096 * 32 * 4 * 32 * 128
    mlp = 32 * 3 * 4096 * 14_336
    assert by_name["MLP, router, norms"].flops == pytest.approx(2 * 64 * mlp, rel=1e-3)
    assert by_name["MLP, router, norms"].bytes == pytest.approx(2 * mlp, rel=1e-3)
    assert by_name["MLP, router, norms"].bound == "bandwidth"


def test_a_window_bounds_what_a_chunk_computes() -> None:
    for source in ("silicon", "datasheet"):
        cost = cost_of(source, "gpt-oss-20b")
        by_name = {term.name: term for term in cost.terms(Batch(chunks=((2048, 8192),)))}
        windowed, full = by_name["attention, window 128"], by_name["attention"]
        assert windowed.flops == 12 * 4 * 2048 * 128 * 64 * 64
        assert full.flops == 12 * 4 * 2048 * (8192 + 2049 / 2) * 64 * 64
        assert windowed.bytes == 12 * (128 + 2048) * 2048
        assert full.bytes == 12 * (8192 + 2048) * 2048


@pytest.mark.parametrize("model", MODELS)
@UNHURRIED
@given(batch=batches())
def test_the_band_encloses_the_sources_own(model: str, batch: Batch) -> None:
    for source in ("silicon", "datasheet"):
        cost = cost_of(source, model)
        band = cost.band_of(batch)
        assert 0 < band.low <= cost.band.low <= 1 <= cost.band.high <= band.high


def at_distance(cost: OperatorCost, octaves: float, outside: bool) -> OperatorCost:
    """The same operators, as if each linear one had been measured so far away."""

    def moved(operator: Operator) -> Operator:
        return replace(
            operator,
            ns=lambda count: operator.ns(count)._replace(distance=octaves, outside=outside),
        )

    by_tokens = tuple(moved(operator) for operator in cost.operators.by_tokens)
    return replace(cost, operators=replace(cost.operators, by_tokens=by_tokens))


def test_the_band_widens_with_distance() -> None:
    cost = cost_of("silicon", "llama-3.1-8b")
    assert isinstance(cost, OperatorCost)
    batch = Batch(64, 64 * 4096)
    labels = {operator.label for operator in cost.operators.by_tokens}
    moved = sum(term.ns for term in cost.terms(batch) if term.name in labels)
    share = moved / cost.step_ns(batch)
    near = at_distance(cost, 0.0, False).band_of(batch)
    far = at_distance(cost, 1.0, False).band_of(batch)
    farther = at_distance(cost, 3.0, False).band_of(batch)
    beyond = at_distance(cost, 3.0, True).band_of(batch)
    assert near.high < far.high < farther.high < beyond.high
    assert near.low > far.low > farther.low > beyond.low
    assert (beyond.high - near.high) / cost.band.high == pytest.approx(
        share * (3 * PER_OCTAVE + EXTRAPOLATED)
    )


@pytest.mark.parametrize(
    ("times", "bound"),
    {
        "reads as fast as it can": ((100, 90, 10), "bandwidth"),
        "computes": ((100, 10, 90), "compute"),
        "neither": ((100, 10, 20), "latency"),
        "nothing to do": ((5, 0, 0), "latency"),
    }.values(),
)
def test_what_binds(times: tuple[float, float, float], bound: str) -> None:
    assert bound_of(*times) == bound


ASK = """
from kvsim.calibration.costs import step_cost
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.step_cost import Batch
model, gpu = load_model("deepseek-v3"), load_gpu("rtx-pro-6000")
cost = step_cost("silicon", model=model, gpu=gpu, tensor_parallel_size=8)
print(cost.terms(Batch(64, 64 * 4096)))
"""


def test_equally_near_kernels_are_chosen_alike_in_every_process() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", ASK],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    ]
    assert said[0] == said[1]
