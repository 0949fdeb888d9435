"""A profile of what was measured: what is missing and why, the run, the order of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kvsim.calibration.measure.assemble import assemble, missing, ordered
from kvsim.calibration.measure.partial import Partial
from kvsim.calibration.measure.point import Point
from kvsim.calibration.measure.points import Plan
from kvsim.calibration.profile.values import Sample
from support.fake_card import FakeCard

RUN = {
    "started_utc": "2026-11-22T10:00:00Z",
    "seconds": 10.0,
    "uuid_hash": "a",
    "clocks_source": "invented",
    "clocks_columns": ["t_s"],
    "clocks_log": [[1.0]],
}


def copy(moved: int, *, phase: str = "") -> Point:
    flags = (f"anchor:{phase}",) if phase else ()
    x = {"what": "copy", "dtype": "bf16", "bytes": moved, "flops": 0}
    return Point(family="ceilings", x=x, role="anchor" if phase else "fit", flags=flags)


def library(name: str) -> Point:
    return Point(family="baselines", x={"case": "A", "name": name}, role="baseline")


def sample(point: Point, *t: float) -> Sample:
    return Sample(family=point.family, x=point.x, t=t, role=point.role, flags=point.flags)


def plan(points: Sequence[Point], left_out: Sequence[str] = ()) -> Plan:
    return Plan(
        model="llama-3.1-8b",
        families=("ceilings",),
        seed=3,
        budget_s=60,
        points=tuple(points),
        missing=tuple(left_out),
    )


@pytest.fixture
def partial(tmp_path: Path) -> Partial:
    made = Partial(tmp_path / "p", {})
    made.close()
    return made


def test_a_family_that_time_did_not_do_for(partial: Partial) -> None:
    points = [copy(1), copy(2), library("kvsim")]
    partial.samples[points[0].key] = sample(points[0], 1.0)
    assert missing(plan(points), partial, "budget") == (
        "ceilings: budget of 60 s: 1 of 2 points measured",
        "baselines: budget of 60 s: 0 of 1 points measured",
    )
    assert missing(plan(points), partial, "interrupted")[1] == (
        "baselines: interrupted: 0 of 1 points measured"
    )


def test_failures_of_one_reason_are_one_clause(partial: Partial) -> None:
    points = [library("a"), library("b"), library("c"), copy(1)]
    for point, reason in zip(points, ("no x", "no y", "no x", "")):  # noqa: B905
        partial.failures[point.key] = reason or "no z"
    assert missing(plan(points), partial, "") == (
        "baselines: a A and 1 more failed: no x; b A failed: no y",
        "ceilings: copy failed: no z",
    )


def test_what_the_session_knows_replaces_what_the_fit_sees(partial: Partial) -> None:
    asked = plan([copy(1)], ["gemm: left out by the budget of 60 s", "gemm: expert layers"])
    partial.samples[copy(1).key] = sample(copy(1), 1.0)
    found = missing(asked, partial, "", ["gemm: not measured", "host: not measured"])
    assert found == (
        "gemm: left out by the budget of 60 s; expert layers",
        "host: not measured",
    )


def test_samples_stand_by_family_and_shape_whatever_the_order_was(partial: Partial) -> None:
    points = [library("b"), copy(2), library("a"), copy(1)]
    for point in points:
        partial.samples[point.key] = sample(point, 1.0)
    found = ordered(plan(points), partial)
    assert [s.family for s in found] == ["ceilings"] * 2 + ["baselines"] * 2
    assert found == ordered(plan(points[::-1]), partial)


def test_the_run_adds_sessions_up(partial: Partial) -> None:
    points = [copy(100, phase="start"), copy(100, phase="end"), copy(100)]
    for point, t in zip(points, (1.0, 1.02, 1.0), strict=True):
        partial.samples[point.key] = sample(point, t, t, t)
    partial.runs += [RUN, {**RUN, "uuid_hash": "b", "started_utc": "2026-11-23T10:00:00Z"}]
    card = FakeCard()
    profile = assemble(card.identity, plan(points), partial, "")
    assert profile.id.startswith("h200.2026-11-22.")
    assert profile.provenance == "measured"
    assert profile.software["kernel_hash"].startswith("sha256:")
    assert profile.ceilings["copy_bytes_per_s"]["value"] == 100
    run = dict(profile.run)
    assert run.pop("drift_pct") == pytest.approx(2.0)
    assert run == {
        "started_utc": "2026-11-22T10:00:00Z",
        "seconds": 20.0,
        "sessions": 2,
        "cards": 2,
        "seed": 3,
        "budget_s": 60,
        "num_samples": 3,
        "num_noisy": 0,
        "clocks_source": "invented",
        "clocks_columns": ["t_s"],
        "clocks_log": [[1.0], [1.0]],
    }


def test_another_time_gives_another_name(partial: Partial) -> None:
    partial.runs.append(RUN)
    names = set()
    for t in (1.0, 2.0):
        partial.samples[copy(1).key] = sample(copy(1), t)
        names.add(assemble(FakeCard().identity, plan([copy(1)]), partial, "").id)
    assert len(names) == 2


def test_nothing_is_no_profile(partial: Partial) -> None:
    partial.failures[copy(1).key] = "RuntimeError: no kernel"
    with pytest.raises(ValueError, match=r"^nothing was measured: RuntimeError: no kernel\.$"):
        assemble(FakeCard().identity, plan([copy(1)]), partial, "")
