"""Memory below the GPU: drawn where there is some, with numbers that add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvsim.reports.figures.memory_tiers import memory_tiers
from kvsim.reports.tables import summary_table
from kvsim.reports.tier_sheets import bytes_per_token, hit_tokens, tier_facts, tier_sheet
from kvsim.sim.load import load_server
from kvsim.sim.plan import Plan, make_plan
from kvsim.traces.cache_curve import cache_curve
from kvsim.traces.intake import Intake, take_in


@pytest.fixture(scope="module")
def tiered() -> Plan:
    """Sessions that come back after a small pool has forgotten them."""
    taken = take_in(
        Intake(
            workload="sharegpt",
            num_requests=60,
            rate_per_s=4.0,
            turns=3,
            think_time_s=20.0,
            seed=1,
        )
    )
    flags = {
        "num_gpu_blocks_override": 400,
        "kv_offloading_size": 0.25,
        "kv_offloading_secondary_size": 4.0,
        "kv_offloading_secondary_bandwidth": 2.0,
        "step_cost": "affine:0.02,0.0001,0.0000001",
        "max_num_seqs": 32,
    }
    hardware = {"gpu": "a100", "model": "llama-3.1-8b"}
    server = load_server(taken.trace, hardware=hardware, flags=flags)
    return make_plan(server, taken=taken, baselines=())


def test_a_plan_without_tiers_has_no_such_figure(tiered: Plan) -> None:
    without = replace(tiered.chosen, result=replace(tiered.chosen.result, tiers=()))
    assert memory_tiers(replace(tiered, chosen=without)) is None


def test_hits_of_all_tiers_are_all_hits(tiered: Plan) -> None:
    summary = tiered.chosen.summary
    hits = hit_tokens(summary)
    assert sum(hits.values()) == summary.prefix_hit_tokens
    assert hits["host"] > 0
    assert hits["secondary"] > 0
    picture = memory_tiers(tiered)
    assert picture is not None
    rows = {row[0]: row for row in picture.sheet.rows}
    assert list(rows)[:3] == ["GPU", "+ host memory", "+ second tier"]
    assert rows["+ host memory"][2] == f"{hits['host']:,}"


def test_levels_stay_within_the_tiers(tiered: Plan) -> None:
    result = tiered.chosen.result
    for tier in result.tiers:
        levels = result.segments[f"{tier.name}_bytes"]
        assert len(levels) == len(result.segments["start_s"])
        assert 0 <= levels.min() <= levels.max() <= tier.peak_bytes <= tier.size_bytes
        assert levels[-1] == tier.resident_bytes
    picture = memory_tiers(tiered)
    assert picture is not None
    panels = picture.figure.axes
    assert [axes.get_title(loc="left").split(",")[0] for axes in panels[-2:]] == [
        "in host memory",
        "in second tier",
    ]


def test_the_terminal_says_what_was_found_below(tiered: Plan) -> None:
    facts = tier_facts(tiered.chosen.summary)
    assert list(facts)[:2] == [
        "hits in host memory, of prompt tokens",
        "hits in second tier, of prompt tokens",
    ]
    assert summary_table(tiered.chosen.summary).row_count > len(facts)
    assert bytes_per_token(tiered) == 131_072


def test_the_bound_grows_with_memory(tiered: Plan) -> None:
    """Of a trace with prefix ids: it ends at what an endless one has."""
    ids = np.arange(60, dtype=np.uint64) % 20
    trace = replace(
        tiered.trace.take(np.arange(20)),
        arrival_s=np.arange(20.0),
        parent=None,
        delay_s=None,
        prompt_tokens=np.full(20, 1536),
        output_tokens=np.full(20, 4),
        prefix_row=None,
        prefix_tokens=None,
        hash_ids=ids,
        hash_offsets=np.arange(0, 61, 3),
        hash_block_size=512,
    )
    sheet = tier_sheet(replace(tiered, cache_curve=cache_curve(trace)))
    bounds = [float(row[4].removesuffix(" %")) for row in sheet.rows]
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(100 * cache_curve(trace).token_ratio(None), abs=0.1)
