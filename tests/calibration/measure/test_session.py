"""Sessions on a card whose clock is invented: all points, budget, going on, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from kvsim.calibration.measure.partial import Partial
from kvsim.calibration.measure.point import Point
from kvsim.calibration.measure.points import Limits, Plan, make_plan
from kvsim.calibration.measure.session import Ended, header, measure, reason_of
from kvsim.calibration.model_spec import ModelSpec
from support.fake_card import FakeCard, seconds_of

FEW = ("ceilings", "host", "memory", "kv_dtypes", "block_copy")
Step = tuple[str, int, int]


@pytest.fixture
def plan(llama: ModelSpec) -> Plan:
    """96 points, and anchors three times."""
    limits = Limits(free_memory_bytes=140 << 30, compute_capability=(9, 0))
    return make_plan(llama, limits, families=FEW, budget_s=480)


def run(
    card: FakeCard, plan: Plan, path: Path, report: Callable[..., None] = lambda *step: None
) -> tuple[Ended, Partial]:
    partial = Partial(path, header(card, plan))
    ended = measure(card, plan, partial, report)
    partial.close()
    return ended, partial


def test_every_point_is_measured_once_and_told(plan: Plan, tmp_path: Path) -> None:
    card, told = FakeCard(), list[Step]()
    ended, partial = run(card, plan, tmp_path / "p", lambda *step: told.append(step))
    assert ended.why == ""
    assert [point.key for point in card.prepared] == [point.key for point in plan.points]
    assert partial.samples.keys() == {point.key for point in plan.points}
    assert told[-1] == ("calibrating", len(plan.points), len(plan.points))
    assert [step[1] for step in told] == list(range(1, len(plan.points) + 1))


def test_samples_hold_the_launch_the_role_and_the_unit(plan: Plan, tmp_path: Path) -> None:
    _, partial = run(FakeCard(), plan, tmp_path / "p")
    samples = list(partial.samples.values())
    ragged = next(s for s in samples if s.role == "heldout")
    assert (ragged.family, ragged.x["slots"], ragged.unit) == ("kv_dtypes", 528, "s")
    assert next(s for s in samples if s.family == "memory").unit == "bytes"
    assert Counter(s.flags for s in samples if s.role == "anchor") == {
        (f"anchor:{phase}",): 20 for phase in ("start", "middle", "end")
    }
    assert all(t == float(f"{t:.9g}") for s in samples for t in s.t), "as they are stored"
    copy = next(s for s in samples if s.x.get("what") == "copy")
    point = next(p for p in plan.points if p.x == copy.x)
    assert min(copy.t) == pytest.approx(0.999 * seconds_of(point))


def test_kernels_are_compiled_after_memory_is_read_and_before_the_rest(
    plan: Plan, tmp_path: Path
) -> None:
    card = FakeCard()
    run(card, plan, tmp_path / "p")
    assert card.compiled == [len(plan.points) - 6]


def test_an_interrupted_session_goes_on_where_it_was(plan: Plan, tmp_path: Path) -> None:
    def stop(point: Point) -> None:
        if len(first.prepared) == 40:
            raise KeyboardInterrupt

    first = FakeCard(on_prepare=stop)
    ended, partial = run(first, plan, tmp_path / "p")
    assert ended.why == "interrupted"
    assert len(partial.samples) == 40
    second = FakeCard()
    ended, partial = run(second, plan, tmp_path / "p")
    assert ended.why == ""
    assert [p.key for p in second.prepared] == [p.key for p in plan.points[40:]]
    assert len(partial.runs) == 2
    assert partial.runs[0]["clocks_source"] == "invented"
    assert len(partial.samples) == len(plan.points)


def test_a_budget_ends_with_the_anchors_and_without_the_last_family(
    llama: ModelSpec, tmp_path: Path
) -> None:
    limits = Limits(free_memory_bytes=140 << 30, compute_capability=(9, 0))
    plan = make_plan(llama, limits, families=("decode", "pcie"), budget_s=45)

    def wait(point: Point) -> None:
        slow.clock_s += 0.11

    slow = FakeCard(on_prepare=wait)
    ended, partial = run(slow, plan, tmp_path / "p")
    assert ended.why == "budget"
    assert slow.clock_s < 45.5
    left = Counter(p.family for p in plan.points if p.key not in partial)
    assert set(left) == {"pcie"}
    assert sum("anchor:end" in s.flags for s in partial.samples.values()) == 20
    again, partial = run(FakeCard(), plan, tmp_path / "p")
    assert again.why == ""
    assert len(partial.samples) == len(plan.points)


def test_what_cannot_run_is_kept_with_its_reason(plan: Plan, tmp_path: Path) -> None:
    def refuse(point: Point) -> None:
        if point.x.get("kv_dtype") == "int8":
            raise RuntimeError("no such kernel\nat line 3")

    card = FakeCard(on_prepare=refuse)
    ended, partial = run(card, plan, tmp_path / "p")
    assert ended.why == ""
    assert set(partial.failures.values()) == {"RuntimeError: no such kernel"}
    assert len(partial.samples) + len(partial.failures) == len(plan.points)
    second = FakeCard()
    run(second, plan, tmp_path / "p")
    assert second.prepared == [], "it is not tried again"


def test_a_card_that_no_longer_answers_ends_the_session(plan: Plan, tmp_path: Path) -> None:
    def broken() -> None:
        if len(card.prepared) == 30:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    card = FakeCard(on_release=broken)
    ended, partial = run(card, plan, tmp_path / "p")
    assert ended.why.startswith("the card failed after ")
    assert ended.why.endswith("RuntimeError: CUDA error: an illegal memory access was encountered")
    assert len(partial.samples) == 30
    assert len(partial.runs) == 1


def test_unsteady_points_are_flagged(plan: Plan, tmp_path: Path) -> None:
    _, partial = run(FakeCard(factors=(1.0, 1.3)), plan, tmp_path / "p")
    timed = [s for s in partial.samples.values() if s.unit == "s"]
    assert all("noisy" in s.flags for s in timed)


def test_points_of_another_card_or_seed_are_refused(plan: Plan, tmp_path: Path) -> None:
    card = FakeCard()
    run(card, plan, tmp_path / "p")
    other = {**header(card, plan), "name": "NVIDIA H100 80GB HBM3"}
    with pytest.raises(ValueError, match=r"measured with name\(='NVIDIA H200'\)"):
        Partial(tmp_path / "p", other)
    assert header(card, plan)["kernel_hash"].startswith("sha256:")


def test_a_reason_is_one_line() -> None:
    assert reason_of(ValueError("\n  first \nsecond")) == "ValueError: first"
    assert reason_of(KeyError()) == "KeyError"
    assert len(reason_of(RuntimeError("x" * 999))) < 250
