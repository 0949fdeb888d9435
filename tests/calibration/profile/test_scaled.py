"""Operators carried over to another card: by hand, and the laws that any ratio must keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvsim.calibration.estimate import Estimate
from kvsim.calibration.gpus import GPUSpec, load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.operators import Mix, Operator, Operators
from kvsim.calibration.profile.derived import scaled_cost
from kvsim.calibration.profile.move import ACROSS, INSIDE, Move, Rates, Scale
from kvsim.calibration.profile.scaled import (
    LAUNCH_NS,
    ScaledDecode,
    ScaledMixed,
    scaled_operators,
)
from kvsim.calibration.silicon import silicon_cost
from kvsim.calibration.step_cost import Batch

MS, US = 1e6, 1e3
LLAMA = load_model("llama-3.1-8b")
H100 = load_gpu("h100-sxm")
HALF = Scale(measured=Rates(1e12, 1e14), other=Rates(5e11, 1e14), doubts=INSIDE)
"""Half the bandwidth, the same FLOP/s."""


def like(gpu: GPUSpec, *, bandwidth: float = 1.0, flops: float = 1.0, **changes: object) -> GPUSpec:
    return replace(
        gpu,
        name="other",
        memory_bandwidth_bytes_per_s=gpu.memory_bandwidth_bytes_per_s * bandwidth,
        flops_per_s=tuple((name, rate * flops) for name, rate in gpu.flops_per_s),
        **changes,
    )


def move(measured: GPUSpec, other: GPUSpec, size: int = 1) -> Move:
    return Move(
        model=LLAMA,
        measured=measured,
        other=other,
        tensor_parallel_size=size,
        kv_cache_dtype="bfloat16",
    )


def moved(operator: Operator, to: Move) -> Operator:
    (found,) = scaled_operators(
        Operators(by_tokens=(operator,), by_rows=(), attention=()), to
    ).by_tokens
    return found


def test_work_scales_and_the_floor_stays() -> None:
    """1 GB at 1 TB/s is 1 ms; of 1.5 ms, 0.1 are launches."""
    reading = Estimate(1.5 * MS, 1e9, 1e9, 0.0, False)
    found = HALF.scaled(reading, reading, 0.1 * MS)
    assert found.ns == pytest.approx(0.1 * MS + 2 * 1.4 * MS)
    assert found.doubt == pytest.approx((0.1 * 0.30 + 2.8 * 0.10) / 2.9)
    quick = reading._replace(ns=1.05 * MS)  # no more launch than is above the roof
    assert HALF.scaled(quick, quick, 0.1 * MS).ns == pytest.approx(0.05 * MS + 2 * MS)


def test_what_computes_scales_by_flops() -> None:
    """100 GFLOP at 100 TFLOP/s are 1 ms on both; on the other one reading takes 2 ms."""
    computing = Estimate(1.2 * MS, 1e8, 1e11, 0.0, False)
    found = HALF.scaled(computing, computing, 0.0)
    assert (found.ns, found.doubt) == (pytest.approx(1.2 * MS), pytest.approx(0.15))
    both = computing._replace(bytes=1e9)
    found = HALF.scaled(both, both, 0.0)
    assert (found.ns, found.doubt) == (pytest.approx(2.4 * MS), pytest.approx(0.10))
    unknown = Estimate(1.0 * MS, 0.0, 0.0, 0.0, False)
    assert HALF.scaled(unknown, unknown, 0.0).ns == pytest.approx(2 * MS), "memory"


def test_doubts_add_up_by_time() -> None:
    one = Estimate(3 * MS, 1.0, 1.0, 0.0, False, 0.1)
    other = Estimate(1 * MS, 1.0, 1.0, 2.0, True, 0.3)
    both = one.plus(other)
    assert both.doubt == pytest.approx((3 * 0.1 + 1 * 0.3) / 4)
    assert one.times(5) == Estimate(15 * MS, 5.0, 5.0, 0.0, False, 0.1)


def test_products_are_read_at_the_same_place_on_the_roofline() -> None:
    """Half the FLOP/s: 32 rows there read and compute as 64 rows do here."""
    asked = []

    def ns(rows: int) -> Estimate:
        asked.append(rows)
        return Estimate(1 * MS + rows * 10 * US, 1e9, rows * 1e9, 0.0, False)

    operator = Operator(label="product", source="table", ns=ns, launches=3)
    other = moved(operator, move(H100, like(H100, flops=0.5)))
    found = other.ns(32)
    assert max(asked) == 64
    floor = 3 * LAUNCH_NS
    assert found.ns == pytest.approx(floor + (1.64 * MS - floor) * 1.0)  # both bound by reading
    assert other.derived
    assert other.source == "scaled: table"
    assert other.flops_per_s == pytest.approx(0.5 * 989e12)
    assert other.ns(0).ns == 0


def test_experts_are_in_more_doubt() -> None:
    """They are told by what padding does not choose."""
    reading = Operator(
        label="routed experts",
        source="table",
        ns=lambda rows: Estimate(1 * MS, 3e9, 1.0, 0.0, False),
        padded=False,
    )
    assert moved(reading, move(H100, like(H100))).ns(8).doubt == pytest.approx(0.25)
    plain = replace(reading, padded=True)
    assert moved(plain, move(H100, like(H100))).ns(8).doubt == pytest.approx(0.10)


def test_narrow_units_scale_by_their_own_peak() -> None:
    narrow = H100.flops_of("fp8")
    assert narrow is not None
    operator = Operator(
        label="product",
        source="table",
        ns=lambda rows: Estimate(rows * MS, 1.0, rows * 1e12, 0.0, False),
        flops_per_s=narrow,
    )
    without = replace(like(H100), flops_per_s=(("bf16", 989e12),))
    assert moved(operator, move(H100, like(H100))).flops_per_s == narrow
    wide = moved(operator, move(H100, without))
    assert wide.flops_per_s == 989e12
    assert wide.ns(64).ns == pytest.approx(64 * narrow / 989e12 * MS)


class Reading:
    """Decode attention: 10 us, and 1 ns a token."""

    def __init__(self) -> None:
        self.contexts = [1.0, 1000.0]

    def means(self, batch: int, contexts: list[float]) -> tuple[list[float], float]:
        return [10 * US + batch * x for x in contexts], float(batch)

    def floor_ns(self, batch: int) -> float:
        return 10 * US

    def longest_ns(self, batch: int) -> tuple[float, float]:
        return 10 * US, 0.5

    def __call__(self, batch: int, context_tokens: float) -> Estimate:
        return Estimate(10 * US + context_tokens, context_tokens * 1000, 0.0, 0.0, False)


def test_decode_attention_keeps_its_floor_and_its_knots() -> None:
    found = ScaledDecode(Reading(), HALF)
    assert found.contexts == [1.0, 1000.0]
    assert found.means(4, [500.0]) == ([10 * US + 2 * 4 * 500], 8.0)
    assert found.floor_ns(4) == 10 * US
    assert found.longest_ns(4) == (10 * US, 0.5)
    estimate = found(4, 2000.0)
    assert estimate.ns == pytest.approx(14 * US)
    assert estimate.doubt == pytest.approx((10 * 0.30 + 4 * 0.10) / 14)


class Prefilling:
    """20 us, and 1 us a new token, all of it computing."""

    def __call__(self, mix: Mix) -> Estimate:
        new = sum(new for new, _ in mix.chunks)
        return Estimate(20 * US + new * US, 1.0, new * 5e7, 0.0, False)

    def ns(self, mix: Mix) -> float:
        return self(mix).ns


def test_mixed_attention_keeps_what_one_token_takes() -> None:
    slower = Scale(measured=Rates(1e12, 1e14), other=Rates(1e12, 5e13), doubts=ACROSS)
    found = ScaledMixed(Prefilling(), slower)
    mix = Mix(((1001, 0),))
    assert found.ns(mix) == pytest.approx(21 * US + 2 * 1000 * US)
    assert found(mix).doubt == pytest.approx((21 * 0.30 + 2000 * 0.25) / 2021)


def test_links_scale_by_their_own_bandwidth() -> None:
    """Of 30 us for a message, 10 are latency; the other card's NVLink is half as wide."""
    reduce = Operator(
        label="all-reduce",
        source="table",
        ns=lambda tokens: Estimate((10 if tokens == 1 else 30) * US, 1e6, 0.0, 0.0, False),
    )
    half = like(H100, nvlink_bytes_per_s=450e9)
    found = moved(reduce, move(H100, half, 2)).ns(64)
    assert found.ns == pytest.approx(50 * US)
    assert found.doubt == pytest.approx((10 * 0.30 + 40 * 0.15) / 50)
    none = moved(reduce, move(H100, like(H100, nvlink_bytes_per_s=None), 2))
    assert none.source == "datasheet link"
    moved_bytes = 64 * 4096 * 2
    assert none.ns(64).ns == pytest.approx(64 * (20 * US + moved_bytes / (64e9 * 0.7) * 1e9))


def test_across_generations_the_reach_counts() -> None:
    """MI300X: 5.3 of 4.8 TB/s, of which 0.70 are reached where a Hopper reaches 0.90."""
    h200, other = load_gpu("h200"), load_gpu("mi300x")
    found = move(h200, other)
    assert found.doubts == ACROSS
    decode = found.scale("decode")
    assert decode.other.bytes_per_s / decode.measured.bytes_per_s == pytest.approx(
        5.3 * 0.70 / (4.8 * 0.90)
    )
    linear = found.scale("linear")
    assert linear.other.flops_per_s / linear.measured.flops_per_s == pytest.approx(
        1307 * 0.45 / (989 * 0.65)
    )
    assert move(h200, load_gpu("h20")).doubts == INSIDE


BATCHES = (
    Batch(1, 100),
    Batch(64, 64 * 3000, (), 0, 9000),
    Batch(0, 0, ((2048, 0),)),
    Batch(100, 100 * 700, ((300, 5000),), 0, 2000),
)


@pytest.mark.parametrize("gpu", ["h100-sxm", "a100", "b200"])
@pytest.mark.parametrize(("model", "size"), [("llama-3.1-8b", 1), ("gpt-oss-20b", 2)])
def test_a_card_just_like_it_costs_the_same(model: str, size: int, gpu: str) -> None:
    """The law: a ratio of one changes no time and no term."""
    card = load_gpu(gpu)
    own = silicon_cost(
        model=load_model(model), gpu=card, tensor_parallel_size=size, max_num_seqs=256
    )
    copy = scaled_cost(own, replace(card, name="copy"))
    for batch in BATCHES:
        assert copy.step_ns(batch) == pytest.approx(own.step_ns(batch), rel=1e-9)
        theirs = {term.name: term.ns for term in own.terms(batch)}
        for term in copy.terms(batch):
            assert term.ns == pytest.approx(theirs[term.name], rel=1e-9, abs=1e-3)


@pytest.mark.parametrize("gpu", ["h100-sxm", "a100"])
def test_a_slower_card_is_slower_by_no_more_than_its_rates(gpu: str) -> None:
    card = load_gpu(gpu)
    own = silicon_cost(model=LLAMA, gpu=card, max_num_seqs=256)
    slower = {"both": (0.5, 0.5), "memory": (0.5, 1.0), "compute": (1.0, 0.5)}
    for bandwidth, flops in slower.values():
        other = scaled_cost(own, like(card, bandwidth=bandwidth, flops=flops))
        for batch in BATCHES:
            ratio = other.step_ns(batch) / own.step_ns(batch)
            assert 0.999 <= ratio <= 2.001
    half = scaled_cost(own, like(card, bandwidth=0.5))
    assert half.step_ns(BATCHES[1]) > 1.8 * own.step_ns(BATCHES[1]), "decodes read"
    half = scaled_cost(own, like(card, flops=0.5))
    assert half.step_ns(BATCHES[2]) > 1.7 * own.step_ns(BATCHES[2]), "prefills compute"
