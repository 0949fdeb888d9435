"""Moving blocks: the equations on paper, what scales with what, and which source is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.moves import BlockMoves, block_moves, fragments_per_block, profile_for
from kvsim.calibration.profile import find
from kvsim.calibration.profile.store import write_profile
from kvsim.calibration.profile.values import LineFit, Profile
from kvsim.calibration.step_cost import NS_PER_S
from kvsim.calibration.ways import Way, datasheet_ways
from kvsim.sim.provenance import digests, sources
from kvsim.sim.server import resolve
from kvsim.traces import synthesize, workload_preset
from support.profiles import make_profile

LLAMA, OPT = load_model("llama-3.1-8b"), load_model("opt-13b")
H100, H200, A100 = load_gpu("h100-sxm"), load_gpu("h200"), load_gpu("a100-40gb")
BLOCK = 16 * LLAMA.kv_bytes_per_token()
LINES = (
    LineFit(name="block_copy", t0_s=4e-6, unit_s=1e-8, bytes_per_s=3e12),
    LineFit(name="pcie d2h pinned blockwise", t0_s=12e-6, unit_s=2e-6, bytes_per_s=5e10),
    LineFit(name="pcie h2d pinned blockwise", t0_s=11e-6, unit_s=1e-6, bytes_per_s=4e10),
    LineFit(name="pcie d2h pinned gathered", t0_s=20e-6, unit_s=1e-8, bytes_per_s=5e10),
    LineFit(name="pcie h2d pinned gathered", t0_s=20e-6, unit_s=1e-8, bytes_per_s=4e10),
    LineFit(name="pcie h2d pinned", t0_s=9e-6, unit_s=0.0, bytes_per_s=5.5e10),
)


def moves(profile: Profile | None = None, **changes: object) -> BlockMoves:
    values = {"model": LLAMA, "gpu": H100, "block_bytes": BLOCK, "profile": profile, **changes}
    return block_moves(**values)  # type: ignore[arg-type]


def seconds(ns: float) -> float:
    return ns / NS_PER_S


def test_a_block_lies_in_keys_and_values_of_every_layer() -> None:
    assert fragments_per_block(LLAMA.layers) == 2 * 32
    assert fragments_per_block(load_model("deepseek-v2-lite").layers) == 27, "one latent a layer"


def test_the_datasheet_on_paper() -> None:
    made, size = moves(), 10 * BLOCK
    link = 0.78 * 64e9
    assert made.source == "datasheet"
    assert seconds(made.swap_ns(10)) == pytest.approx(10e-6 + 640 * 2.3e-6 + size / link)
    assert made.swap_ns(10, inward=True) == made.swap_ns(10)
    assert made.swap_out_and_in_ns(10) == 2 * made.swap_ns(10)
    assert seconds(made.load_ns(size)) == pytest.approx(10e-6 + size / link)
    assert seconds(made.copy_ns(10)) == pytest.approx(3e-6 + 2 * size / (0.8 * 3.35e12))
    assert made.copy_ns(10) == made.copy_bytes_ns(size), "a launch has no fragments to pay for"


def test_large_transfers_reach_what_was_published_of_an_h100() -> None:
    large = moves().load_ns(1e9)
    assert 1e9 / seconds(large) == pytest.approx(50e9, rel=0.01)


def test_gathered_blocks_cross_in_one_piece() -> None:
    gathered = moves(method="gathered")
    assert gathered.segments_per_block == 0
    assert gathered.swap_ns(10) < moves().swap_ns(10) / 2
    assert gathered.swap_ns(10) > gathered.load_ns(10 * BLOCK), "gathering is not free"
    one_by_one = sum(gathered.swap_ns(1) for _ in range(10))
    assert gathered.swap_ns(10) < one_by_one


@given(
    st.integers(0, 5000),
    st.integers(0, 5000),
    st.sampled_from(("per_layer", "gathered")),
    st.sampled_from((None, make_profile(lines=LINES))),
)
def test_more_blocks_cost_more_but_less_than_apart(
    few: int, more: int, method: str, profile: Profile | None
) -> None:
    made = moves(profile, method=method, gpu=H200)
    for cost in (made.copy_ns, made.swap_ns, made.swap_out_and_in_ns, made.load_ns):
        assert cost(0) == 0.0
        assert cost(few) <= cost(few + more) <= cost(few) + cost(more) + 1e-6
    if few:
        assert made.copy_ns(few) < made.swap_ns(few), "memory is faster than the link"


@given(st.integers(1, 64), st.integers(1, 500))
def test_the_same_bytes_in_smaller_blocks_never_swap_faster(cut: int, blocks: int) -> None:
    whole, small = moves(block_bytes=cut * BLOCK), moves()
    assert whole.swap_ns(blocks) <= small.swap_ns(cut * blocks)


def test_the_band_is_as_wide_as_what_the_time_is_spent_on() -> None:
    small, large = moves(block_bytes=BLOCK // 16), moves(block_bytes=512 * BLOCK)
    assert 2.8 < small.swap_band(100).high < 3.0, "nearly all of it transfers"
    assert 1.25 < large.swap_band(100).high < 1.3, "nearly all of it bytes"
    assert small.swap_band(100).low == pytest.approx(0.8)
    assert small.swap_band(0) == small.band
    gathered = moves(method="gathered")
    assert gathered.swap_band(100).high == gathered.band.high
    known = moves(make_profile(lines=LINES), gpu=H200)
    assert known.swap_band(10).high == pytest.approx(known.band.high)


def test_a_shard_crosses_its_own_link() -> None:
    half = moves(block_bytes=16 * LLAMA.kv_bytes_per_token(tensor_parallel_size=2))
    sent = [seconds(made.swap_ns(10)) - 10e-6 - 640 * 2.3e-6 for made in (half, moves())]
    assert sent[0] == pytest.approx(sent[1] / 2)


def test_a_profile_gives_its_lines() -> None:
    made, size = moves(make_profile(lines=LINES), gpu=H200), 10 * BLOCK
    assert (made.source, made.why) == ("measured", "")
    assert seconds(made.swap_ns(10)) == pytest.approx(12e-6 + 640 * 2e-6 + size / 5e10)
    assert seconds(made.swap_ns(10, inward=True)) == pytest.approx(11e-6 + 640e-6 + size / 4e10)
    assert seconds(made.copy_ns(10)) == pytest.approx(4e-6 + 640e-8 + 2 * size / 3e12)
    assert seconds(made.load_ns(size)) == pytest.approx(9e-6 + size / 5.5e10)
    assert made.origin == "measured (profile h200.2026-11-22.a1b2)"
    gathered = moves(make_profile(lines=LINES), gpu=H200, method="gathered")
    kernel = 10 * 32 * 1e-8
    assert seconds(gathered.swap_ns(10)) == pytest.approx(20e-6 + kernel + size / 5e10)


def test_what_a_profile_lacks_is_the_datasheets() -> None:
    made = moves(make_profile(lines=LINES[:1]), gpu=H200)
    assert made.source == "measured and datasheet"
    assert made.swap_ns(10) == moves(gpu=H200).swap_ns(10)
    assert made.band == moves().band, "as wide as its widest part"
    none = moves(make_profile(lines=()), gpu=H200)
    assert (none.source, none.copy_ns(3)) == ("datasheet", moves(gpu=H200).copy_ns(3))
    assert none.why == "profile h200.2026-11-22.a1b2 has no times of links or copies"


def test_an_unknown_model_was_measured() -> None:
    made = moves(replace(make_profile(lines=LINES), model="no-such"), gpu=H200, method="gathered")
    assert made.swapping_out.source == "datasheet"
    assert made.copying.source.startswith("measured (profile ")


def test_which_profile_is_taken(tmp_path: Path) -> None:
    path = str(write_profile(make_profile(lines=LINES), (), tmp_path / "h200.json")[0])
    for spec, given_path in ((f"measured:{path}", None), ("auto", path)):
        assert profile_for(H200, spec, given_path)[0] is not None
    assert profile_for(H200, "datasheet") == (None, "step times are datasheet")
    assert profile_for(H200, "affine:1,2,3") == (None, "step times are affine")
    assert profile_for(A100, "auto") == (None, "kvsim ships no profile of a100-40gb")
    with pytest.raises(ValueError, match="was measured on NVIDIA H200"):
        profile_for(A100, f"measured:{path}")


def test_a_shipped_profile_of_other_kernels_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "BUNDLED", tmp_path)
    write_profile(make_profile(lines=LINES), (), tmp_path / "h200.json")
    assert profile_for(H200, "auto")[0] is not None
    other = make_profile(lines=LINES, software={"kernel_hash": "sha256:0"})
    write_profile(other, (), tmp_path / "h200.json")
    found, why = profile_for(H200, "auto")
    assert found is None
    assert why.startswith("the profile h200 that kvsim ships was measured with other kernels")


def test_a_server_knows_what_its_blocks_cost() -> None:
    trace = synthesize(workload=workload_preset("sharegpt"), num_requests=5, seed=0)
    for size in (1, 2):
        flags = {"block_size": 32, "tensor_parallel_size": size}
        server = resolve(model=OPT, gpu=A100, trace=trace, flags=flags, max_model_len=2048)
        assert server.moves.block_bytes == 32 * OPT.kv_bytes_per_token("auto", size)
        assert server.moves.segments_per_block == 80


def test_a_run_that_moved_blocks_names_the_source() -> None:
    trace = synthesize(workload=workload_preset("sharegpt"), num_requests=5, seed=0)
    server = resolve(model=OPT, gpu=A100, trace=trace, step_cost_spec="datasheet")
    still, moved = sources(server), sources(server, moved=True)
    assert moved.keys() - still.keys() == {"moves", "moves_band"}
    assert moved["moves"] == "datasheet (step times are datasheet)"
    plain, more = (digests(server, trace_digest="t", moved=m) for m in (False, True))
    assert more.keys() - plain.keys() == {"moves"}
    slower = replace(server, gpu=replace(A100, pcie_bytes_per_s=1e9))
    link = datasheet_ways(slower.gpu, "per_layer")["swapping_out"]
    other = replace(slower, moves=replace(server.moves, swapping_out=link))
    assert digests(other, trace_digest="t") == plain, "nothing moved, nothing changed"
    assert digests(other, trace_digest="t", moved=True)["moves"] != more["moves"]


def test_windows_have_blocks_of_fewer_layers() -> None:
    trace = synthesize(workload=workload_preset("sharegpt"), num_requests=5, seed=0)
    server = resolve(model=load_model("gemma-3-12b"), gpu=H100, trace=trace)
    group = max(server.budget.kv_groups, key=lambda one: one.num_layers)
    assert server.moves.fragments_per_block == 2 * group.num_layers < 2 * 48
    assert server.moves.block_bytes == group.page_bytes


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: moves(block_bytes=0), r"block_bytes\(=0\) must be > 0\."),
        (lambda: moves(method="magic"), r"method\(='magic'\) is unknown"),
        (lambda: Way(call_ns=-1.0), r"call_ns\(=-1\.0\) must be >= 0\."),
        (lambda: Way(call_ns=0.0, bytes_per_s=0.0), r"bytes_per_s\(=0\.0\) must be > 0\."),
        (lambda: moves().swap_ns(-1), r"num_bytes\(=-2097152\) must be >= 0\."),
    ],
    ids=["no bytes", "method", "negative call", "no rate", "negative blocks"],
)
def test_wrong_input(build: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()  # type: ignore[operator]
