"""The virtual-contiguous allocator: vAttention's pages, their ledger, and what small pages gain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.sim import plan as plan_module
from kvsim.sim import variant_runs
from kvsim.sim.allocators import VirtualAllocator
from kvsim.sim.allocators.layout import KINDS
from kvsim.sim.deployment import Deployment
from kvsim.sim.pages import KIB, MIB, PAGE_SIZES, kv_row_bytes, page_bytes_of, page_sizes_of
from kvsim.sim.plan import make_plan
from kvsim.sim.request import Request
from kvsim.sim.saturated import saturate
from kvsim.sim.server import Server, resolve
from kvsim.sim.simulation import simulate
from kvsim.traces import Trace, synthesize
from kvsim.traces.intake import Intake, take_in
from kvsim.traces.lengths import Lengths
from kvsim.traces.workload import Workload
from support.workloads import COSTS, Columns, traces

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
NO_LIMIT = 1 << 30
FIG_15 = {  # (model, GPUs): the largest batches with pages of 64 KiB and of 2 MiB
    ("yi-6b", 1): (240, 187),
    ("llama-3-8b", 2): (258, 203),
}


@pytest.mark.parametrize(("model", "gpus"), FIG_15)
@pytest.mark.parametrize(("size", "tokens"), [("64KiB", 64), ("2MiB", 2048)])
def test_tokens_of_a_page(model: str, gpus: int, size: str, tokens: int) -> None:
    row = kv_row_bytes(load_model(model), "auto", gpus)
    assert page_bytes_of(size) // row == tokens


def test_fp8_rows_are_half_as_long() -> None:
    assert kv_row_bytes(load_model("yi-6b"), "fp8", 1) == 512


@pytest.mark.parametrize("text", ["64KiB", "64 kib", "64KB", "64k", "65536"])
def test_sizes_in_words(text: str) -> None:
    assert page_bytes_of(text) == 64 * KIB


def test_several_sizes() -> None:
    assert page_sizes_of("2MB,64KiB,2MiB") == (2 * MIB, 64 * KIB)
    assert page_sizes_of("") == ()


@pytest.mark.parametrize("text", ["4KiB", "2", "64MiB", ""])
def test_no_such_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"^page_size\(='.*'\) must be one of 64KiB, 128KiB"):
        page_bytes_of(text)


def test_layers_that_differ_are_refused() -> None:
    model = load_model("yi-6b")
    one = replace(model.layers[0], num_layers=1)
    other = replace(one, num_kv_heads=8)
    with pytest.raises(ValueError, match=r"allocator\(=virtual\) needs layers .* model\(=yi-6b\)"):
        kv_row_bytes(replace(model, layers=(one, other)), "auto", 1)
    with pytest.raises(ValueError, match=r"allocator\(=virtual\) needs layers"):
        kv_row_bytes(replace(model, layers=(replace(one, head_dim_v=64),)), "auto", 1)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"page_bytes": 4096}, r"page_bytes\(=4096\) must be one of 65536, 131072"),
        ({"allocator": "virtal"}, r"allocator\(=.*virtual"),
    ],
)
def test_wrong_flags(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Deployment(max_model_len=64, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("slots", "row", "sentence"),
    [
        (1000, 0, r"kv_row_bytes\(=0\) must be in \[1, page_bytes\(=65536\)\]"),
        (1000, 65537, r"kv_row_bytes\(=65537\)"),
        (63, 1024, r"page_bytes\(=65536\) is more than the pool has in one tensor \(64512 bytes"),
    ],
)
def test_no_pages(slots: int, row: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        VirtualAllocator(pool_slots=slots, page_bytes=64 * KIB, kv_row_bytes=row)


class TestLedger:
    def test_what_is_left_over(self) -> None:
        """1000 slots of 10,240 bytes are 156 pages of 6 tokens: 64 slots are lost."""
        allocator = VirtualAllocator(pool_slots=1000, page_bytes=64 * KIB, kv_row_bytes=10_240)
        assert (allocator.block_size, allocator.num_pages) == (6, 156)
        assert allocator.usage(blocked=False) == (0, 0, 1000 - 156 * 6, 0, 0, 0)
        allocator.check()

    def test_a_page_at_a_time(self) -> None:
        allocator = VirtualAllocator(pool_slots=400, page_bytes=64 * KIB, kv_row_bytes=1024)
        one, other = (Request(index=i, prompt_tokens=65, output_tokens=20) for i in range(2))
        assert allocator.num_pages == 6
        for request in (one, other):
            allocator.admit(request, 65)
        usage = allocator.usage(blocked=False)
        assert usage.held == 4 * 64
        assert usage.internal == 2 * (2 * 64 - 84), "to be filled: the prompt and all but one"
        assert usage.external == 400 - 6 * 64
        assert not {*allocator.pieces(one)} & {*allocator.pieces(other)}
        layout = allocator.layout(lambda requests: [65] * len(requests), blocked=False)
        assert layout.slots.sum(axis=1).tolist() == [130, 38, 88, 16, 0]
        assert layout.slots[KINDS.index("external"), -1] == 16, "behind the last page"
        assert layout.starts[-1] == 384
        allocator.check()

    def test_all_pages_can_be_had(self) -> None:
        """There is no null block: a request that needs every page runs."""
        allocator = VirtualAllocator(pool_slots=128, page_bytes=64 * KIB, kv_row_bytes=1024)
        fits = Request(index=0, prompt_tokens=120, output_tokens=9)
        assert allocator.why_never(fits) == ""
        assert allocator.can_admit(fits, 120, others_run=False)
        more = Request(index=0, prompt_tokens=120, output_tokens=10)
        assert allocator.why_never(more) == "needs more than all 2 pages of the pool"


@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
@given(trace=traces(), pages=st.integers(4, 40), tokens=st.sampled_from([1, 8, 16, 64]))
def test_pages_are_blocks_of_their_size(trace: Columns, pages: int, tokens: int) -> None:
    """But for the null block, memory is what it is with paged blocks as long as a page."""
    flags = {"max_model_len": 256, "max_num_seqs": 16}
    virtual = Deployment(
        allocator="virtual",
        kv_row_bytes=64 * KIB // tokens,
        block_size=tokens,
        **flags,  # type: ignore[arg-type]
    )
    paged = Deployment(block_size=tokens, **flags)  # type: ignore[arg-type]
    cost = COSTS["affine"]
    ours = simulate(trace, deployment=virtual, cost=cost, num_gpu_blocks=pages, check=True)
    theirs = simulate(trace, deployment=paged, cost=cost, num_gpu_blocks=pages + 1, check=True)
    assert ours.pool_slots == theirs.pool_slots
    for name in set(ours.requests) - {"reject_reason"}:
        np.testing.assert_array_equal(ours.requests[name], theirs.requests[name], err_msg=name)
    for name, column in ours.segments.items():
        np.testing.assert_array_equal(column, theirs.segments[name], err_msg=name)


def _openchat(num_requests: int) -> Trace:
    """OpenChat-ShareGPT4, not cut at 8192 tokens as in Sarathi-Serve but at 32,768.

    Cut at 8192 these lengths have the published medians (1730 in, 415 out) and P90 (5696, 834).
    Fig. 15's cut is not stated; vAttention's scripts take up to 32,768 tokens. Its own figures
    speak for that: an A100 has some 990,000 tokens left beside Yi-6B, 4,100 for each of 240
    requests; lengths cut at 8192 leave 2,700 in flight, and a gain of 1.41.
    """
    workload = Workload(
        name="openchat-sharegpt4",
        prompt=Lengths(kind="gamma", mean_tokens=4276.0, cv=1.211),
        output=Lengths(kind="gamma", mean_tokens=470.4, cv=0.587),
        max_total_tokens=32_768,
        source="Sarathi-Serve (OSDI 2024), Table 2, the cut aside",
    )
    return synthesize(workload=workload, num_requests=num_requests, seed=1)


def _server(model: str, gpus: int, trace: Trace, **flags: object) -> Server:
    return resolve(
        model=load_model(model),
        gpu=load_gpu("a100"),
        trace=trace,
        max_model_len=32_768,
        flags={"tensor_parallel_size": gpus, "async_scheduling": False, **flags},
    )


@pytest.mark.parametrize(("model", "gpus"), FIG_15)
def test_what_small_pages_gain(model: str, gpus: int) -> None:
    """Fig. 15: 1.28 and 1.27 times the batch, through the planner's own path."""
    trace = _openchat(2_000)
    found = {}
    for size in (64 * KIB, 2 * MIB):
        server = _server(model, gpus, trace, allocator="virtual", page_bytes=size)
        lifted = server.with_flags(max_num_seqs=NO_LIMIT, max_num_batched_tokens=NO_LIMIT)
        _, backlog = saturate(lifted, trace, num_requests=len(trace))
        assert backlog.saturated
        found[size] = backlog.mean_running
    small, large = FIG_15[model, gpus]
    assert found[64 * KIB] / found[2 * MIB] == pytest.approx(small / large, rel=0.1)
    assert found[64 * KIB] == pytest.approx(small, rel=0.15)
    assert found[2 * MIB] == pytest.approx(large, rel=0.15)


def test_a_server_changes_its_allocator() -> None:
    trace = _openchat(20)
    paged = _server("llama-3-8b", 2, trace)
    virtual = paged.with_flags(allocator="virtual", page_bytes=2 * MIB)
    assert virtual.deployment.title == "virtual-2MiB"
    assert virtual.deployment.kv_row_bytes == 1024
    assert not virtual.deployment.enable_prefix_caching
    again = virtual.with_flags(page_bytes=PAGE_SIZES["64KiB"])
    assert again.deployment.title == "virtual-64KiB"
    resolved = _server("llama-3-8b", 2, trace, allocator="virtual", page_bytes=2 * MIB)
    assert resolved.num_gpu_blocks == paged.num_gpu_blocks
    assert "pages of 2048 KiB" in resolved.notes[0]
    assert "2048 tokens each" in resolved.notes[0]


@pytest.mark.slow
def test_a_plan_is_the_same_on_any_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = take_in(Intake(workload="sharegpt", num_requests=60, rate_per_s=6.0))
    server = _server("llama-3-8b", 2, taken.trace)
    found = []
    for jobs in (1, 2):
        for module in (plan_module, variant_runs):
            monkeypatch.setattr(module, "jobs_for", lambda _, jobs=jobs: jobs)
        found.append(make_plan(server, taken=taken).to_json())
    assert found[0] == found[1]


def test_a_plan_compares_pages_on_request() -> None:
    taken = take_in(Intake(workload="sharegpt", num_requests=60, rate_per_s=6.0))
    server = resolve(
        model=load_model("llama-3.1-8b"),
        gpu=load_gpu("a100"),
        trace=taken.trace,
        step_cost_spec="affine:0.02,0.0001,0.0000001",
        num_gpu_blocks_override=800,
    )
    plan = make_plan(server, taken=taken, baselines=(), page_sizes=(64 * KIB, 2 * MIB))
    small, large = plan.baselines
    assert (small.title, large.title) == ("virtual-64KiB", "virtual-2MiB")
    assert plan.assumptions[-1].startswith("virtual-2MiB maps 2048 KiB")
    alone = [one.memory_backlog for one in plan.candidates]
    assert all(alone)
    paged, of_small, of_large = (one.mean_running for one in alone if one)
    assert paged > of_small > of_large
