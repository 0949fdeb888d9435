"""Single operators: measured points are met, traps are not believed, laws hold between them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.operators import Mix
from kvsim.calibration.silicon import SYSTEMS, layers, tables
from kvsim.calibration.silicon.cold import COLD, ColdGrid
from kvsim.calibration.silicon.comm import AllReduce
from kvsim.calibration.silicon.decode import DecodeTable
from kvsim.calibration.silicon.gemm import Gemm
from kvsim.calibration.silicon.grid import LogGrid
from kvsim.calibration.silicon.heads import Heads
from kvsim.calibration.silicon.latent import Latent
from kvsim.calibration.silicon.moe import Experts, Moe
from kvsim.calibration.silicon.monotone import Rising, rising, undisturbed
from kvsim.calibration.silicon.prefill import PrefillLaw
from kvsim.calibration.silicon.products import layer_products
from kvsim.calibration.silicon.recurrent import Recurrent

LLAMA = Heads(query=32, kv=8, dim=128, kv_dtype="bfloat16")
LLAMA_ROWS = {
    "num_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "kv_cache_dtype": "bfloat16",
    "window_size": 0,
}
"""Of the attention tables."""
H100, A100, L40S = (load_gpu(name) for name in ("h100-sxm", "a100", "l40s"))


def decode(gpu: str, heads: Heads) -> DecodeTable:
    law = PrefillLaw(load_gpu(gpu), heads)
    return DecodeTable(load_gpu(gpu), heads, tile_ns_per_key=law.tile_ns_per_key)


def test_grid_meets_its_points_and_flags_the_outside() -> None:
    x, y = np.array([1.0, 1.0, 4.0, 4.0]), np.array([2.0, 8.0, 2.0, 8.0])
    grid = LogGrid((x, y), np.array([1.0, 2.0, 3.0, 4.0]))
    assert grid(1, 2) == (1.0, 0.0, False)
    assert grid(2, 4).value == pytest.approx(2.5)  # half-way on both axes
    assert grid(2, 4).distance == 1.0
    assert grid(16, 2) == (3.0, 2.0, True)
    assert grid.cut(8)(4) == (4.0, 0.0, False)


def test_grid_fills_holes_from_neighbours() -> None:
    grid = LogGrid(
        (np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0])), np.array([1.0, 5.0, 2.0])
    )
    assert grid(2, 2).value == 2.0


def test_rising_averages_what_is_out_of_order() -> None:
    assert rising([1, 3, 2, 4]) == [1, 2.5, 2.5, 4]
    assert rising([3, 2, 1]) == [2, 2, 2]
    line = Rising([1, 2, 4], [10, 11, 10])
    assert [line(x) for x in (0.5, 1, 2, 3, 8)] == [10, 10, 10.5, 10.5, 21]
    disturbed = Rising([1, 2, 4], [10, 90, 20])
    assert [disturbed(x) for x in (1, 2, 4)] == [10, 20, 20]


def test_disturbed_points_take_the_larger_shapes_time() -> None:
    grid = np.array([[1.0, 9.0, 3.0], [1.1, 2.0, np.nan]])
    assert undisturbed(grid).tolist()[0] == [1.0, 2.0, 3.0]
    scatter = np.array([[1.0, 1.1, 1.05]])
    assert undisturbed(scatter).tolist() == scatter.tolist()


@pytest.mark.parametrize("name", SYSTEMS)
def test_products_meet_the_table(name: str) -> None:
    """At measured shapes within the table's own scatter; most to a few per cent."""
    columns = ("m", "n", "k")
    folder = SYSTEMS[name].folder
    found = tables.rows(folder, "gemm", "gemm", columns, {"gemm_dtype": "bfloat16", "k": 4096})
    product = Gemm(load_gpu(name), 16.0)
    keep = np.isin(found["n"], (4096, 6144, 12288)) & np.isin(found["m"], (1, 16, 128, 1024, 4096))
    errors = [
        product(int(m), int(n), 4096).ns / ns - 1
        for m, n, ns in zip(found["m"][keep], found["n"][keep], found["ns"][keep], strict=True)
    ]
    assert len(errors) == 15
    assert np.median(np.abs(errors)) < 0.06


def test_left_out_weights_are_met() -> None:
    """A width of the table that is taken out of it is found again between its neighbours."""
    columns = ("m", "n", "k")
    found = tables.rows("h100_sxm", "gemm", "gemm", columns, {"gemm_dtype": "bfloat16", "k": 4096})
    left_out = found["n"] == 6144

    def bound(n: np.ndarray, m: np.ndarray) -> np.ndarray:
        moved = 2 * (n * 4096 + m * (n + 4096)) / 3.35e12
        return np.asarray(1e9 * np.maximum(2 * m * n * 4096 / 989e12, moved))

    m, n = found["m"].astype(float), found["n"].astype(float)
    grid = LogGrid((m[~left_out], n[~left_out]), (found["ns"] / bound(n, m))[~left_out])
    ours = np.array([grid(x, 6144).value for x in m[left_out]]) * bound(n, m)[left_out]
    errors = np.abs(ours / found["ns"][left_out] - 1)
    assert np.median(errors) < 0.08
    assert np.quantile(errors, 0.9) < 0.20


def test_products_timed_launch_by_launch_are_not_believed() -> None:
    """Block-scaled FP8 of 128 x 128 takes 60 us on the H100's table: that is the host."""
    block, tensor = Gemm(H100, 8.002), Gemm(H100, 8.0)
    assert (block.format, tensor.format) == ("fp8", "fp8")
    assert block.derived
    assert not tensor.derived
    assert block(1, 4096, 4096).ns < 20e3
    assert block(1, 4096, 4096).outside


def test_weights_of_four_bits_read_less_and_compute_as_much() -> None:
    wide, narrow = Gemm(H100, 16.0), Gemm(H100, 4.25)
    assert narrow.derived
    assert narrow(1, 28_672, 4096).ns < 0.4 * wide(1, 28_672, 4096).ns
    assert narrow(4096, 28_672, 4096).ns == pytest.approx(wide(4096, 28_672, 4096).ns, rel=0.1)


def test_fp8_weights_on_a_card_without_fp8_units() -> None:
    """An A100 widens them: fewer bytes, no more FLOP/s."""
    narrow, wide = Gemm(A100, 8.0), Gemm(A100, 16.0)
    assert narrow.format == "bfloat16"
    assert narrow.derived
    assert narrow(1, 8192, 8192).ns < 0.7 * wide(1, 8192, 8192).ns
    assert narrow(4096, 8192, 8192).ns > 0.9 * wide(4096, 8192, 8192).ns


def test_warm_points_are_not_believed() -> None:
    """A batch of one at 8k tokens: 33 MB in the 50 MB cache of an H100, 128 MB of an RTX."""
    for name, tokens in (("h100-sxm", 8192), ("rtx-pro-6000", 32_768)):
        gpu = load_gpu(name)
        where = {**LLAMA_ROWS, "batch_size": 1, "step": tokens - 1}
        folder = SYSTEMS[name].folder
        found = tables.rows(folder, "attention", "generation_attention", ("step",), where)
        warm, cold = float(found["ns"][0]), decode(name, LLAMA)(1, tokens).ns
        read = tokens * LLAMA.bytes_per_token
        assert read < COLD * (gpu.l2_bytes or 0)
        assert cold > 1.05 * warm
        assert read / (cold - decode(name, LLAMA).floor_ns(1)) < gpu.memory_bandwidth_bytes_per_s


def test_cold_points_are_met() -> None:
    table = decode("h100-sxm", LLAMA)
    names = ("batch_size", "step")
    found = tables.rows("h100_sxm", "attention", "generation_attention", names, LLAMA_ROWS)
    size = found["batch_size"] * (found["step"] + 1) * LLAMA.bytes_per_token
    cold = size > COLD * (H100.l2_bytes or 0)
    errors = [
        table(int(b), int(b) * (int(s) + 1)).ns / ns - 1
        for b, s, ns in zip(
            found["batch_size"][cold], found["step"][cold], found["ns"][cold], strict=True
        )
    ]
    assert len(errors) > 40
    assert np.max(np.abs(errors)) < 0.08


def test_more_kv_heads_are_more_sequences() -> None:
    """32 KV heads with one query head each: four times the sequences of 8."""
    many = Heads(query=32, kv=32, dim=128, kv_dtype="bfloat16")
    few = Heads(query=8, kv=8, dim=128, kv_dtype="bfloat16")
    ours, theirs = decode("h100-sxm", many), decode("h100-sxm", few)
    assert not ours.derived
    assert ours(8, 8 * 4096).ns == pytest.approx(theirs(32, 32 * 4096).ns)


def test_contexts_beyond_the_table_are_flagged_and_go_on_at_the_cold_rate() -> None:
    table = decode("h100-sxm", LLAMA)
    last, beyond = table(1, 65_536), table(1, 131_072)
    assert beyond.outside
    assert not last.outside
    rate = 65_536 * LLAMA.bytes_per_token / (beyond.ns - last.ns)  # bytes a nanosecond: GB/s
    assert 2900 < rate < 3350


def test_windows_bound_the_reading() -> None:
    window = Heads(query=64, kv=8, dim=64, kv_dtype="bfloat16", window=128)
    table = decode("h100-sxm", window)
    assert table(64, 64 * 16_384).ns == pytest.approx(table(64, 64 * 1024).ns, rel=0.1)
    own = decode("h100-sxm", Heads(query=32, kv=8, dim=128, kv_dtype="bfloat16", window=4096))
    assert own.derived  # no table has that window: full attention, cut
    assert own(64, 64 * 16_384).ns == own(64, 64 * 4096).ns


def test_prefills_without_a_past_meet_the_table() -> None:
    law = PrefillLaw(H100, LLAMA)
    where = {**LLAMA_ROWS, "batch_size": 1}
    found = tables.rows("h100_sxm", "attention", "context_attention", ("isl",), where)
    for length, ns in zip(found["isl"].tolist(), found["ns"].tolist(), strict=True):
        if length >= 16:
            assert law(Mix(((length, 0),))).ns == pytest.approx(ns, rel=0.05)


def test_a_past_costs_in_proportion_and_tiles_come_in_waves() -> None:
    law = PrefillLaw(load_gpu("rtx-pro-6000"), LLAMA)
    one, two, four = (law(Mix(((512, past),))).ns for past in (4096, 8192, 16_384))
    assert (four - two) == pytest.approx(2 * (two - one), rel=1e-6)
    assert law(Mix(((64, 16_384),))).ns == pytest.approx(law(Mix(((16, 16_384),))).ns, rel=0.05)


def test_all_reduce_picks_the_faster_kernel() -> None:
    times = [AllReduce(H100, 8)(n).ns for n in (1024, 65_536, 1 << 20, 1 << 24, 1 << 28)]
    assert all(a < b for a, b in pairwise(times))
    assert AllReduce(H100, 8)(1024).ns < 6e3  # the engine's own; NCCL takes 16 us
    assert AllReduce(H100, 1)(1024).ns == 0
    assert AllReduce(H100, 16).derived
    for gpu in (A100, H100, load_gpu("b200")):
        rises = [AllReduce(gpu, 8)(2**n).ns for n in range(10, 28)]
        assert all(a <= b for a, b in pairwise(rises))


def test_a_slow_host_is_believed_to_a_quarter_of_its_bus() -> None:
    """Eight L40S were measured at 1.5 GB/s over a bus of 32."""
    found = AllReduce(L40S, 8)(1 << 24)
    assert found.outside
    assert found.bytes / found.ns == pytest.approx(8, rel=0.05)


def test_experts_meet_their_shape_or_are_flagged() -> None:
    mixtral = Experts(
        hidden_size=4096,
        intermediate_size=14_336,
        experts_per_token=2,
        num_experts=8,
        bits=16.0,
    )
    assert mixtral.bytes_read(1) == pytest.approx(2 * 3 * 4096 * 14_336 * 2)
    assert mixtral.bytes_read(1000) == pytest.approx(8 * 3 * 4096 * 14_336 * 2)
    moe = Moe(H100, mixtral)
    assert not moe.derived
    assert moe(1).ns == pytest.approx(256e3, rel=0.02)
    other = Experts(
        hidden_size=4608,
        intermediate_size=12_288,
        experts_per_token=2,
        num_experts=12,
        bits=16.0,
    )
    assert Moe(H100, other).derived
    assert Moe(H100, other)(16).outside


def test_latent_attention_without_its_projections() -> None:
    """The module of 16 heads takes 100 us for one token; its projections are most of that."""
    latent = Latent(H100, num_heads=16, kv_dtype="bfloat16")
    assert not latent.derived
    assert 9e3 < latent(1, 2).ns < 60e3
    assert latent(256, 256 * 65_536).ns == pytest.approx(6449e3, rel=0.05)  # nearly all of it
    one, two = latent.chunk(8192, 0), latent.chunk(8192, 8192)
    assert two.ns == pytest.approx(3 * one.ns, rel=0.1)  # three times the pairs
    assert two.outside
    assert not one.outside
    far = latent.chunk(131_072, 0)
    assert far.ns >= 1e9 * far.flops / 989e12


def test_latent_caches_in_fp8_are_read_where_two_kernels_were_measured() -> None:
    for name in ("b200", "gb300", "rtx-pro-6000"):
        latent = Latent(load_gpu(name), num_heads=128, kv_dtype="fp8")
        chunk = latent.chunk(65_536, 0)
        assert chunk.ns >= 1e9 * chunk.flops / (load_gpu(name).flops_of("bf16") or 0)


@pytest.mark.parametrize("name", ["l40s", "rtx-pro-6000", "h100-sxm"])
def test_nothing_is_read_faster_than_memory_allows(name: str) -> None:
    """Small weights and few experts were measured out of the large caches."""
    gpu = load_gpu(name)
    rate = gpu.memory_bandwidth_bytes_per_s / 1e9
    for bits in (16.0, 8.0):
        for n, k in ((1024, 1024), (4096, 2048), (8192, 8192)):
            found = Gemm(gpu, bits)(1, n, k)
            assert found.ns >= n * k * bits / 8 / rate
    experts = Experts(
        hidden_size=2048, intermediate_size=768, experts_per_token=8, num_experts=128, bits=16.0
    )
    for tokens in (1, 4, 16, 64):
        assert Moe(gpu, experts)(tokens).ns >= experts.bytes_read(tokens) / rate


def test_experts_measured_at_one_point_are_no_table() -> None:
    experts = Experts(
        hidden_size=6144, intermediate_size=2560, experts_per_token=8, num_experts=160, bits=16.0
    )
    for name in ("gb300", "gb200"):
        assert Moe(load_gpu(name), experts)(8192).ns < 20e6


def test_fp8_products_are_not_pulled_up_by_disturbed_rows() -> None:
    """257 rows of an H200 took three times what 256 and 512 did."""
    product = Gemm(load_gpu("h200"), 8.0).of(16_384, 4096)
    assert product.ns(257) < 1.6 * product.ns(256)
    assert product.ns(512) == pytest.approx(50.9e3, rel=0.05)


def test_recurrent_layers_cost_by_sequence_and_by_token() -> None:
    layer = Recurrent(H100, state_bytes=2_146_304, value_heads=32)
    assert not layer.derived
    assert layer.decode(256).ns == pytest.approx(4 * layer.decode(64).ns, rel=0.2)
    assert layer.chunk(8192).ns == pytest.approx(2 * layer.chunk(4096).ns, rel=0.2)


def test_recurrent_layers_are_found_by_their_heads_and_others_flagged() -> None:
    """A state kept in half the bytes has as many heads; Mamba-2 has no table of its own."""
    model = load_model("qwen3.5-35b-a3b")
    (kept,) = (group for group in model.layers if group.kind == "recurrent")
    wide, narrow = (
        layers._recurrent(H100, replace(kept, state_bytes=size), 1)
        for size in (kept.state_bytes, kept.state_bytes // 2)
    )
    assert not wide.derived
    assert not narrow.derived
    assert wide.chunk(4096).ns == narrow.chunk(4096).ns
    mamba = next(g for g in load_model("nemotron-h-56b").layers if g.kind == "recurrent")
    assert layers._recurrent(H100, mamba, 1).derived


def test_cold_grid_by_hand() -> None:
    """100 B of cache, 1 B a token: 8 to 128 tokens are warm, 256 and more cold at 2 ns/B."""
    gpu = replace(L40S, l2_bytes=100, memory_bandwidth_bytes_per_s=1e9)
    contexts = np.array([2, 4, 8, 16, 64, 128, 256, 512])
    ns = np.array([10.0, 10, 10, 10, 20, 30, 522, 1034])
    grid = ColdGrid(gpu, batch=np.ones(8, dtype=int), context=contexts, ns=ns, bytes_per_token=1.0)
    assert grid.cold_ns_per_byte == pytest.approx(2.0)
    cold = grid.at(1).ns
    assert cold[:4] == pytest.approx([10, 10, 26, 42])
    assert cold[4:] == pytest.approx([138, 266, 522, 1034])


MATRICES = ("attention", "mlp", "shared_experts", "router")
MODELS = (
    "llama-3.1-8b",
    "opt-13b",
    "gemma-4-26b-a4b",
    "qwen3.5-35b-a3b",
    "deepseek-v2-lite",
    "deepseek-v3.2",
    "glm-5.2",
    "nemotron-3-nano-30b-a3b",
    "minimax-m3",
    "phi-3-mini",
)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [1, 8])
def test_products_have_the_parameters_of_the_model(name: str, size: int) -> None:
    """Every matrix of a model is in one product, replicated ones on every GPU."""
    model = load_model(name)
    made = [round(p.n) * round(p.k) * p.layers for p in layer_products(model, size)]
    held = sum(
        group.num_parameters / min(size, group.max_shards or size)
        for group in model.weights
        if group.role in MATRICES
    )
    assert sum(made) == pytest.approx(held, rel=0.06 if name.startswith("gemma-4") else 0.015)
