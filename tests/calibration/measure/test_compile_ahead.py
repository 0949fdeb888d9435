"""Which points are compiled before anything is timed."""

from __future__ import annotations

from kvsim.calibration.measure import compile_ahead as module
from kvsim.calibration.measure.attention_points import decode_point, decode_x
from kvsim.calibration.measure.compile_ahead import compile_ahead, variant, variants
from kvsim.calibration.measure.model_shapes import attention_shapes
from kvsim.calibration.measure.point import Point
from kvsim.calibration.measure.points import Limits, make_plan
from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import load_model

SHAPE = attention_shapes(load_model("llama-3.1-8b"))[0]


def decode(batch: int, context: int, **more: object) -> Point:
    x = decode_x(SHAPE, "bf16", [[context, batch]]) | more
    return decode_point("decode", x)


def test_the_length_is_no_variant_but_the_kernel_is() -> None:
    assert variant(decode(8, 512)) == variant(decode(8, 4096))
    assert variant(decode(8, 512)) != variant(decode(1, 512)), "an argument of 1 is compiled in"
    assert variant(decode(24, 512)) != variant(decode(16, 512)), "as are multiples of 16"
    for more in ({"block_size": 64}, {"kv_dtype": "int8"}, {"heads": 8}, {"sliding_window": 9}):
        assert variant(decode(8, 512)) != variant(decode(8, 512, **more))


def test_the_smallest_point_stands_for_its_kernel() -> None:
    small, large = decode(64, 4096), decode(64, 16_384)
    assert variants([large, small]) == [small]


def test_libraries_and_products_have_nothing_to_compile(llama: ModelSpec) -> None:
    plan = make_plan(
        llama, Limits(free_memory_bytes=1 << 37, compute_capability=(9, 0)), budget_s=480
    )
    chosen = variants(plan.points)
    assert {p.x["name"] for p in chosen if p.family == "baselines"} == {"kvsim", "contiguous"}
    assert not {p.family for p in chosen} & {"gemm", "host", "memory", "pcie", "graph"}
    assert 50 < len(chosen) < 250


def test_a_few_kernels_are_not_worth_the_processes() -> None:
    told: list[object] = []
    assert compile_ahead([decode(8, 512)], lambda *progress: told.append(progress)) == 0
    assert not told


def test_what_cannot_run_ahead_is_left_to_the_measurement() -> None:
    impossible = Point(family="gemm", x={})
    assert module.run_once(impossible) is False
