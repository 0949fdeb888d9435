"""A fleet of servers with its figures: bytes, hours, money."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvsim.sim.files import json_bytes
from kvsim.sim.fleet.asked import fleet_of
from kvsim.sim.fleet.figures import fleet_figures, fleet_json
from kvsim.sim.fleet.job import run_fleet
from kvsim.sim.fleet.load import replicated
from kvsim.sim.fleet.routers import ROUTERS
from kvsim.sim.fleet.spec import Fleet
from kvsim.sim.job import simulate_server
from kvsim.sim.load import load_server
from kvsim.sim.planner.extent import whole
from kvsim.sim.planner.probe import judge
from kvsim.sim.slo import SLO
from kvsim.traces import Trace
from kvsim.traces.intake import Intake, take_in

A100 = {"gpu": "a100", "model": "llama-3.1-8b"}
TRACES: dict[str, Intake] = {
    "open loop": Intake(workload="sharegpt", num_requests=150, rate_per_s=8.0),
    "sessions": Intake(
        workload="sharegpt",
        num_requests=120,
        rate_per_s=4.0,
        turns=3,
        think_time_s=2.0,
        prefix_groups=3,
        prefix_tokens=512,
    ),
    "samples": Intake(workload="sharegpt", num_requests=60, rate_per_s=4.0, n=3),
    "closed loop": Intake(workload="sharegpt", num_requests=100, concurrency=16),
}


def trace_of(name: str) -> Trace:
    return take_in(TRACES[name]).trace


def fleet(trace: Trace, *, flags: dict[str, Any] | None = None, **shape: Any) -> Fleet:
    scaling = {name: shape.pop(name) for name in tuple(shape) if name in _SCALING}
    return fleet_of(trace, hardware=A100, flags=flags or {}, shape=shape, scaling=scaling)


_SCALING = ("max_replicas", "target_ongoing_requests", "scale_out_delay", "scale_interval")


@pytest.mark.parametrize("name", TRACES)
def test_one_replica_has_the_summary_of_its_server(name: str) -> None:
    """Byte for byte, behind each router."""
    trace, concurrency = trace_of(name), TRACES[name].concurrency
    server = load_server(trace, hardware=A100, flags={})
    _, alone = simulate_server(server, trace=trace, concurrency=concurrency)
    for router in ROUTERS:
        one = fleet(trace, replicas=1, router=router)
        _, behind = run_fleet(one, trace=trace, concurrency=concurrency)
        assert json_bytes(behind.to_json()) == json_bytes(alone.to_json()), router


@pytest.mark.parametrize(
    "flags",
    [
        {"async_scheduling": False},
        {"enable_prefix_caching": False, "num_gpu_blocks_override": 300},
        {"prefix_cache": "radix"},
        {"kv_offloading_size": 8.0, "num_gpu_blocks_override": 600},
        {"allocator": "contiguous", "scheduler": "orca"},
    ],
    ids=lambda flags: ",".join(flags),
)
def test_whatever_its_flags(flags: dict[str, Any]) -> None:
    trace = trace_of("sessions")
    _, alone = simulate_server(load_server(trace, hardware=A100, flags=flags), trace=trace)
    _, behind = run_fleet(fleet(trace, flags=flags, router="prefix_aware"), trace=trace)
    assert json_bytes(behind.to_json()) == json_bytes(alone.to_json())


def test_two_replicas_with_half_the_load_each() -> None:
    """The same requests twice, the copies at the same times: each replica is the server alone."""
    trace = trace_of("open loop")
    twice = trace.take(np.repeat(np.arange(len(trace)), 2))
    server = load_server(trace, hardware=A100, flags={})
    _, alone = simulate_server(server, trace=trace)
    found, both = run_fleet(fleet(twice, replicas=2), trace=twice)
    assert found.routed["replica"].tolist() == [0, 1] * len(trace)
    for time in ("ttft_s", "tpot_s", "e2e_s", "itl_s"):
        assert getattr(both, time).mean == pytest.approx(getattr(alone, time).mean)
    assert both.makespan_s == pytest.approx(alone.makespan_s)
    assert both.output_tokens_per_s == pytest.approx(2 * alone.output_tokens_per_s)
    assert both.mean_running == pytest.approx(2 * alone.mean_running)
    assert both.peak_running == 2 * alone.peak_running
    assert both.peak_waiting == alone.peak_waiting
    assert both.pool_slots == 2 * alone.pool_slots
    assert both.effective_kv_utilisation == pytest.approx(alone.effective_kv_utilisation)
    assert both.pool_share.token_states == pytest.approx(alone.pool_share.token_states)
    assert sum(vars_of(both.pool_share)) == pytest.approx(1.0)


def vars_of(share: object) -> list[float]:
    return [getattr(share, name) for name in share.__slots__]  # type: ignore[attr-defined]


def test_hours_and_money() -> None:
    """Three replicas of two GPUs for the makespan; a price of 2 USD per GPU and hour."""
    trace = trace_of("open loop")
    hardware = {**A100, "price": 2.0}
    three = fleet_of(
        trace,
        hardware=hardware,
        flags={"tensor_parallel_size": 2},
        shape={"replicas": 3},
        scaling={},
    )
    found, summary = run_fleet(three, trace=trace)
    figures = fleet_figures(found)
    end_s = summary.makespan_s + float(found.result.requests["arrival_s"].min())
    assert figures.replica_hours == pytest.approx(3 * end_s / 3600)
    assert figures.gpu_hours == pytest.approx(6 * end_s / 3600)
    assert figures.usd == pytest.approx(2.0 * figures.gpu_hours)
    tokens = int(found.result.requests["generated_tokens"].sum())
    assert figures.usd_per_million_output_tokens == pytest.approx(figures.usd / tokens * 1e6)
    assert figures.imbalance == pytest.approx(1.0)
    assert sum(one.request_share for one in figures.replicas) == pytest.approx(1.0)


def test_an_autoscaled_fleet_pays_less_than_its_most() -> None:
    trace = trace_of("open loop")
    asked = fleet(
        trace, max_replicas=3, target_ongoing_requests=10.0, scale_out_delay=2.0, scale_interval=1.0
    )
    found, summary = run_fleet(asked, trace=trace)
    figures = fleet_figures(found)
    assert figures.peak_replicas == 3
    assert figures.replica_hours < 3 * summary.makespan_s / 3600
    values = fleet_json(found, summary)
    assert values["schema"] == "kvsim-fleet/1"
    assert {row["what"] for row in values["changes"]} >= {"launched", "joined"}  # type: ignore[attr-defined]


def test_more_replicas_hold_an_objective_that_one_does_not() -> None:
    """The fleet's result is judged as a server's is."""
    trace = take_in(Intake(workload="sharegpt", num_requests=300, rate_per_s=40.0)).trace
    server = load_server(trace, hardware=A100, flags={})
    slo, every = SLO(ttft_s=0.2, tpot_s=0.03), whole(trace, warm_up=30)
    holds = []
    for replicas in (1, 3):
        found, _ = run_fleet(replicated(server, replicas), trace=trace)
        holds.append(judge(found.result, 40.0, slo, server=server, extent=every).holds)
    assert holds == [False, True]


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ({"replicas": 0}, r"replicas\(=0\) must be > 0"),
        ({"router": "random"}, r"router\(='random'\) is unknown"),
        ({"replicas": 2, "pools": "a100:2"}, r"replicas\(=2\) must not be given beside pools"),
        ({"pools": "a100:two"}, r"pools\(='a100:two'\) must be GPU:REPLICAS"),
        ({"pools": "a100:1,a100:1"}, r"pools\(='a100'\) must be named once"),
        ({"prefill": "2"}, r"prefill\(='2'\) needs decode, too"),
        ({"prefill": "1", "decode": "1", "replicas": 2}, "replicas must not be given beside"),
        ({"kv_transfer_bandwidth": 10.0}, "kv_transfer_bandwidth and kv_transfer_latency need"),
        (
            {"prefill": "1", "decode": "1", "kv_transfer_bandwidth": 0.0},
            r"kv_transfer_bandwidth\(=0\) must be > 0 GB/s",
        ),
        ({"max_ongoing_requests": 0}, r"max_ongoing_requests\(=0\) must be > 0"),
        ({"scale": ["60"]}, r"scale\(='60'\) must be SECONDS:\+N"),
        ({"scale": ["60:h200:+1"]}, r"pool\(='h200'\) is unknown"),
        ({"scale": ["60:0"]}, r"scale\(=0\) must add or take away"),
        ({"target_ongoing_requests": 2.0}, r"target_ongoing_requests\(=2\) needs max_replicas"),
        ({"max_replicas": 2}, r"max_replicas\(=2\) needs one of target_ongoing_requests"),
    ],
)
def test_wrong_input(shape: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fleet(trace_of("open loop"), **shape)


def test_one_price_for_several_gpus() -> None:
    with pytest.raises(ValueError, match=r"price\(=2\) must not be given for several GPUs"):
        fleet_of(
            trace_of("open loop"),
            hardware={**A100, "price": 2.0},
            flags={},
            shape={"pools": "a100:1,h200:1"},
            scaling={},
        )


def test_pools_allow_what_the_smallest_holds() -> None:
    """A model length that an L4's pool holds is everybody's."""
    long = Intake(prompt_tokens=30_000, output_tokens=100, num_requests=2, rate_per_s=0.1)
    trace = take_in(long).trace
    both = fleet(trace, pools="l4:1,h100-sxm:1")
    lengths = {pool.server.deployment.max_model_len for pool in both.pools}
    assert len(lengths) == 1
    alone = load_server(trace, hardware={**A100, "gpu": "l4"}, flags={})
    assert lengths == {alone.deployment.max_model_len}
