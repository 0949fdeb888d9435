"""The plan: order, anchors, budget, what a card cannot run."""

from __future__ import annotations

from collections import Counter

import pytest

from kvsim.calibration.measure.points import Limits, make_plan, read_budget
from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import load_model
from kvsim.calibration.profile.values import FAMILIES

H200 = Limits(free_memory_bytes=140 << 30, compute_capability=(9, 0))


def test_every_family_is_planned_within_eight_minutes(llama: ModelSpec) -> None:
    plan = make_plan(llama, H200, budget_s=480)
    assert plan.missing == ("all_reduce: one GPU",)
    assert {p.family for p in plan.points} == set(FAMILIES) - {"all_reduce"}
    assert 100 < plan.seconds < 400
    assert len({p.key for p in plan.points}) == len(plan.points)


def test_memory_first_then_anchors_around_a_shuffled_middle(llama: ModelSpec) -> None:
    points = make_plan(llama, H200, budget_s=480).points
    assert [p.family for p in points[:6]] == ["memory"] * 6
    phases = [p.flags[0] if p.flags else "" for p in points[6:]]
    assert phases[:20] == ["anchor:start"] * 20
    assert phases[-20:] == ["anchor:end"] * 20
    middle = phases.index("anchor:middle")
    assert phases[middle : middle + 20] == ["anchor:middle"] * 20
    assert abs(middle - len(phases) / 2) <= 20
    between = [p.family for p in points[26 : 26 + 200]]
    assert len(set(between)) > 8, "families stand mixed"


def test_anchors_are_the_same_points_and_of_several_families(llama: ModelSpec) -> None:
    points = make_plan(llama, H200, budget_s=480).points
    by_phase = {
        phase: [p.x for p in points if p.flags == (f"anchor:{phase}",)]
        for phase in ("start", "middle", "end")
    }
    assert by_phase["start"] == by_phase["middle"] == by_phase["end"]
    assert Counter(p.family for p in points if p.role == "anchor") == {
        "decode": 15,
        "gemm": 15,
        "prefill": 15,
        "elementwise": 15,
    }
    plain = [p.x for p in points if p.role == "fit"]
    assert all(x in plain for x in by_phase["start"]), "anchors are points as well"


def test_the_seed_decides_the_order(llama: ModelSpec) -> None:
    first, same, other = (make_plan(llama, H200, budget_s=480, seed=s).points for s in (0, 0, 1))
    assert first == same
    assert [p.key for p in first] != [p.key for p in other]


def test_a_budget_drops_families_from_the_end_whole(llama: ModelSpec) -> None:
    plan = make_plan(llama, H200, budget_s=60)
    kept = {p.family for p in plan.points}
    dropped = [entry.split(":")[0] for entry in plan.missing if "budget of 60 s" in entry]
    assert kept == {"ceilings", "decode", "ragged"}
    assert dropped == [f for f in FAMILIES if f not in kept and f != "all_reduce"]
    full = make_plan(llama, H200, budget_s=480)
    counts, all_counts = (Counter(p.family for p in one.points) for one in (plan, full))
    assert counts["ragged"] == all_counts["ragged"]


def test_the_first_family_stays_however_short_the_time(llama: ModelSpec) -> None:
    plan = make_plan(llama, H200, budget_s=1, families=("decode", "gemm"))
    assert {p.family for p in plan.points} == {"decode"}


def test_only_families_that_are_asked_for(llama: ModelSpec) -> None:
    plan = make_plan(llama, H200, budget_s=480, families=("gemm", "decode"))
    assert {p.family for p in plan.points} == {"decode", "gemm"}
    assert "ceilings: not asked for" in plan.missing
    with pytest.raises(ValueError, match=r"families\(='gems'\) must be of ceilings, decode"):
        make_plan(llama, H200, budget_s=480, families=("gems",))


def test_a_smaller_card_drops_large_points_with_a_reason(llama: ModelSpec) -> None:
    small = Limits(free_memory_bytes=11 << 30, compute_capability=(8, 6))
    plan = make_plan(llama, small, budget_s=480)
    assert max(p.memory_bytes for p in plan.points) <= 0.9 * (11 << 30)
    reasons = "\n".join(plan.missing)
    # full heads, 16 KiB a token, in 16 GiB of a million tokens: 5 pairs of batch and context
    assert "decode: 5 of 179 points are too large for this card's memory" in reasons
    assert "kv_dtypes: fp8_e4m3 needs compute capability 8.9, this card has 8.6" in reasons
    assert not [p for p in plan.points if p.x.get("kv_dtype") == "fp8_e4m3"]
    assert [p for p in plan.points if p.x.get("kv_dtype") == "fp8_e5m2"]


def test_a_card_without_room_for_one_point_is_one_sentence(llama: ModelSpec) -> None:
    tiny = Limits(free_memory_bytes=500 << 20, compute_capability=(9, 0))
    with pytest.raises(ValueError, match=r"^free memory\(=524288000 bytes\) is too small for \w+"):
        make_plan(llama, tiny, budget_s=480)


def test_more_than_one_gpu_is_reduced_over(llama: ModelSpec) -> None:
    two = Limits(free_memory_bytes=140 << 30, compute_capability=(9, 0), count=2)
    plan = make_plan(llama, two, budget_s=480)
    assert "all_reduce" in {p.family for p in plan.points}


def test_what_a_model_has_not_is_missing() -> None:
    plan = make_plan(load_model("deepseek-v3"), H200, budget_s=480)
    assert "prefill: no such layers in deepseek-v3" in plan.missing
    assert "gemm: expert layers" in plan.missing


@pytest.mark.parametrize(
    ("text", "seconds"), [("480s", 480), ("8m", 480), ("90", 90), (" 1.5M ", 90)]
)
def test_budgets(text: str, seconds: float) -> None:
    assert read_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0s", "-3m", "1h", "inf", "nan", "ms", "3ms"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"^budget\(=.*\) must be seconds or minutes above 0"):
        read_budget(text)


@pytest.mark.parametrize(
    "name", ["opt-125m", "gemma-3-27b", "gpt-oss-20b", "qwen3.5-27b", "llama-4-scout", "kimi-k2"]
)
def test_models_of_every_kind_can_be_planned(name: str) -> None:
    plan = make_plan(load_model(name), H200, budget_s=1e6)
    assert {"decode", "gemm", "elementwise"} <= {p.family for p in plan.points}
    assert len({p.key for p in plan.points}) == len(plan.points)
