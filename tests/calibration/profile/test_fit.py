"""Fits of an invented card whose times come from an event model, and of a real card's kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.calibration.profile import forms, validation
from kvsim.calibration.profile.fit import Fitted, fit_profile, refit
from kvsim.calibration.profile.fit_attention import (
    fitted_overlap,
    lengths_of,
    prefill_kernel,
    solve_decodes,
    solve_prefills,
)
from kvsim.calibration.profile.fit_gemm import gemm_rooflines, gemm_tables
from kvsim.calibration.profile.fit_kernel import Kernel, Solved, solve_kernel
from kvsim.calibration.profile.loads import DecodeLoad, busiest
from kvsim.calibration.profile.robust import Coefficient, Point, points_of, solve
from kvsim.calibration.profile.store import read_profile, read_samples, write_profile
from kvsim.calibration.profile.validation import errors_pct, gemm_residuals
from kvsim.calibration.profile.values import (
    DecodeFit,
    GemmFit,
    GemmTable,
    Profile,
    Residual,
    Sample,
)
from kvsim.kernels.split import target_items
from support.measured import KERNELS
from support.synthetic_card import Card
from support.synthetic_samples import HEADS, card_samples, decode_x

CARD = Card()
Columns = dict[str, np.ndarray]


@pytest.fixture(scope="module", name="samples")
def samples_fixture() -> tuple[Sample, ...]:
    return card_samples(CARD)


@pytest.fixture(scope="module", name="fitted")
def fitted_fixture(samples: tuple[Sample, ...]) -> Fitted:
    return fit_profile(samples, hardware=CARD.hardware())


@pytest.fixture(scope="module", name="decodes")
def decodes_fixture(samples: tuple[Sample, ...]) -> Solved:
    """The decode kernel with all heads."""
    return solve_decodes(points_of(samples))[0][0]


def profile_of(fitted: Fitted) -> Profile:
    return Profile(
        id="invented",
        provenance="synthetic",
        hardware=CARD.hardware(),
        software={},
        run={},
        model="llama-3.1-8b",
        ceilings=fitted.ceilings,
        decode=fitted.decode,
        prefill=fitted.prefill,
        gemm_tables=fitted.gemm_tables,
        gemm=fitted.gemm,
        lines=fitted.lines,
        residuals=fitted.residuals,
        missing=fitted.missing,
    )


def of(fitted: Fitted, family: str, split: str) -> Residual:
    (found,) = [r for r in fitted.residuals if (r.family, r.split) == (family, split)]
    return found


def errors(kernel: Kernel, solved: Any, points: Sequence[Point]) -> tuple[float, float]:
    """Median and 95th percentile, per cent."""
    found = errors_pct(kernel.predicted_s(solved, points), [point.t_s for point in points])
    return float(np.median(found)), float(np.percentile(found, 95))


# ---------------------------------------------------------------------- the invented card


@pytest.mark.parametrize(
    ("family", "split", "median_pct", "p95_pct"),
    [
        ("decode", "fit", 1, 4),
        ("ragged", "heldout", 2, 6),
        ("decode", "leave_context_out", 2, 6),
        ("decode", "leave_batch_out", 2, 6),
        ("decode", "leave_heads_out", 2, 10),
        ("kv_dtypes", "fit", 2, 8),
        ("prefill", "heldout", 3, 8),
        ("prefill", "leave_context_out", 3, 9),
        ("prefill", "leave_chunk_out", 3, 6),
        ("prefill", "leave_heads_out", 3, 8),
        ("mixed", "heldout", 3, 8),
        ("gemm", "heldout", 1, 3),
        ("gemm_roofline", "leave_layer_out", 6, 22),
        ("elementwise", "fit", 1, 2),
        ("pcie", "fit", 1, 2),
    ],
)
def test_points_that_the_fit_has_not_seen(
    fitted: Fitted, family: str, split: str, median_pct: float, p95_pct: float
) -> None:
    found = of(fitted, family, split)
    assert found.num_points >= 10
    assert found.median_pct <= median_pct
    assert found.p95_pct <= p95_pct


def test_a_staircase_cannot_be_guessed_between_its_steps(fitted: Fitted) -> None:
    """Held-out m are met, for every tile of 128 rows was measured; left-out tiles are not."""
    assert (
        of(fitted, "gemm", "heldout").p95_pct < 3 < 15 < of(fitted, "gemm", "leave_m_out").p95_pct
    )


def without_waves(load: DecodeLoad, *coefficients: Any) -> Any:
    """The smooth form: bytes at the card's rate, whatever the busiest slot has."""
    return forms.decode_law(load._replace(busiest_bytes=load.busiest_bytes * 1e-9), *coefficients)


def test_without_the_busiest_slot_uneven_batches_are_missed(decodes: Solved) -> None:
    """From even batches alone the form predicts uneven ones; the smooth one misses by 6 %, 13 %."""
    kernel, unseen = decodes.kernel, decodes.kernel.of("heldout")
    even = [point for point in kernel.of("fit") if point.family == "decode"]
    smooth = replace(kernel, law=without_waves)
    median, p95 = errors(kernel, solve_kernel(kernel, even), unseen)
    smooth_median, smooth_p95 = errors(smooth, solve_kernel(smooth, even), unseen)
    assert (median < 1, p95 < 4) == (True, True)
    assert (smooth_median > 5, smooth_p95 > 12) == (True, True)


def test_uneven_batches_in_the_fit_do_not_save_the_smooth_form(decodes: Solved) -> None:
    kernel, unseen = decodes.kernel, decodes.kernel.of("heldout")
    smooth = replace(kernel, law=without_waves)
    assert errors(kernel, decodes.solution, unseen)[1] < 4
    assert errors(smooth, solve_kernel(smooth, smooth.of("fit")), unseen)[1] > 12


def test_coefficients_are_the_cards(fitted: Fitted) -> None:
    """As far as the form and the event model mean the same by them."""
    decode, prefill = fitted.decode[0], fitted.prefill[0]
    assert decode.read_bytes_per_s == pytest.approx(CARD.read_bytes_per_s, rel=0.03)
    assert decode.merge_s == pytest.approx(CARD.merge_step_s, rel=0.15)
    assert prefill.program_flops_per_s == pytest.approx(CARD.program_flops_per_s, rel=0.02)
    assert prefill.overlap == pytest.approx(CARD.overlap, abs=0.08)
    assert decode.seen == {
        "batch": (1, 256),
        "context_tokens": (decode.seen["context_tokens"][0], 65536),
        "total_tokens": (64, 1 << 20),
    }
    assert prefill.seen == {"new_tokens": (16, 8192), "past_tokens": (0, 32768)}


def test_lines_are_the_cards(fitted: Fitted) -> None:
    """Each within four of its own standard deviations."""
    lines = {line.name: line for line in fitted.lines}
    truth = {
        "rms_norm": {"t0_s": 2.5e-6, "bytes_per_s": 3e12},
        "pcie h2d pinned": {"t0_s": 9e-6, "bytes_per_s": 5.2e10},
        "pcie h2d pinned blockwise": {"t0_s": 1.2e-5, "unit_s": 1.5e-6},
        "block_copy": {"t0_s": 3e-6, "unit_s": 1e-8, "bytes_per_s": 3e12},
        "host prepare": {"t0_s": 2e-4, "unit_s": 3e-6},
        "graph empty_nodes graph": {"t0_s": 8e-6, "unit_s": 1e-6},
    }
    for name, coefficients in truth.items():
        for field, value in coefficients.items():
            sigma = lines[name].uncertainty[field]
            assert getattr(lines[name], field) == pytest.approx(value, rel=4 * sigma + 0.005), name
            assert 1e-4 < sigma < 0.2
    assert lines["rms_norm"].bytes_per_token == 16384
    assert lines["rms_norm"].unit_s == 0
    assert lines["host prepare"].bytes_per_s == inf
    link = lines["pcie h2d pinned"].bytes_per_s
    assert lines["pcie h2d pinned gathered"].bytes_per_s == link
    assert set(lines) == {*truth, "sample", "host upload", "host download"} | {
        "graph empty_nodes eager",
        "pcie h2d pinned gathered",
    }


def test_ceilings(fitted: Fitted) -> None:
    """The noise of the median of 20 is 0.6 %."""
    names = ["copy_bytes_per_s", "matmul_bf16_flops_per_s", "read_bytes_per_s"]
    assert list(fitted.ceilings) == names
    copy = fitted.ceilings["copy_bytes_per_s"]
    assert copy["value"] == pytest.approx(CARD.copy_bytes_per_s, rel=0.02)
    assert copy["n"] == 20
    assert 0.005 < copy["iqr"] / copy["value"] < 0.05


def test_of_several_samples_the_fastest_is_the_ceiling() -> None:
    x = {"what": "read", "dtype": "bf16", "bytes": 1000, "flops": 0}
    samples = [
        Sample(family="ceilings", x=x, t=t) for t in ((4.0, 4.0, 5.0), (2.0, 1.0, 2.0), (9.0,))
    ]
    found = fit_profile(samples, hardware=CARD.hardware()).ceilings
    assert found == {"read_bytes_per_s": {"value": 500.0, "n": 3, "iqr": 250.0}}


# ---------------------------------------------------------------------- the same again


def test_a_refit_from_stored_samples_gives_the_same(
    fitted: Fitted, samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    path = tmp_path / "invented.json"
    write_profile(profile_of(fitted), samples, path)
    stored, again = read_profile(path), tmp_path / "again.json"
    write_profile(refit(stored, read_samples(path)), read_samples(path), again)
    assert again.read_bytes() == path.read_bytes()


def test_one_other_time_gives_other_coefficients(samples: tuple[Sample, ...]) -> None:
    decodes = [sample for sample in samples if sample.family == "decode"]
    slower = replace(decodes[5], t=tuple(1.05 * t for t in decodes[5].t))
    first = fit_profile(decodes, hardware=CARD.hardware()).decode[0]
    other = fit_profile([*decodes[:5], slower, *decodes[6:]], hardware=CARD.hardware()).decode[0]
    for name in ("t0_s", "read_bytes_per_s", "program_bytes_per_s", "item_s", "merge_s"):
        a, b = getattr(first, name), getattr(other, name)
        assert a != b
        assert a == pytest.approx(b, rel=0.1)


def test_a_wild_time_leads_nobody_astray(samples: tuple[Sample, ...]) -> None:
    """One of 119 points ten times too slow: least squares would move, soft L1 does by 2 %."""
    decodes = [sample for sample in samples if sample.family == "decode"]
    wild = replace(decodes[40], t=tuple(10 * t for t in decodes[40].t))
    first = fit_profile(decodes, hardware=CARD.hardware()).decode[0]
    other = fit_profile([*decodes[:40], wild, *decodes[41:]], hardware=CARD.hardware()).decode[0]
    assert other.read_bytes_per_s == pytest.approx(first.read_bytes_per_s, rel=0.02)
    assert other.t0_s == pytest.approx(first.t0_s, rel=0.02)


def test_noisy_points_are_left_out_where_others_are_enough(samples: tuple[Sample, ...]) -> None:
    decodes = [sample for sample in samples if sample.family == "decode"]
    noisy = [replace(s, t=tuple(2 * t for t in s.t), flags=("noisy",)) for s in decodes[:30]]
    hardware = CARD.hardware()
    clean = fit_profile(decodes[30:], hardware=hardware).decode[0]
    assert fit_profile([*noisy, *decodes[30:]], hardware=hardware).decode[0] == clean
    few = fit_profile([*noisy, *decodes[30:37]], hardware=hardware).decode[0]
    assert few.t0_s > 1.5 * clean.t0_s


# ---------------------------------------------------------------------- what shares, what lacks


def test_a_kernel_with_few_points_fits_only_what_is_its_own(fitted: Fitted) -> None:
    whole, shard, fp8 = fitted.decode
    assert (whole.key.heads, shard.key.heads, fp8.key.kv_dtype) == (32, 8, "fp8_e4m3")
    assert (fp8.t0_s, fp8.p, fp8.item_s) == (whole.t0_s, whole.p, whole.item_s)
    assert fp8.program_bytes_per_s != whole.program_bytes_per_s
    assert fp8.merge_s != whole.merge_s
    assert fp8.uncertainty["t0_s"] == whole.uncertainty["t0_s"]
    assert fp8.uncertainty["read_bytes_per_s"] > whole.uncertainty["read_bytes_per_s"]
    assert shard.t0_s != whole.t0_s


def test_what_is_missing_says_why(samples: tuple[Sample, ...], fitted: Fitted) -> None:
    assert fitted.missing == (
        "block_sizes: not measured",
        "all_reduce: one GPU",
        "baselines: not measured",
    )
    few = [s for s in samples if s.family in ("decode", "mixed")][-47:]
    found = fit_profile(few, hardware=replace(CARD.hardware(), count=2))
    assert found.decode == ()
    assert "all_reduce: not measured" in found.missing
    assert (
        "paged 8/2 heads of 128, bf16 KV bf16, block 16: 7 points, a fit needs 8" in found.missing
    )
    assert "mixed: paged 32/8 heads of 128, bf16 KV bf16, block 16 has no fit" in found.missing
    nothing = fit_profile([], hardware=CARD.hardware())
    assert len(nothing.missing) == 16
    assert nothing.residuals == ()


def test_points_of_another_launch_are_named(samples: tuple[Sample, ...]) -> None:
    decodes = [
        sample for sample in samples if sample.family == "decode" and sample.x["heads"] == 32
    ]
    other = [replace(s, x={**s.x, "tile_tokens": 32}) for s in decodes[:3]]
    found = fit_profile([*other, *decodes[3:]], hardware=CARD.hardware())
    assert found.decode == fit_profile(decodes[3:], hardware=CARD.hardware()).decode
    assert any(
        entry.endswith("3 points of another launch are not in the fit") for entry in found.missing
    )


def test_refit_keeps_reasons_that_samples_do_not_tell(fitted: Fitted) -> None:
    profile = replace(
        profile_of(fitted), missing=("gemm: budget of 60 s", "pcie: broken"), run={"a": 1}
    )
    anchors = [
        Sample(family="decode", x={"n": n}, t=(t,), role="anchor", flags=(f"anchor:{when}",))
        for n, when, t in ((1, "start", 1.0), (1, "end", 1.02), (2, "start", 2.0), (2, "end", 2.0))
    ]
    found = refit(profile, anchors)
    assert found.missing[:2] == ("ceilings: not measured", "ragged: not measured")
    assert "gemm: budget of 60 s" in found.missing
    assert "pcie: broken" in found.missing
    assert found.run == {"a": 1, "drift_pct": 1.0}
    assert found.decode == ()


def test_the_overlap_is_a_weighted_median() -> None:
    """Half of the shorter launch is hidden in all but one step."""
    parts = [(1.0, 4.0, 4.5), (6.0, 2.0, 7.0), (3.0, 3.0, 4.5), (2.0, 2.0, 3.9)]
    assert fitted_overlap(parts) == 0.5
    assert fitted_overlap([(1.0, 1.0, 2.5)]) == 0.0
    assert fitted_overlap([(1.0, 2.0, 1.5)]) == 1.0
    assert fitted_overlap([]) == 0.0


def test_a_coefficient_that_no_point_tells_has_uncertainty_one(fitted: Fitted) -> None:
    """The invented chunks compute; how fast they would read shows in none of them."""
    assert fitted.prefill[0].uncertainty["read_bytes_per_s"] > 0.5
    assert fitted.prefill[0].uncertainty["program_flops_per_s"] < 0.02
    told, untold = Coefficient("a", (2.0,), (0.1, 10.0)), Coefficient("b", (2.0,), (0.1, 10.0))
    loads = np.array([1.0, 2.0, 3.0])
    found = solve(lambda load, a, b: a * load, loads, [3.03, 5.94, 9.0], (told, untold))
    assert found.values["a"] == pytest.approx(3, rel=1e-3)
    assert found.uncertainty["b"] == 1
    # +1, -1 and 0 % in three points, for two coefficients: sqrt(2) % over sqrt(3), soft L1 4 % more
    assert found.uncertainty["a"] == pytest.approx(0.01 * np.sqrt(2 / 3), rel=0.05)


# ---------------------------------------------------------------------- what is left out


def test_left_out_points_take_no_part(decodes: Solved, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch size is predicted once, by a fit that has none of its points."""
    seen: list[set[int]] = []

    def spy(kernel: Kernel, points: Sequence[Point], **more: Any) -> Any:
        seen.append({len(lengths_of(point.x)) for point in points})
        return decodes.solution

    monkeypatch.setattr(validation, "solve_kernel", spy)
    label = validation.DECODE_LABELS["leave_batch_out"]
    found = validation.left_out_errors(decodes, label)
    batches = {1, 2, 4, 8, 16, 32, 64, 128, 256}
    assert seen == [batches - {batch} for batch in sorted(batches)]
    assert len(found) == len(decodes.kernel.of("fit"))


def test_a_shape_is_predicted_from_the_others() -> None:
    """Of two shapes one takes twice its roofline: from each other they are 100 % and 50 % off."""
    fit = GemmFit(dtype="bf16", t0_s=4e-6, flops_per_s=5e14, read_bytes_per_s=3e12, p=2.0)
    rows = (1, 16, 64, 128, 256, 512, 1024, 2048)
    tables = [
        GemmTable(
            n=n,
            k=4096,
            dtype="bf16",
            m=rows,
            t_s=tuple(times * forms.gemm_s(fit, m, n, 4096) for m in rows),
        )
        for n, times in ((4096, 1), (8192, 2))
    ]
    fits, (_, left_out) = gemm_rooflines(tables)
    assert (len(fits), left_out.num_points) == (1, 16)
    assert left_out.median_pct > 45
    assert left_out.worst_pct > 95
    alone, (seen,) = gemm_rooflines(tables[:1])
    assert seen.worst_pct < 0.1
    assert alone[0].flops_per_s == pytest.approx(5e14, rel=0.01)


def test_labels() -> None:
    x = {"seq_lens": [[100, 3], [5000, 1]], "chunks": [[16, 0], [400, 700]]}
    decode, prefill = validation.DECODE_LABELS, validation.PREFILL_LABELS
    assert decode["leave_context_out"](x) == 3  # 1,325 on average
    assert decode["leave_batch_out"](x) == 4
    assert prefill["leave_context_out"](x) == 3
    assert prefill["leave_chunk_out"](x) == 400


def test_heads_are_predicted_from_the_nearest_layout() -> None:
    """The far layout is twice as slow; the near ones predict each other, and the far one badly."""
    points = []
    for heads, times in (((32, 8), 1), ((16, 4), 1), ((4, 1), 2)):
        for batch in (1, 4, 16, 64):
            for context in (200, 1000, 4000, 16000):
                lengths = [context] * batch
                t_s = times * CARD.decode_s(heads, lengths)
                points.append(Point(decode_x(CARD, heads, lengths), t_s, "decode"))
    found = np.array(validation.heads_out_errors(solve_decodes(points)[0]))
    assert len(found) == 48
    assert found[:32].max() < 15
    assert found[32:].min() > 35


# ---------------------------------------------------------------------- a real card


@pytest.fixture(name="folder")
def folder_fixture(shared_file: Callable[[str], Path]) -> Path:
    return shared_file(f"{KERNELS}/attention.csv.gz").parent


def columns_of(path: Path) -> Columns:
    rows = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
    return {name: rows[name] for name in rows.dtype.names}


def role_of(number: int) -> str:
    """Every third is held out."""
    return "fit" if number % 3 else "heldout"


def test_decode_of_a_foreign_kernel(folder: Path) -> None:
    """FlashAttention 2 on an RTX PRO 6000: half of the unseen batches to 3 %, 95 % to 13 %.

    It is not cut as ours is: one sequence up to 64 keys has no second launch (8 us, not 12), and
    its own rule decides how often to split; within 5 us to 11 ms nothing else is missed by more
    than 20 %.
    """
    columns = columns_of(folder / "attention.csv.gz")
    only = columns["prefill_chunk"] == 0
    x = decode_x(CARD, HEADS, [1]) | {"slots": 188, "tile_tokens": 128, "min_chunk_tokens": 128}
    x["target_items"] = target_items(188, 8)
    shapes = zip(*(columns[n][only] for n in ("n_decode", "kv_decode", "time_us")), strict=True)
    points = [
        Point({**x, "seq_lens": [[int(context), int(batch)]]}, us * 1e-6, "decode", role_of(i))
        for i, (batch, context, us) in enumerate(shapes)
    ]
    solved = solve_decodes(points)[0][0]
    unseen = solved.kernel.of("heldout")
    median, p95 = errors(solved.kernel, solved.solution, unseen)
    print(f"decode of a real card, {len(unseen)} unseen: median {median:.1f} %, P95 {p95:.1f} %")
    assert (median < 3, p95 < 13) == (True, True)
    assert solved.solution.values["read_bytes_per_s"] == pytest.approx(1.5e12, rel=0.05)
    long = [p for p in unseen if p.x["seq_lens"][0][0] >= 2048]
    assert errors(solved.kernel, solved.solution, long)[1] < 6


def prefill_points(folder: Path) -> list[Point]:
    """Pure prefills; 64 rows of queries are 16 tokens of four heads."""
    columns = columns_of(folder / "attention.csv.gz")
    only = columns["n_decode"] == 0
    x = {k: v for k, v in decode_x(CARD, HEADS, [1]).items() if k != "seq_lens"}
    x |= {"query_tokens": 16, "tile_tokens": 128, "slots": 2 * 188}
    shapes = zip(
        *(columns[n][only] for n in ("prefill_chunk", "kv_prefill", "time_us")), strict=True
    )
    return [
        Point({**x, "chunks": [[int(new), int(past)]]}, us * 1e-6, "prefill", role_of(i))
        for i, (new, past, us) in enumerate(shapes)
    ]


def test_prefill_of_a_foreign_kernel(folder: Path) -> None:
    """The same card's chunks; given two programs a multiprocessor, the fit finds that one counts.

    FlashAttention 2 takes the tiles of one head after another, the shortest first. Ours, from the
    longest on, meets it to 3 % and 8 %; in its own order it is met to 3 % and 5 %.
    """
    points = prefill_points(folder)
    solved = solve_prefills(points, 188)[0][0]
    assert solved.kernel.constants == (16, 128, 188)
    unseen = solved.kernel.of("heldout")
    median, p95 = errors(solved.kernel, solved.solution, unseen)
    own = replace(solved.kernel, load_of=lambda x: _head_after_head(solved.kernel, x))
    own_median, own_p95 = errors(own, solve_kernel(own, own.of("fit")), unseen)
    print(f"prefill of a real card, {len(unseen)} unseen: median {median:.1f} %, P95 {p95:.1f} %;")
    print(f"in its own order: median {own_median:.1f} %, P95 {own_p95:.1f} %")
    assert (median < 3.5, p95 < 9) == (True, True)
    assert (own_median < 3, own_p95 < 5) == (True, True)


def _head_after_head(kernel: Kernel, x: Any) -> Any:
    """FlashAttention 2's order: tiles of one head from the first on, then the next head's."""
    ((new, past),) = x["chunks"]
    ends = [min(first + 16, new) + past for first in range(0, new, 16)]
    keys = [-(-end // 128) * 128 for end in ends]
    order = [(count, 1) for _ in range(8) for count in keys]
    tile = 4 * 32 / 8 * 128 * 16
    return kernel.load_of(x)._replace(busiest_flops=tile * busiest(order, 188))


def test_without_waves_a_real_cards_chunks_are_missed(folder: Path) -> None:
    """As if the longest program alone set the pace: 5 % and more than 20 %."""
    (solved,), _ = solve_prefills(prefill_points(folder), 188)
    key, constants, points = solved.kernel.key, solved.kernel.constants, solved.kernel.points

    def load_of(x: Any) -> Any:
        load = solved.kernel.load_of(x)
        ((new, past),) = x["chunks"]
        longest = 4 * 32 / 8 * 128 * 16 * -(-(new + past) // 128) * 128
        return load._replace(busiest_flops=longest, waves=1)

    smooth = replace(prefill_kernel(key, constants, points), load_of=load_of)
    median, p95 = errors(smooth, solve_kernel(smooth, smooth.of("fit")), smooth.of("heldout"))
    assert (median > 4, p95 > 20) == (True, True)


def test_products_of_a_real_card_are_a_staircase(folder: Path) -> None:
    """cuBLAS, 152 m to 2,048 of four layers: from 28 the others are met to 1 % and 3 %.

    With m up to the next measured one, that is; interpolated they are missed by 2 % and 12 %.
    """
    columns = columns_of(folder / "dense.csv.gz")
    measured = {
        1,
        2,
        4,
        8,
        16,
        32,
        48,
        64,
        96,
        128,
        192,
        256,
        320,
        384,
        448,
        *range(512, 2049, 128),
    }
    names = {"qkv_proj": 6144, "o_proj": 4096, "gate_up_proj": 28672, "down_proj": 14336}
    points = [
        Point(
            {"m": int(m), "n": names[layer], "k": 4096, "dtype": "bf16"},
            us * 1e-6,
            "gemm",
            "fit" if int(m) in measured else "heldout",
        )
        for layer, m, us in zip(*columns.values(), strict=True)
        if layer in names
    ]
    tables = gemm_tables(points)
    assert [len(table.m) for table in tables] == [len(measured)] * 4
    found, left_out = gemm_residuals(tables, points)
    print(f"products of a real card: median {found.median_pct:.1f} %, P95 {found.p95_pct:.1f} %")
    assert (found.median_pct < 1, found.p95_pct < 3) == (True, True)
    assert left_out.p95_pct > 8
    assert np.percentile(_interpolated_errors(tables, points), 95) > 9


def _interpolated_errors(tables: Sequence[GemmTable], points: Sequence[Point]) -> list[float]:
    """Straight in both logarithms, at m itself."""
    by_n = {table.n: table for table in tables}
    unseen = [point for point in points if point.role == "heldout"]
    found = []
    for point in unseen:
        table = by_n[point.x["n"]]
        logs = np.log(table.m), np.log(table.t_s)
        found.append(float(np.exp(np.interp(np.log(point.x["m"]), *logs))))
    return errors_pct(found, [point.t_s for point in unseen])


def test_a_profile_predicts_with_what_it_stores(fitted: Fitted, decodes: Solved) -> None:
    """The form with stored coefficients is the law that was fitted."""
    fit: DecodeFit = fitted.decode[0]
    lengths = [5000, 3000, 100]
    point = Point(decode_x(CARD, HEADS, lengths), 1.0, "ragged")
    predicted = decodes.kernel.predicted_s(decodes.solution, [point])[0]
    assert forms.decode_s(fit, lengths) == pytest.approx(predicted, rel=1e-12)
