"""How sure and what-ifs by hand, and options of servers whose step times are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.step_cost import Band
from kvsim.sim.planner.changes import change_of
from kvsim.sim.planner.confidence import Certainty, Confidence
from kvsim.sim.planner.interval import Interval
from kvsim.sim.planner.option import Option
from kvsim.sim.planner.probe import probe
from kvsim.sim.planner.search import RateSearch
from kvsim.sim.planner.spec import ServerSpec
from kvsim.sim.planner.tornado import Answer, Lever, Leverage
from kvsim.sim.planner.what_if import Delta, WhatIf
from kvsim.sim.saturated import saturate
from kvsim.sim.sensitivity import BAND, SUPPOSED
from kvsim.sim.server import Server
from kvsim.sim.slo import SLO
from kvsim.traces import Trace

LOOSE = SLO(e2e_s=1e6)
"""Every rate that the server can sustain holds."""
WIDE = Band(low=0.8, high=1.25, source="by hand")


class BandedCost(AffineCost):
    """Affine, with a band that is in doubt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "band", WIDE)


def drawn(number: int, *, seed: int = 0, spread: float = 0.5, gaps: float = 1.0) -> Trace:
    """Requests of random lengths at random times; ``spread`` and ``gaps`` 0: all alike."""
    rng = np.random.default_rng(seed)
    lengths = np.exp(spread * rng.standard_normal((2, number)))
    between = np.where(gaps, rng.standard_exponential(number - 1) ** (gaps or 1.0), 1.0)
    return Trace(
        name="drawn",
        prompt_tokens=np.ceil(100 * lengths[0]).astype(np.int64),
        output_tokens=np.ceil(30 * lengths[1]).astype(np.int64),
        arrival_s=np.concatenate(([0.0], np.cumsum(between))),
    )


def server_of(
    trace: Trace,
    *,
    blocks: int = 2000,
    few: int | None = None,
    many: int | None = None,
    step_s: float = 0.02,
    banded: bool = True,
    **flags: Any,
) -> tuple[ServerSpec, Server]:
    """A server whose steps all last as long, within 0.8 to 1.25 of it."""
    gpu = flags.pop("gpu", "a100")
    spec = ServerSpec(
        hardware={"gpu": gpu, "model": "llama-3.1-8b", "price": flags.pop("price", None)},
        flags={
            "async_scheduling": False,
            "enable_prefix_caching": False,
            "step_cost": f"affine:{step_s},0,0",
            "num_gpu_blocks_override": blocks,
            "max_num_seqs": 16,
            **flags,
        },
    )
    server = spec.server(trace)
    size = server.budget.block_bytes
    budget = replace(
        server.budget,
        kv_cache_low_bytes=(few or blocks) * size,
        kv_cache_high_bytes=(many or blocks) * size,
    )
    cost = BandedCost(base_s=step_s) if banded else server.cost
    return spec, replace(server, budget=budget, cost=cost)


def option_of(trace: Trace, *, title: str = "it", slo: SLO = LOOSE, **inputs: Any) -> Option:
    """The same, at the rate that it finishes under backlog, which holds."""
    spec, server = server_of(trace, **inputs)
    return at_backlog(spec, server, trace, title=title, slo=slo)


def at_backlog(
    spec: ServerSpec, server: Server, trace: Trace, *, title: str = "it", slo: SLO = LOOSE
) -> Option:
    """An option that holds all that its server can finish; no search is made."""
    _, backlog = saturate(server, trace)
    top = backlog.requests_per_s
    best = replace(probe(server, trace, top, slo), holds=True)
    search = RateSearch(slo=slo, probes=(best,), saturated_per_s=top, best=best, bound_by="")
    return Option(title=title, spec=spec, server=server, search=search)


def span(low: float, value: float, high: float) -> Interval:
    return Interval(low=low, value=value, high=high)


def certainty(title: str, rate: tuple[float, float, float], usd_per_hour: float) -> Certainty:
    low, value, high = rate
    return Certainty(
        title=title,
        rate_per_s=span(*rate),
        rate_by_traffic_per_s=span(0.95 * value, value, 1.05 * value),
        usd_per_million_output_tokens=span(0.5 * value / high, 0.5, 0.5 * value / low),
        num_replicas=span(2, 3, 4),
        usd_per_hour=span(2 * usd_per_hour, 3 * usd_per_hour, 4 * usd_per_hour),
    )


def lever(
    name: str, kind: str, ends: tuple[float, float], rates: tuple[float, float], **more: Any
) -> Lever:
    low, high = (Answer(rate_per_s=one, usd_per_million_output_tokens=5 / one) for one in rates)
    return Lever(
        **{"unit": "times", "base_input": 1.0, **more},
        name=name,
        kind=kind,
        low_input=ends[0],
        high_input=ends[1],
        source="by hand",
        low=low,
        high=high,
    )


LEVERAGE = Leverage(
    base=Answer(rate_per_s=10.0, usd_per_million_output_tokens=0.5),
    low=Answer(rate_per_s=8.0, usd_per_million_output_tokens=0.625),
    high=Answer(rate_per_s=12.5, usd_per_million_output_tokens=0.4),
    factors=(
        lever("step_times", BAND, (0.8, 1.25), (12.5, 8.0)),
        lever("kv_blocks", BAND, (900, 1100), (9.5, 10.2), base_input=1000, unit="blocks"),
        lever("output_lengths", SUPPOSED, (0.8, 1.2), (13.0, 7.9)),
        lever("slo_limits", SUPPOSED, (0.8, 1.2), (10.0, 10.0)),
        lever("prefix_cache", SUPPOSED, (0.0, 1.0), (6.0, 10.0), unit="switch"),
    ),
)
SURE = Confidence(
    winner=certainty("a100", (8.0, 10.0, 12.5), 1.3),
    runner_up=certainty("h100-sxm", (16.0, 20.0, 24.0), 2.5),
    num_runs=20,
    num_lost=7,
    ends_lost=("at the bands' worse end",),
    common_mode=False,
    beyond=("Step times of attention are extrapolated at the rate that holds.",),
    leverage=LEVERAGE,
    seed=0,
    num_requests=500,
    num_of=2000,
)


def delta(value: float, low: float, middle: float, high: float) -> Delta:
    return Delta(value=value, delta=span(low, middle, high))


WHAT_IFS = (
    WhatIf(
        change=change_of("kv_cache_dtype=fp8"),
        rate_per_s=delta(12.0, 1.5, 2.0, 2.6),
        mean_running=delta(60.0, 5.0, 10.0, 14.0),
        usd_per_hour=delta(1.3, 0.0, 0.0, 0.0),
        usd_per_million_output_tokens=delta(0.42, -0.1, -0.08, -0.06),
    ),
    WhatIf(
        change=change_of("gpu=h200"),
        asked=False,
        rate_per_s=delta(25.0, 10.0, 15.0, 20.0),
        mean_running=delta(70.0, 10.0, 20.0, 30.0),
        usd_per_hour=delta(4.0, 2.7, 2.7, 2.7),
        usd_per_million_output_tokens=delta(0.6, -0.01, 0.1, 0.2),
    ),
    WhatIf(
        change=change_of("memory+20%"),
        rate_per_s=delta(11.0, 0.4, 1.0, 1.5),
        mean_running=delta(55.0, 2.0, 5.0, 8.0),
        usd_per_hour=delta(1.3, 0.0, 0.0, 0.0),
        usd_per_million_output_tokens=delta(0.45, -0.07, -0.05, -0.02),
    ),
    WhatIf(
        change=change_of("block_size=16"),
        rate_per_s=delta(10.0, 0.0, 0.0, 0.0),
        mean_running=delta(50.0, 0.0, 0.0, 0.0),
        usd_per_hour=delta(1.3, 0.0, 0.0, 0.0),
        usd_per_million_output_tokens=delta(0.5, 0.0, 0.0, 0.0),
    ),
    WhatIf(change=change_of("tensor_parallel_size=3"), refused="3 must divide 32."),
)
