"""Figures of a profile hold what its samples hold; the work of a point, by hand."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
from matplotlib.lines import Line2D

from kvsim.calibration.profile.forms import decode_s
from kvsim.calibration.profile.values import (
    PROVENANCES,
    AttentionKey,
    DecodeFit,
    GemmTable,
    Hardware,
    Profile,
    Sample,
)
from kvsim.reports.calibration_data import Calibration, calibration_of
from kvsim.reports.calibration_figures import FIGURES, calibration_pictures
from kvsim.reports.calibration_figures.gemm import roof_share
from kvsim.reports.calibration_figures.series import short, spread, thinned
from kvsim.reports.calibration_fitted import left_out_errors
from kvsim.reports.calibration_goals import aims
from kvsim.reports.calibration_points import points_of
from kvsim.reports.picture import Picture

KEY = AttentionKey(dtype="bf16", kv_dtype="bf16", heads=32, kv_heads=8, head_dim=128, block_size=16)
FIT = DecodeFit(
    key=KEY,
    t0_s=5e-6,
    read_bytes_per_s=4e12,
    program_bytes_per_s=2e10,
    p=4.0,
    item_s=0.0,
    slots=528,
    tile_tokens=64,
    min_chunk_tokens=64,
    target_items=132,
)
A_BYTES = 64 * 4096 * 8 * 128 * 2 * 2
CEILINGS = {
    "copy_bytes_per_s": {"value": 4e12},
    "read_bytes_per_s": {"value": 5e12},
    "matmul_bf16_flops_per_s": {"value": 8e14},
    "matmul_sustained_bf16_flops_per_s": {"value": 7e14},
}


def attention(family: str, t: float, *, role: str = "fit", **x: Any) -> Sample:
    """Of the model's own kernel where ``x`` does not say otherwise."""
    usual = {"kind": "paged", "dtype": "bf16", "kv_dtype": "bf16", "heads": 32, "kv_heads": 8}
    usual |= {"head_dim": 128, "block_size": 16}
    return Sample(family=family, x=usual | x, t=(t, t, t), role=role)


def decode(batch: int, context: int, t: float, family: str = "decode", **more: Any) -> Sample:
    return attention(family, t, seq_lens=[[context, batch]], shape="uniform", **more)


def baseline(case: str, name: str, t: float, **more: Any) -> Sample:
    return decode(64, 4096, t, "baselines", role="baseline", case=case, name=name, **more)


def product(m: int, t: float, layer: str = "qkv", size: int = 1) -> Sample:
    x = {"layer": layer, "tensor_parallel_size": size, "m": m, "n": 6144, "k": 4096}
    return Sample(family="gemm", x={**x, "dtype": "bf16"}, t=(t,))


def link(moved: int, t: float, how: str = "copy", segments: int = 1) -> Sample:
    x = {"direction": "h2d", "memory": "pinned", "how": how, "bytes": moved, "segments": segments}
    return Sample(family="pcie", x=x, t=(t,))


def calibration(*samples: Sample, gpu: str = "h200", **more: Any) -> Calibration:
    profile = Profile(
        id="one",
        provenance="measured",
        hardware=Hardware(
            gpu=gpu,
            name="NVIDIA H200",
            compute_capability="9.0",
            num_sms=132,
            l2_bytes=50 << 20,
            total_memory_bytes=140 << 30,
        ),
        software={},
        run={},
        model="llama-3.1-8b",
        ceilings=CEILINGS,
        decode=(FIT,),
    )
    return calibration_of(replace(profile, **more), samples)


def drawn(name: str, *samples: Sample, **more: Any) -> Picture:
    picture = FIGURES[name][0](calibration(*samples, **more))
    assert picture is not None
    return picture


def marked(picture: Picture, axes: int = 0) -> list[Line2D]:
    """Lines of data with marks; neither roofs nor curves."""
    lines = picture.figure.axes[axes].lines
    return [line for line in lines if line.get_marker() != "None" and len(line.get_xdata())]


# ---------------------------------------------------------------------- work


@pytest.mark.parametrize(
    ("sample", "moved", "flops"),
    [
        (decode(64, 4096, 1.0), 1_073_741_824, 4 * 32 * 128 * 64 * 4096),
        (decode(2, 300, 1.0, sliding_window=100), 2 * 100 * 4096, 4 * 32 * 128 * 200),
        (
            decode(1, 10, 1.0, kind="latent", heads=128, kv_heads=1, head_dim=576),
            10 * 576 * 2,
            10 * 128 * 2 * (576 + 512),
        ),
        (
            attention("prefill", 1.0, chunks=[[8, 0], [4, 100]]),
            (8 + 104) * 4096 + 2 * 12 * 4096 * 2,
            4 * 32 * 128 * (8 * 4 + 4 * 102),
        ),
        (product(16, 1.0), 2 * (16 * 4096 + 6144 * 4096 + 16 * 6144), 2 * 16 * 6144 * 4096),
        (
            Sample(
                family="elementwise", x={"op": "rms_norm", "bytes": 80, "dtype": "bf16"}, t=(1,)
            ),
            80,
            80,
        ),
        (
            Sample(family="elementwise", x={"op": "embed", "bytes": 80, "dtype": "bf16"}, t=(1,)),
            80,
            0,
        ),
    ],
)
def test_work_that_must_be_done(sample: Sample, moved: int, flops: int) -> None:
    (point,) = points_of((sample,))
    assert (point.moved_bytes, point.flops) == (moved, flops)


def test_a_mixed_point_does_both() -> None:
    both = attention("mixed", 2.0, seq_lens=[[100, 3]], chunks=[[8, 0]])
    apart = (
        attention("decode", 1.0, seq_lens=[[100, 3]]),
        attention("prefill", 1.0, chunks=[[8, 0]]),
    )
    (point,), (one, other) = points_of((both,)), points_of(apart)
    assert point.moved_bytes == one.moved_bytes + other.moved_bytes
    assert point.flops == one.flops + other.flops
    assert point.flops_per_s == point.flops / 2


def test_the_median_counts_and_what_is_no_time_does_not() -> None:
    noisy = replace(decode(1, 100, 1.0), t=(1.0, 9.0, 2.0))
    memory = Sample(family="memory", x={"what": "total"}, t=(1.0,), unit="bytes")
    assert [point.seconds for point in points_of((noisy, memory))] == [2.0]


def test_the_main_kernel_is_the_models_own_in_usual_blocks() -> None:
    others = [decode(1, 64, 1.0, heads=h, kv_heads=k) for h, k in ((32, 32), (8, 2), (64, 8))]
    large = decode(1, 64, 1.0, block_size=64)
    assert calibration(*others, large, decode(1, 64, 1.0)).main_key == KEY
    assert calibration(*others, large).main_key == replace(KEY, block_size=64)
    assert calibration(*others, model="nobody's").main_key == replace(KEY, heads=64)
    assert calibration().main_key is None


# ---------------------------------------------------------------------- figures


def test_roofline() -> None:
    picture = drawn("roofline", decode(64, 4096, 300e-6), product(4096, 300e-6))
    found = sorted(tuple(map(float, line.get_xydata()[0])) for line in marked(picture))
    work, moved = 4 * 32 * 128 * 64 * 4096, 2 * (4096 * 4096 + 6144 * 4096 + 4096 * 6144)
    assert found[0] == pytest.approx((4.0, work / 300e-6 / 1e12))
    product_flops = 2 * 4096 * 6144 * 4096
    assert found[1] == pytest.approx((product_flops / moved, product_flops / 300e-6 / 1e12))
    roofs = [line for line in picture.figure.axes[0].lines if line.get_marker() == "None"]
    slopes = [line.get_ydata()[0] / line.get_xdata()[0] for line in roofs[:3]]
    assert slopes == pytest.approx([5.0, 4.0, 4.8]), "TB/s: read, copy, datasheet"
    assert [float(line.get_ydata()[0]) for line in roofs[3:]] == [800.0, 989.0]
    assert picture.sheet.rows[0][3:5] == ("3.58", "71.6 %")


def test_bandwidth_against_context() -> None:
    samples = (
        decode(64, 4096, 300e-6),
        decode(64, 1024, 90e-6),
        decode(1, 4096, 12e-6),
        decode(64, 2048, 1.0, sliding_window=128),
        decode(64, 2048, 1.0, block_size=64),
    )
    picture = drawn("decode-bandwidth", *samples)
    one, many = marked(picture)
    assert one.get_xydata().tolist() == [[4096.0, pytest.approx(4096 * 4096 / 12e-6 / 1e12)]]
    assert list(many.get_xdata()) == [1024, 4096]
    assert many.get_ydata()[1] == pytest.approx(A_BYTES / 300e-6 / 1e12)
    (curve,) = (line for line in picture.figure.axes[0].lines if len(line.get_xdata()) == 3)
    assert list(curve.get_xdata()) == [1024, 2048, 4096], "the fit at every doubling"
    assert curve.get_ydata()[-1] == pytest.approx(A_BYTES / decode_s(FIT, [4096] * 64) / 1e12)
    assert picture.sheet.rows[-1][:5] == ("64", "4,096", "300 us", "3.58", "71.6 %")
    off = decode_s(FIT, [4096] * 64) / 300e-6 - 1
    assert picture.sheet.rows[-1][5] == f"{off * 100:+.1f} %"


def test_block_sizes_join_one_batch() -> None:
    samples = [
        decode(8, 4096, 60e-6 + 40e-6 / size, "block_sizes", block_size=size) for size in (1, 8)
    ]
    samples += [decode(8, 4096, 61e-6), decode(8, 512, 9e-6)]
    picture = drawn("block-sizes", *samples, baseline("A", "kvsim", 1e-3), decode(64, 4096, 1e-3))
    (line,) = marked(picture)
    assert list(line.get_xdata()) == [1, 8, 16]
    assert line.get_ydata()[0] == pytest.approx(8 * 4096 * 4096 / 100e-6 / 1e12)
    assert [row[4] for row in picture.sheet.rows] == ["1.6x", "1.07x", "1.00x"]


def test_kv_dtypes_gain_over_the_models_own() -> None:
    samples = (
        decode(8, 4096, 60e-6),
        decode(8, 4096, 40e-6, "kv_dtypes", kv_dtype="fp8_e4m3"),
        decode(8, 512, 5e-6, "kv_dtypes", kv_dtype="fp8_e4m3"),
    )
    (line,) = (x for x in marked(drawn("kv-dtypes", *samples)) if len(x.get_xdata()) == 1)
    assert line.get_xydata().tolist() == [[32768, pytest.approx(1.5)]]


def test_fitted_against_measured() -> None:
    right = decode_s(FIT, [4096] * 64)
    samples = (
        decode(64, 4096, right / 1.1),
        decode(64, 4096, right / 0.98, "ragged", role="heldout"),
        decode(64, 4096, right, heads=8, kv_heads=2),
    )
    picture = drawn("fitted", *samples)
    filled, hollow = marked(picture)
    assert filled.get_xydata()[0] == pytest.approx([right / 1.1 * 1e6, right * 1e6])
    assert hollow.get_markerfacecolor() == "none"
    assert [row[:4] for row in picture.sheet.rows] == [
        ("decode attention", "fit", "1", "10.0 %"),
        ("ragged decode attention", "held out", "1", "2.00 %"),
    ], "no fit, no error: other heads are left out"
    assert [row[-1] for row in picture.sheet.rows] == ["+10.0 %", "-2.0 %"]


def test_errors_are_sorted_and_goals_are_crosses() -> None:
    right = decode_s(FIT, [512] * 8)
    errors = [0.05, -0.01, 0.02]
    samples = [decode(8, 512, right / (1 + e), "ragged", role="heldout") for e in errors]
    picture = drawn("residuals", *samples)
    curve, goals = picture.figure.axes[0].lines
    assert curve.get_xdata() == pytest.approx([100 / 3, 200 / 3, 100])
    assert curve.get_ydata() == pytest.approx([1, 2, 5])
    assert goals.get_xydata().tolist() == [[50, 2.0], [95, 6.0]]
    assert [row[-1] for row in picture.sheet.rows] == ["+5.0 %", "+2.0 %", "-1.0 %"]


def test_a_time_of_a_table_is_read_off_its_neighbours() -> None:
    m = (64, 128, 256, 512)
    straight = GemmTable(n=1, k=1, dtype="bf16", m=m, t_s=tuple(float(x) for x in m))
    assert [e for _, e in left_out_errors(straight)] == pytest.approx([0.0, 0.0])
    bent = replace(straight, t_s=(64.0, 160.0, 256.0, 512.0))
    assert left_out_errors(bent)[0] == (128, pytest.approx(128 / 160 - 1))
    samples = [product(m, 1e-4 * m) for m in (64, 128, 256)]
    table = GemmTable(n=6144, k=4096, dtype="bf16", m=(64, 256), t_s=(64e-4, 256e-4))
    seen = drawn("residuals", *samples, gemm_tables=(replace(bent, n=6144, k=4096),))
    assert list(seen.figure.axes[0].lines[0].get_ydata()) == pytest.approx(
        [100 * (sqrt(160 * 512) / 256 - 1), 20.0]
    )
    samples[1] = replace(samples[1], role="heldout", t=(160e-4,))
    held_out = drawn("residuals", *samples, gemm_tables=(table,))
    assert list(held_out.figure.axes[0].lines[0].get_ydata()) == pytest.approx([20.0])
    scaled = calibration(gemm_tables=(bent,))
    assert FIGURES["residuals"][0](scaled) is None, "a table without samples has no errors"


def test_linear_layers_reach_a_share_of_the_nearer_roof() -> None:
    few, many = product(16, 20e-6), product(8192, 600e-6)
    shown = calibration(few, many)
    moved, flops = 2 * (16 * 4096 + 6144 * 4096 + 16 * 6144), 2 * 8192 * 6144 * 4096
    expected = [moved / 5e12 / 20e-6, flops / 8e14 / 600e-6]
    assert [roof_share(shown, p) for p in shown.points] == pytest.approx(expected)
    picture = drawn("linear-layers", few, many, product(16, 5e-6, size=2))
    (line,) = marked(picture, axes=1)
    assert line.get_ydata() == pytest.approx([100 * x for x in expected])
    assert [row[2] for row in picture.sheet.rows] == ["1", "1", "2"], "shards are in the table"
    alone = drawn("linear-layers", few, ceilings={})
    assert len(alone.figure.axes) == 1


def test_bars_are_shares_of_the_ceiling() -> None:
    chunk = attention(
        "baselines", 1e-3, role="baseline", case="P", name="kvsim", chunks=[[8192, 0]]
    )
    samples = (
        baseline("A block 16", "sdpa", 400e-6),
        baseline("A block 16", "kvsim", 300e-6),
        chunk,
    )
    picture = drawn("baselines", *samples)
    widths = [bar.get_width() for bar in picture.figure.axes[0].patches]  # type: ignore[attr-defined]
    copy = A_BYTES / 4e12
    prefill = 4 * 32 * 128 * 8192**2 / 2 / 8e14
    expected = [100 * x for x in (copy / 300e-6, copy / 400e-6, prefill / 1e-3)]
    assert widths == pytest.approx(expected), "ours first"
    assert picture.sheet.rows[1][-1] == "1.3x"


def test_the_price_of_paging() -> None:
    samples = (baseline("A", "kvsim", 306e-6), baseline("A", "contiguous", 300e-6))
    picture = drawn("price-of-paging", *samples, baseline("B", "contiguous", 1e-3))
    (bar,) = picture.figure.axes[0].patches
    assert bar.get_width() == pytest.approx(2.0)  # type: ignore[attr-defined]
    assert picture.sheet.rows == (("A", "306 us", "300 us", "+2.0 %"),)


def test_transfers_in_one_piece_and_in_blocks() -> None:
    samples = (link(1 << 20, 1e-4), link(1 << 28, 1e-2), link(1 << 20, 1e-3, "blockwise", 16))
    picture = drawn("transfers", *samples)
    whole, blocks = marked(picture, 0)[0], marked(picture, 1)[0]
    assert whole.get_ydata() == pytest.approx([(1 << 20) / 1e-4 / 1e9, (1 << 28) / 1e-2 / 1e9])
    assert blocks.get_ydata() == pytest.approx([(1 << 20) / 1e-3 / 1e9])
    assert picture.sheet.rows[-1][2:5] == ("blockwise", "1 MiB", "16")


@pytest.mark.parametrize("name", FIGURES)
def test_no_points_no_figure(name: str) -> None:
    memory = Sample(family="memory", x={"what": "total"}, t=(1.0,), unit="bytes")
    anchor = decode(1, 64, 1e-6, role="anchor")
    assert FIGURES[name][0](calibration(memory, anchor)) is None


def test_what_is_not_measured_says_so_in_every_title_and_caption() -> None:
    samples = (decode(64, 4096, 300e-6), product(16, 20e-6), link(1 << 20, 1e-4))
    for provenance in PROVENANCES:
        pictures = calibration_pictures(calibration(*samples, provenance=provenance))
        assert len(pictures) == 6
        for picture in pictures:
            stamp, caption = picture.title.split("\n")[0], picture.caption
            assert (provenance.upper() in stamp) == (provenance != "measured")
            assert caption.startswith(provenance.capitalize()) == (provenance != "measured")


# ---------------------------------------------------------------------- goals


def answers(*samples: Sample, gpu: str = "h200") -> dict[str, tuple[str, bool | None]]:
    copied = Sample(family="ceilings", x={"what": "copy", "bytes": 4e12}, t=(1.0,))
    found = aims(calibration(copied, *samples, gpu=gpu))
    return {f"{one.case} {one.aim}": (one.found, one.met) for one in found}


def test_goals_in_words() -> None:
    samples = (
        baseline("A block 16", "kvsim", 305e-6),
        baseline("A block 16", "contiguous", 300e-6),
    )
    assert answers(*samples) == {
        "A block 16 at least 90 % of the copy rate": ("88.0 %", False),
        "A block 16 at most 3 % longer than the contiguous kernel": ("+1.7 %", True),
    }
    fp8 = baseline("A fp8 KV", "kvsim", 200e-6, kv_dtype="fp8_e4m3")
    found = answers(samples[0], fp8)
    assert found["A fp8 KV at least 1.3x as fast as A block 16"] == ("1.52x", True)


def test_absolute_goals_are_for_the_card_that_they_were_set_for() -> None:
    one = replace(baseline("B 1 x 4k", "kvsim", 14e-6), x=decode(1, 4096, 1.0).x)
    one = replace(one, x={**one.x, "case": "B 1 x 4k", "name": "kvsim"})
    name = "B 1 x 4k at most 15.0 us on an H200"
    assert answers(one)[name] == ("14.0 us", True)
    assert answers(one, gpu="a100")[name] == ("14.0 us", None)


# ---------------------------------------------------------------------- axes


def test_ticks_and_series() -> None:
    assert [short(x) for x in (512, 1024, 1536, 1 << 20)] == ["512", "1k", "1,536", "1M"]
    assert spread([1, 2, 4, 8, 16, 32, 64, 128, 256]) == [1, 4, 8, 32, 64, 256]
    assert spread([1, 2]) == [1, 2]
    kept = thinned([2.0**i for i in range(14)])
    assert kept[-1] == 8192
    assert min(np.diff(np.log2(kept))) >= 13 / 6 * 0.99
    assert thinned([1.0, 24.0, 64.0]) == [1.0, 64.0]
    assert thinned([3.0, 6.0]) == [3.0, 6.0]
