"""What is added to the tables or scaled from them, by hand."""

from __future__ import annotations

import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.operators import Mix
from kvsim.calibration.silicon import SYSTEMS, prefill
from kvsim.calibration.silicon.comm import AllReduce
from kvsim.calibration.silicon.elementwise import sampling_ns
from kvsim.calibration.silicon.gemm import Gemm
from kvsim.calibration.silicon.heads import Heads
from kvsim.calibration.silicon.latent import Latent
from kvsim.calibration.silicon.moe import Experts, Moe
from kvsim.calibration.silicon.prefill import EMPTY_TILE_NS, PrefillLaw
from kvsim.calibration.silicon.recurrent import Recurrent

H100 = load_gpu("h100-sxm")
BANDWIDTH = H100.memory_bandwidth_bytes_per_s


def test_more_gpus_than_measured_pass_a_rings_share_more() -> None:
    """Each passes 2 (n - 1) / n of a message: 15/16 where 8 GPUs pass 7/8."""
    for elements in (1 << 12, 1 << 24):
        ratio = AllReduce(H100, 16)(elements).ns / AllReduce(H100, 8)(elements).ns
        assert ratio == pytest.approx((15 / 16) / (7 / 8))


def test_an_all_reduce_takes_the_faster_kernel() -> None:
    """2 GPUs, 16 M values: NCCL's 143.6 us, not the engine's 156.3; the engine's for 4,096."""
    reduce = AllReduce(H100, 2)
    assert reduce(1 << 24).ns == pytest.approx(143_550, rel=0.01)
    assert reduce(1 << 12).ns == pytest.approx(4376, rel=0.01)


def test_experts_of_another_width_take_their_share() -> None:
    """Twice the width: twice the bytes of few tokens and the FLOPs of many."""
    shape = {"hidden_size": 4096, "experts_per_token": 2, "num_experts": 8, "bits": 16.0}
    measured, wide = (
        Moe(H100, Experts(intermediate_size=width, **shape))  # type: ignore[arg-type]
        for width in (14_336, 28_672)
    )
    assert not measured.derived
    assert wide.derived
    for tokens in (64, 4096):
        assert wide(tokens).ns == pytest.approx(2 * measured(tokens).ns, rel=0.1)


def test_recurrent_heads_beyond_the_table_cost_by_their_number() -> None:
    measured, more = (
        Recurrent(H100, state_bytes=65_536 * heads, value_heads=heads) for heads in (64, 96)
    )
    assert not measured.derived
    assert more.derived
    assert more.decode(64).ns == pytest.approx(1.5 * measured.decode(64).ns)
    assert more.chunk(4096).ns == pytest.approx(1.5 * measured.chunk(4096).ns)


def test_sampling_reads_the_logits_three_times() -> None:
    """Of 128,000 words in fp32: 256 rows come from memory, 64 from the cache, 1 is all launches."""
    launches = 3 * 3000.0
    large, small = 256 * 128_000 * 4, 64 * 128_000 * 4
    assert large > (H100.l2_bytes or 0) > small
    from_memory = 3 * 1e9 * large / (0.8 * BANDWIDTH)
    assert sampling_ns(H100, 128_000, 256).ns == pytest.approx(from_memory + launches)
    from_cache = 3 * 1e9 * small / (2.5 * 0.8 * BANDWIDTH)
    assert sampling_ns(H100, 128_000, 64).ns == pytest.approx(from_cache + launches)
    assert sampling_ns(H100, 128_000, 1).ns == 2 * launches


def test_a_long_prompt_of_latent_attention_is_the_module_less_its_projections() -> None:
    """128 heads on an H200, 32,768 tokens: the module took 74.0 ms."""
    card = load_gpu("h200")
    latent, gemm = Latent(card, num_heads=128, kv_dtype="bfloat16"), Gemm(card, 16.0)
    shapes = ((1536, 7168), (576, 7168), (24_576, 1536), (7168, 16_384), (32_768, 512))
    projections = sum(gemm.of(n, k).ns(32_768) for n, k in shapes)
    assert latent.chunk(32_768, 0).ns + projections == pytest.approx(74_006_500, rel=1e-3)


def test_more_latent_heads_than_measured_cost_by_their_number() -> None:
    measured, more = (Latent(H100, num_heads=n, kv_dtype="bfloat16") for n in (128, 256))
    assert more(32, 32 * 4096).ns == pytest.approx(2 * measured(32, 32 * 4096).ns)
    assert more.derived


def test_four_bit_weights_are_read_at_the_speed_of_wide_ones() -> None:
    """An H100 has no 4-bit products: 4.5 bits a parameter at the rate that 16 bits reach."""
    wide, narrow = (Gemm(H100, bits).of(8192, 8192).ns(1) for bits in (16.0, 4.5))
    assert narrow == pytest.approx(wide * 4.5 / 16, rel=0.1)


def test_a_chunk_after_more_tokens_than_measured_is_flagged() -> None:
    law = PrefillLaw(H100, Heads(query=32, kv=8, dim=128, kv_dtype="bfloat16"))
    assert not law(Mix(((2048, 0),))).outside
    assert law(Mix(((2048, 1_000_000),))).outside


def test_decodes_in_a_launch_of_long_chunks_leave_empty_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One grid for all sequences: each decode has as many tiles as the longest chunk."""
    card = load_gpu("rtx-pro-6000")
    law = PrefillLaw(card, Heads(query=32, kv=8, dim=128, kv_dtype="bfloat16"))
    mix = Mix(((2048, 0),), 64, 64_000.0)
    taken = law.ns(mix)
    monkeypatch.setattr(prefill, "EMPTY_TILE_NS", 0.0)
    empty = 64 * law._shape.tiles(2048) * EMPTY_TILE_NS / SYSTEMS[card.name].num_sms
    assert empty > 0
    assert taken - law.ns(mix) == pytest.approx(empty)
