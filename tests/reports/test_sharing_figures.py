"""Prefix-cache curve and sharing: drawn for runs that share, and only for those."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.reports.cache_curve import curve_png, thinned
from kvsim.reports.figures.prefix_curve import prefix_curve
from kvsim.reports.figures.sharing import NUM_BINS, sharing
from kvsim.reports.picture import Picture
from kvsim.sim.plan import Plan, make_plan
from kvsim.sim.server import resolve
from kvsim.traces.cache_curve import CacheCurve, cache_curve
from kvsim.traces.intake import Intake, take_in
from support.more_of_a_plan import with_more

GIB = 1 << 30


def shared(*, caching: bool) -> Plan:
    """100 prompts, each with one of three common beginnings, on a pool of 1,200 blocks."""
    taken = take_in(
        Intake(
            workload="sharegpt",
            num_requests=100,
            rate_per_s=6.0,
            prefix_groups=3,
            prefix_tokens=600,
        )
    )
    server = resolve(
        model=load_model("llama-3.1-8b"),
        gpu=load_gpu("a100"),
        trace=taken.trace,
        flags={"max_num_seqs": 16, "enable_prefix_caching": caching},
        step_cost_spec="affine:0.02,0.0001,0.0000001",
        num_gpu_blocks_override=1200,
    )
    plan = make_plan(server, taken=taken, baselines=())
    return with_more(plan, cache_curve=cache_curve(taken.trace))


@pytest.fixture(scope="module")
def sharer() -> Plan:
    return shared(caching=True)


def curve_of(plan: Plan) -> CacheCurve:
    curve = getattr(plan, "cache_curve")  # noqa: B009
    assert isinstance(curve, CacheCurve)
    return curve


def drawn(picture: Picture | None) -> Picture:
    assert picture is not None
    return picture


def test_the_pool_and_the_simulation_stand_on_the_curve(sharer: Plan) -> None:
    picture, curve = drawn(prefix_curve(sharer)), curve_of(sharer)
    line, pool, simulated = picture.figure.axes[0].lines
    assert set(pool.get_xdata()) == {1199}
    assert list(simulated.get_xdata()) == [1199]
    found = sharer.chosen.summary.prefix_hit_ratio
    assert 0.3 < found < 1
    assert list(simulated.get_ydata()) == [100 * found]
    for size, ratio in zip(*line.get_data(), strict=True):
        assert ratio == pytest.approx(100 * curve.token_ratio(int(size)))
    assert max(np.asarray(line.get_xdata())) >= 2 * 1199, "the pool is not at the edge"
    assert f"{curve.token_ratio(1199) * 100:.1f} % at the pool's 1,199 blocks" in picture.alt


def test_the_pool_is_among_the_table_s_sizes(sharer: Plan) -> None:
    sizes = [row[0] for row in drawn(prefix_curve(sharer)).sheet.rows]
    assert "1,199" in sizes
    assert sizes[-1] == "unlimited"


def test_without_caching_nothing_was_found() -> None:
    plan = shared(caching=False)
    picture = drawn(prefix_curve(plan))
    assert len(picture.figure.axes[0].lines) == 2, "no diamond"
    assert "Prefix caching is off" in picture.caption
    assert "simulation" not in picture.alt
    assert sharing(plan) is None


def test_long_curves_are_thinned_without_bending() -> None:
    sizes = np.arange(1, 100_001)
    curve = CacheCurve(
        block_tokens=16,
        convention="floor",
        input_tokens=1_000_000,
        block_refs=100_000,
        unique_blocks=100_000,
        size_blocks=sizes,
        hit_tokens=sizes * 8,
        hit_blocks=sizes,
    )
    kept, ratios = thinned(curve)
    assert 200 < len(kept) < 450
    assert (kept[0], kept[-1]) == (1, 100_000)
    assert ratios == pytest.approx([100 * size * 8 / 1_000_000 for size in kept])


def test_a_curve_alone_is_a_picture(sharer: Plan) -> None:
    """Also where nothing ever hits."""
    curve = curve_of(sharer)
    data = curve_png(curve, "groups")
    assert data.startswith(b"\x89PNG")
    assert data == curve_png(curve, "groups")
    nothing = np.empty(0, dtype=np.int64)
    none = replace(curve, size_blocks=nothing, hit_tokens=nothing, hit_blocks=nothing)
    assert thinned(none) == ([1], [0.0])
    assert curve_png(none, "groups").startswith(b"\x89PNG")
    assert prefix_curve(with_more(sharer, cache_curve=none)) is None


def test_sharing_adds_up(sharer: Plan) -> None:
    """The mean of the bins is the summary's share of the pool, over the time of the run."""
    picture = drawn(sharing(sharer))
    result, summary = sharer.chosen.result, sharer.chosen.summary
    segments = result.segments
    begin_s, end_s = segments["start_s"][0], segments["start_s"][-1] + segments["duration_s"][-1]
    gib = sharer.budget.kv_cache_bytes / GIB
    saved, cached = (axes.patches[0].get_data().values for axes in picture.figure.axes)  # type: ignore[attr-defined]
    assert len(saved) == NUM_BINS
    busy_s = segments["duration_s"][segments["num_steps"] > 0].sum()
    assert saved.mean() * (end_s - begin_s) == pytest.approx(summary.shared_saved * gib * busy_s)
    assert saved.mean() > 0.01
    assert cached.mean() == pytest.approx(
        gib * (segments["cached"] @ segments["duration_s"]) / result.pool_slots / (end_s - begin_s)
    )


def test_what_is_never_there_has_no_panel(sharer: Plan) -> None:
    """Sessions of their own find their earlier turns, which nobody else holds."""
    result = sharer.chosen.result
    segments = {**result.segments, "saved": np.zeros_like(result.segments["saved"])}
    chosen = replace(sharer.chosen, result=replace(result, segments=segments))
    picture = drawn(sharing(with_more(sharer, chosen=chosen)))
    assert len(picture.figure.axes) == 1
    assert picture.caption.startswith("Cached:")
    nothing = {**segments, "cached": segments["saved"]}
    chosen = replace(chosen, result=replace(result, segments=nothing))
    assert sharing(with_more(sharer, chosen=chosen)) is None


def test_the_table_of_sharing(sharer: Plan) -> None:
    picture, summary = drawn(sharing(sharer)), sharer.chosen.summary
    saved, cached, found, *_ = picture.sheet.rows
    gib = sharer.budget.kv_cache_bytes / GIB
    peak = sharer.chosen.result.segments["saved"].max() / sharer.chosen.result.pool_slots
    assert saved[0] == "saved by sharing"
    assert saved[3] == f"{peak * gib:.2f} GiB"
    assert cached[0] == "cached, held by nobody"
    assert found[1] == f"{summary.prefix_hit_tokens:,}"
    assert found[2] == f"{summary.prefix_hit_ratio * 100:.1f} %"
    assert found[1] in picture.caption


def test_a_trace_without_common_beginnings_has_neither(plan: Plan) -> None:
    assert sharing(plan) is None
    assert prefix_curve(with_more(plan, cache_curve=None)) is None
