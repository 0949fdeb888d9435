"""Published results that hold, held: each row of ``kvsim reproduce`` is a test.

Rows of seconds run always, the others with ``pytest -m slow``, in the quick set's size.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.reproduce import ROWS, pagedattention, replays, run
from kvsim.sim.reproduce.claim import (
    HELD,
    NOT_HELD,
    SHAPE,
    SKIPPED,
    Chart,
    Check,
    Claim,
    Series,
    near,
    within,
)
from kvsim.sim.reproduce.row import Row
from kvsim.sim.reproduce.run import Reproduction, chosen, reproduce, run_row
from kvsim.sim.reproduce.setup import (
    MACHINES,
    OPT_13B,
    SYSTEMS,
    Setting,
    constants,
    poisson_trace,
    server_of,
)
from support.reproduced import line

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
SETTING = Setting(traces=TRACES if TRACES.is_dir() else None)
FAST = (
    "seed-contiguous-waste",
    "seed-paged-waste",
    "seed-concurrency",
    "pagedattention-table-1",
    "pagedattention-fig-2",
    "pagedattention-fig-19",
    "mooncake-conversation",
    "mooncake-table-1",
    "jenga-ratio",
    "vattention-pages",
    "vattention-fig-15",
)
SLOW = tuple(name for name in ROWS if name not in FAST)
KNOWN = {
    "pagedattention-fig-13": {"sharegpt at 2/s: vLLM", "alpaca at 30/s: vLLM"},
    "pagedattention-fig-16": {"prefix of 80 tokens: vLLM / Orca (Oracle)"},
    "pagedattention-fig-17": {
        "requests at once, saturated, no timing model: vLLM / Orca",
        "sustained rate: vLLM / Orca",
    },
    "pagedattention-fig-18": {"sharegpt: blocks of 1, of 16", "alpaca: blocks of 1, of 16"},
    "pagedattention-fig-19": {"the same, 1,024 tokens"},
}
"""Figures that do not hold; every other one must, and these must go on to be told."""


@cache
def claim_of(name: str) -> Claim:
    return run_row(name, SETTING)


def check_row(name: str) -> None:
    claim = claim_of(name)
    missed = {check.what for check in claim.checks if not check.held}
    assert missed == KNOWN.get(name, set())
    assert not claim.surprises
    if not claim.skipped:
        assert claim.verdict in ((NOT_HELD,) if missed else (HELD, SHAPE))
        assert claim.charts
    json.dumps(claim.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", FAST)
def test_published_result(name: str) -> None:
    check_row(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_published_result_that_takes_longer(name: str) -> None:
    check_row(name)


def test_every_row_is_named_after_its_paper() -> None:
    papers = {name.split("-")[0] for name in ROWS}
    assert papers == {"seed", "pagedattention", "mooncake", "jenga", "vattention", "sarathi"}
    assert set(FAST) <= set(ROWS)


def test_a_wrong_constant_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the reservation of Orca (Max) is another figure."""
    assert not claim_of("pagedattention-fig-2").surprises
    narrow = replace(server_of(OPT_13B, "Orca (Max)").deployment, max_model_len=1024)
    server = replace(server_of(OPT_13B, "Orca (Max)"), deployment=narrow)
    replays.saturated.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(replays, "server_of", lambda *_, **flags: server.with_flags(**flags))
        broken = pagedattention.fig_2(SETTING)
    replays.saturated.cache_clear()
    assert broken.surprises
    assert broken.verdict == NOT_HELD


def test_without_traces_rows_are_skipped_and_say_why() -> None:
    claim = run_row("mooncake-conversation", Setting())
    assert claim.verdict == SKIPPED
    assert not claim.surprises
    assert "kvsim trace fetch mooncake-conversation" in claim.skipped


def test_systems_share_everything_but_what_they_are() -> None:
    flags = [server_of(OPT_13B, system).deployment.to_json() for system in SYSTEMS]
    own = {"allocator", "reservation", "placement", "watermark"}
    for other in flags[1:]:
        assert {name for name in other if other[name] != flags[0][name]} <= own
    slots = {
        server_of(OPT_13B, system).num_gpu_blocks * server_of(OPT_13B, system).deployment.block_size
        for system in SYSTEMS
    }
    assert slots == {OPT_13B.pool_slots}


def test_a_rate_moves_arrivals_and_nothing_else() -> None:
    slow, fast = (poisson_trace("sharegpt", rate, OPT_13B, Setting()) for rate in (1.0, 2.0))
    assert slow.arrival_s is not None
    assert fast.arrival_s is not None
    number = len(slow)
    assert len(fast) == 2 * number
    assert fast.arrival_s[:number] == pytest.approx(slow.arrival_s / 2, abs=1e-6)
    quick = poisson_trace("alpaca", 100.0, OPT_13B, Setting())
    assert len(quick) == Setting().most_requests
    assert Setting(full=True).trace_s(MACHINES["opt-175b"]) == 900


def test_constants_are_the_servers_own() -> None:
    words = constants()
    assert "15,728 slots" in words["models and GPUs"]
    assert words["scheduler"].startswith("orca for all")
    assert "preemption by recompute" in words["vLLM"]
    assert "derived" in words["step times"]


@given(
    paper=st.floats(0.1, 1e6),
    ours=st.floats(0.0, 1e7),
    rel=st.floats(0.0, 1.0),
    known=st.sampled_from(["", "for a reason"]),
)
def test_verdicts_follow_from_figures(paper: float, ours: float, rel: float, known: str) -> None:
    check = near("x", paper, ours, rel=rel, known=known)
    inside = paper - rel * paper <= ours <= paper + rel * paper
    claim = made(check)
    assert check.held == inside
    assert claim.verdict == (HELD if inside else NOT_HELD)
    assert claim.surprises == (not inside and not known)
    assert claim.reasons == (() if inside else (known or claim.reasons[0],))
    assert Reproduction(claims=(claim,), constants={}, full=False).failed == claim.surprises


def test_not_a_number_does_not_hold() -> None:
    assert not within("x", -math.inf, math.inf, math.nan).held


def test_a_shape_holds_without_a_printed_number() -> None:
    shape = within("x", 1.0, 2.0, 1.5, shape=True)
    assert made(shape).verdict == SHAPE
    assert made(shape, near("y", 1.0, 1.0)).verdict == HELD
    assert made().verdict == SKIPPED


def made(*checks: Check) -> Claim:
    return Claim(name="a", paper="A", source="A, Fig. 1", says="So.", how="Thus.", checks=checks)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"low": 2.0, "high": 1.0}, r"low\(=2.0\) must be <= high\(=1.0\)\."),
    "unit": ({"unit": "furlongs"}, r"unit\(='furlongs'\) must be one of"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_checks(case: str) -> None:
    values, sentence = WRONG[case]
    with pytest.raises(ValueError, match=sentence):
        Check(what="x", paper="1", ours=1.0, **values)


def test_rows_are_chosen_by_name_or_paper() -> None:
    assert chosen(["jenga-ratio"]) == ("jenga-ratio",)
    assert chosen(["mooncake", "jenga"]) == (
        "mooncake-conversation",
        "mooncake-table-1",
        "jenga-ratio",
    )
    assert set(chosen([])) <= set(chosen([], full=True)) == set(ROWS)
    with pytest.raises(ValueError, match=r"only\(='jenga-ratoi'\) is unknown; near: jenga-ratio"):
        chosen(["jenga-ratoi"])


def test_processes_change_nothing() -> None:
    names = ("jenga-ratio", "pagedattention-table-1")
    told: list[tuple[str, int, int]] = []
    alone = reproduce(names, setting=Setting(), jobs=1, report=lambda *state: told.append(state))
    assert reproduce(names, setting=Setting(), jobs=2) == alone
    assert [done for _, done, _ in told] == [1, 2]
    assert [claim.name for claim in alone.claims] == list(names)
    with pytest.raises(ValueError, match=r"jobs\(=0\) must be > 0\."):
        reproduce(names, setting=Setting(), jobs=0)


def test_a_row_gives_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.ROWS, "other", Row(run=lambda _: made(near("x", 1.0, 1.0))))
    with pytest.raises(AssertionError, match="row other made a"):
        run_row("other", Setting())


def test_charts_are_plain_values() -> None:
    chart = Chart(title="t", y_title="y", series=(Series(name="ours", y=(1.0,)),), labels=("a",))
    assert chart.series[0].x == ()


@pytest.mark.parametrize("name", FAST)
def test_the_page_in_docs_has_this_line(name: str) -> None:
    """Of rows that are the same in the full set; the others are there, too."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "reproduce.md").read_text("utf-8")
    lines = [one for one in page.splitlines() if one.startswith(f"| `{name}` |")]
    assert len(lines) == 1
    if not claim_of(name).skipped:
        assert lines == [line(claim_of(name))], "run tests/benchmarks/readme.py --reproduce"


def test_the_page_in_docs_has_every_row() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reproduce.md").read_text("utf-8")
    named = [one.split("`")[1] for one in page.splitlines() if one.startswith("| `")]
    assert named == list(ROWS)
