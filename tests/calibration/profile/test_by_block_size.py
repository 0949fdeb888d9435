"""What other block sizes cost the kernel: by hand, and nothing where nothing was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvsim.calibration.costs import step_cost
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.operator_cost import OperatorCost
from kvsim.calibration.pipeline import PipelinedCost
from kvsim.calibration.profile.attention import FittedDecode
from kvsim.calibration.profile.by_block_size import decode_slowdowns
from kvsim.calibration.profile.cost import measured_cost
from kvsim.calibration.profile.forms import decode_s
from kvsim.calibration.profile.uneven import typical_lengths
from kvsim.calibration.step_cost import StepCost
from support.profiles import KEY, decode_fit, make_profile

MODEL, GPU = load_model("llama-3.1-8b"), load_gpu("h200")
BYTES_PER_TOKEN = 2 * 8 * 128 * 2


def cost_of(rates: dict[int, float], **changes: Any) -> StepCost:
    """Bytes per second by block size; a launch takes 10 us in every size."""
    fits = tuple(
        decode_fit(replace(KEY, block_size=size), read_bytes_per_s=rate)
        for size, rate in rates.items()
    )
    return measured_cost(make_profile(decode=fits, **changes), model=MODEL, gpu=GPU)


def test_slowdown_by_hand() -> None:
    """64 sequences of 1,000 tokens: 10 us and 262 MB at 4, 2 and 8 TB/s."""
    found = decode_slowdowns(cost_of({32: 8e12, 16: 4e12, 8: 2e12}), batch=64, context_tokens=1000)
    assert found is not None

    def seconds(rate: float) -> float:
        return 10e-6 + 64 * 1000 * BYTES_PER_TOKEN / rate

    assert list(found.times) == [8, 16, 32]
    assert found.times[16] == 1.0
    assert found.times[8] == pytest.approx(seconds(2e12) / seconds(4e12), rel=1e-3)
    assert found.times[32] == pytest.approx(seconds(8e12) / seconds(4e12), rel=1e-3)
    assert found.source == "profile h200.2026-11-22.a1b2, measured 2026-11-22"


def test_the_batch_is_one_that_every_fit_has_seen() -> None:
    """Seen: 1 to 256 sequences of 128 to 65,536 tokens."""
    cost = cost_of({16: 4e12, 8: 2e12})
    for asked, taken in (
        ((1000, 20), (256, 128)),
        ((3, 500), (3, 500)),
        ((7, 99_999), (7, 65_536)),
    ):
        found = decode_slowdowns(cost, batch=asked[0], context_tokens=asked[1])
        assert found is not None
        assert (found.batch, found.context_tokens) == taken


def test_a_size_that_was_seen_elsewhere_is_left_out() -> None:
    """Its batches have nothing in common with those in blocks of 16."""
    fits = (
        decode_fit(KEY),
        decode_fit(replace(KEY, block_size=8)),
        decode_fit(
            replace(KEY, block_size=64), seen={"batch": (300, 900), "context_tokens": (128, 900)}
        ),
    )
    cost = measured_cost(make_profile(decode=fits), model=MODEL, gpu=GPU)
    found = decode_slowdowns(cost, batch=8, context_tokens=500)
    assert found is not None
    assert list(found.times) == [8, 16]


def test_a_pipeline_has_the_kernels_of_its_stages() -> None:
    whole = cost_of({16: 4e12, 8: 2e12})
    cost = PipelinedCost(
        whole=whole,  # type: ignore[arg-type]
        model=MODEL,
        gpu=GPU,
        pipeline_parallel_size=2,
        max_num_batched_tokens=2048,
    )
    assert decode_slowdowns(cost, batch=8, context_tokens=500) == decode_slowdowns(
        whole, batch=8, context_tokens=500
    )


def test_layers_of_two_kinds_count_as_many_as_they_are() -> None:
    """30 layers that see 128 tokens and 2 that see all 1,000."""
    cost = cost_of({16: 4e12, 8: 2e12})
    assert isinstance(cost, OperatorCost)
    (full,) = cost.operators.attention
    assert isinstance(full.decode, FittedDecode)
    window = FittedDecode(
        full.decode.fit,
        window=128,
        doubt=0.0,
        outside=False,
        by_block_size=full.decode.by_block_size,
    )
    kinds = (replace(full, count=2), replace(full, count=30, decode=window, window=128))
    two = replace(cost, operators=replace(cost.operators, attention=kinds))
    found = decode_slowdowns(two, batch=64, context_tokens=1000)
    assert found is not None

    lengths = typical_lengths(64, 1000)

    def seconds(size: int) -> float:
        fit = next(one for one in window.by_block_size if one.key.block_size == size)
        return 2 * decode_s(fit, lengths) + 30 * decode_s(fit, lengths, sliding_window=128)

    assert found.times[8] == pytest.approx(seconds(8) / seconds(16), rel=1e-9)
    alone = decode_slowdowns(cost, batch=64, context_tokens=1000)
    assert alone is not None
    assert found.times[8] < 0.9 * alone.times[8], "launches count more where little is read"


@pytest.mark.parametrize(
    "cost",
    [
        step_cost("silicon", model=MODEL, gpu=GPU),
        step_cost("datasheet", model=MODEL, gpu=GPU),
        step_cost("affine:0.01,0,0", model=MODEL, gpu=GPU),
        cost_of({16: 4e12}),
        cost_of({8: 4e12, 32: 4e12}),
        cost_of({16: 4e12, 8: 2e12}, provenance="derived"),
    ],
    ids=["silicon", "datasheet", "affine", "one size", "without 16", "derived"],
)
def test_nothing_is_invented(cost: StepCost) -> None:
    assert decode_slowdowns(cost, batch=8, context_tokens=500) is None


def test_another_kernel_s_sizes_do_not_count() -> None:
    """The same heads in another KV dtype, and other heads."""
    fits = (
        decode_fit(KEY),
        decode_fit(replace(KEY, block_size=8, kv_dtype="fp8_e4m3")),
        decode_fit(replace(KEY, block_size=32, kv_heads=4)),
    )
    cost = measured_cost(make_profile(decode=fits), model=MODEL, gpu=GPU)
    assert decode_slowdowns(cost, batch=8, context_tokens=500) is None
