"""What replicas get of a trace, and what the recommendation's file says of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kvsim.sim.job import simulate_server
from kvsim.sim.load import load_server
from kvsim.sim.planner import planned
from kvsim.sim.planner.extent import rate_of
from kvsim.sim.planner.grid import grid_of
from kvsim.sim.planner.planned import at_share, make_planned, work_of_a_share
from kvsim.sim.planner.probe import at_rate
from kvsim.sim.planner.question import Question
from kvsim.sim.planner.shares import confirm, share_of
from kvsim.sim.planner.toml import recommendation
from kvsim.sim.regress.keys import asked
from kvsim.sim.regress.suite import read_suite
from kvsim.sim.slo import SLO
from kvsim.traces.intake import Intake, Taken, take_in
from kvsim.traces.write import write_mooncake
from support.planned import FLAGS, HARDWARE, OBJECTIVE, a_trace, decided, fake_searches

SEATS = {"max_num_seqs": 2, "step_cost": "affine:0.01,0.00001,0"}


def test_shares_are_a_partition() -> None:
    trace = a_trace(num_requests=41)
    shares = [share_of(trace, replica, 3) for replica in range(3)]
    assert [len(share) for share in shares] == [14, 14, 13]
    arrivals = np.concatenate([share.arrival_s for share in shares])  # type: ignore[arg-type]
    assert sorted(arrivals.tolist()) == list(trace.arrival_s)  # type: ignore[arg-type]
    assert share_of(trace, 0, 1) is trace


def test_a_session_stays_with_one_replica() -> None:
    trace = a_trace(turns=4, num_requests=48)
    shares = [share_of(trace, replica, 2) for replica in range(2)]
    assert sum(share.num_sessions for share in shares) == trace.num_sessions
    assert sum(len(share) for share in shares) == len(trace)


def test_replicas_together_keep_what_they_keep_alone() -> None:
    """Every other request each: attained requests are counted by hand from two simulations."""
    trace = a_trace(num_requests=2000, workload=None, prompt_tokens=50, output_tokens=20)
    slo = SLO(ttft_s=0.05, quantile=0.5)
    server = load_server(trace, hardware=HARDWARE, flags={**FLAGS, **SEATS})
    found = confirm(server, trace, 16.0, slo, num_replicas=2)
    kept = counted = 0
    dense = at_rate(a_trace_twice(trace), 16.0)
    for replica in range(2):
        rows = np.arange(replica, len(dense), 2)
        result, _ = simulate_server(server, trace=dense.take(rows))
        attained = slo.attained(result)[int(np.ceil(0.1 * len(rows))) :]
        kept, counted = kept + int(attained.sum()), counted + len(attained)
    assert 0.3 < kept / counted < 0.999
    assert found.attainment == pytest.approx(kept / counted, rel=1e-12)
    assert found.goodput_per_s == pytest.approx(16.0 * kept / counted)
    assert (found.num_replicas, found.num_simulated) == (2, 2)


def a_trace_twice(trace: Any) -> Any:
    """A replica serves 2,000 requests at least: two turns of these."""
    from kvsim.traces.repeat import repeated_in_time

    return repeated_in_time(trace, 2)


def test_a_fleet_that_falls_behind_does_not_hold() -> None:
    """Every request keeps a limit of an hour, yet two seats of 0.2 s serve 10/s and not 14."""
    trace = a_trace(workload=None, prompt_tokens=50, output_tokens=20, num_requests=2000)
    server = load_server(trace, hardware=HARDWARE, flags={**FLAGS, **SEATS})
    slo = SLO(e2e_s=3600.0)
    assert not confirm(server, trace, 14.0, slo, num_replicas=1).holds
    assert confirm(server, trace, 14.0, slo, num_replicas=2).holds


def test_the_report_shows_one_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, lambda server: 1.5)
    taken = take_in(Intake(workload="sharegpt", num_requests=40, rate_per_s=4.0))
    rate = rate_of(taken.trace)
    decision = decided(trace=taken.trace, target_rate_per_s=rate)
    assert decision.chosen is not None
    assert decision.chosen.num_replicas == 3
    shown = at_share(taken, decision)
    assert len(shown.trace) == 14
    assert shown.arrivals.endswith(f"what one of 3 replicas gets of {rate:.4g}/s")
    doubled = at_share(taken, decided(trace=taken.trace, target_rate_per_s=1.2))
    assert rate_of(doubled.trace) == pytest.approx(1.2)
    assert len(doubled.trace) == 40


@pytest.mark.parametrize("drawn", [True, False], ids=["drawn", "own times"])
def test_the_recommendation_is_a_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: bool
) -> None:
    """What it says is the chosen server, and the requests of one replica at its rate."""
    fake_searches(monkeypatch, lambda server: 3.0)
    monkeypatch.setattr(planned, "make_plan", lambda server, **said: SimpleNamespace(**said))
    work: dict[str, Any] = {"workload": "sharegpt", "num_requests": 40, "seed": 3}
    if not drawn:
        trace = take_in(Intake(**work, rate_per_s=4.0)).trace
        write_mooncake(trace, tmp_path / "t.jsonl.gz")
        work = {"trace": (str(tmp_path / "t.jsonl.gz"),)}
    taken = take_in(Intake(**work))
    grid = grid_of({**HARDWARE, "price": "2"}, {**FLAGS, "block_size": (16, 32)})
    question = Question(slo=OBJECTIVE, target_rate_per_s=7.0, confidence_runs=0)
    made = make_planned(grid, taken, question, work=work, seed=3)
    assert made.decision is not None
    chosen = made.decision.chosen
    assert chosen is not None
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "s.toml").write_text(recommendation(made.decision, folder), encoding="utf-8")
    (case,) = read_suite(folder / "s.toml").cases
    found = asked(case.options, folder)
    again = take_in(found.intake)
    server = load_server(again.trace, hardware=found.hardware, flags=found.flags)
    assert server.deployment == chosen.server.deployment
    assert server.budget == chosen.server.budget
    assert server.gpu.price_usd_per_hour == 2.0
    assert (again.trace.output_tokens == taken.trace.output_tokens).all()
    assert rate_of(again.trace) == pytest.approx(7 / 3, rel=0.5 if drawn else 1e-6)
    assert not drawn or found.intake.rate_per_s == pytest.approx(7 / 3)


def test_a_ratio_that_was_asked_for_stays_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as dense makes 8/s of 4; three replicas of 3/s share them: a third of twice."""
    fake_searches(monkeypatch, lambda server: 3.0)
    trace = a_trace(arrival_process="constant", arrival_speedup_ratio=2.0)
    taken = Taken(trace=trace, origin="", arrivals="own")
    decision = decided(trace=trace, target_rate_per_s=rate_of(trace))
    work = work_of_a_share({"arrival_speedup_ratio": 2.0}, taken, decision)
    assert work == {"arrival_speedup_ratio": pytest.approx(2 / 3)}


def test_flags_beside_the_usual_ones_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, lambda server: 3.0)
    flags = {"non_kv_memory_bytes": 3 << 30, "long_prefill_token_threshold": 512, "watermark": 0.0}
    text = recommendation(decided(flags=flags), ".")
    assert "non_kv_memory = 3.0" in text
    assert "long_prefill_token_threshold = 512" in text
    assert "watermark" not in text
    fake_searches(monkeypatch, lambda server: 0.0)
    nothing = decided()
    with pytest.raises(ValueError, match="chosen nothing"):
        recommendation(nothing, ".")
