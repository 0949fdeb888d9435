"""The forms by hand: what a launch has to do, and what that takes."""

from __future__ import annotations

from dataclasses import replace
from math import inf, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.calibration.profile import forms
from kvsim.calibration.profile.loads import (
    Cut,
    DecodeLoad,
    busiest,
    cut_of,
    decode_load,
    even_load,
    head_groups,
    prefill_load,
    token_bytes,
)
from kvsim.calibration.profile.values import (
    AttentionKey,
    DecodeFit,
    GemmFit,
    GemmTable,
    LineFit,
    PrefillFit,
)
from kvsim.kernels.split import split

KEY = AttentionKey(dtype="fp16", kv_dtype="fp16", heads=8, kv_heads=2, head_dim=64, block_size=16)
LATENT = replace(KEY, kind="latent", heads=128, kv_heads=1, head_dim=576)
CUT = Cut(slots=4, tile_tokens=16, min_chunk_tokens=64, target_items=8)
DECODE = DecodeFit(
    key=KEY,
    t0_s=1e-6,
    read_bytes_per_s=1e12,
    program_bytes_per_s=1e10,
    p=1.0,
    item_s=1e-9,
    merge_s=2e-7,
    **CUT._asdict(),
)
PREFILL = PrefillFit(
    key=KEY,
    t0_s=1e-6,
    flops_per_s=1e13,
    read_bytes_per_s=1e12,
    program_flops_per_s=1e12,
    p=1.0,
    slots=4,
    query_tokens=16,
    tile_tokens=32,
    start_s=3e-6,
)


# ---------------------------------------------------------------------- decode


def test_bytes_of_a_token() -> None:
    assert token_bytes(KEY) == 2 * 2 * 64 * 2
    assert token_bytes(replace(KEY, kv_dtype="fp8_e4m3")) == 2 * 2 * 64
    assert token_bytes(LATENT) == 576 * 2
    with pytest.raises(ValueError, match=r"dtype\(='fp6'\) is unknown; known: fp32, bf16"):
        token_bytes(replace(KEY, kv_dtype="fp6"))


def test_programs_of_an_item() -> None:
    """64 query heads of a KV head in one program; of a latent, 32."""
    assert head_groups(KEY) == 2
    assert head_groups(replace(KEY, heads=256)) == 2 * 2
    assert head_groups(LATENT) == 4


def test_a_batch_by_hand() -> None:
    """128 keys are two items of four tiles, 32 keys one of two; each for two KV heads."""
    assert decode_load(KEY, CUT, [128, 32]) == DecodeLoad(
        bytes=160 * 512 + 2 * 8 * 64 * 4 * 2,
        busiest_bytes=(64 + 32) * 256,  # four slots: 64 each, then two of them 32
        programs=3 * 2,
        rounds=1,
    )
    eight = CUT._replace(slots=8)
    assert decode_load(KEY, eight, [128, 32]).busiest_bytes == 64 * 256
    # bytes + busiest + six programs + one round
    assert forms.decode_s(DECODE, [128, 32]) == pytest.approx(
        1e-6 + 90_112e-12 + 24_576e-10 + 6e-9 + 2e-7
    )


def test_two_times_that_overlap() -> None:
    """p = 2: the root of the squares."""
    fit = replace(DECODE, p=2.0)
    assert forms.decode_s(fit, [128, 32]) == pytest.approx(
        1e-6 + sqrt(90_112e-12**2 + 24_576e-10**2) + 6e-9 + 2e-7
    )


def test_a_window_hides_keys() -> None:
    """Of 200 keys the last 50 from tile 9 on: 56 keys, four tiles."""
    load = decode_load(KEY, CUT, [200, 16], 50)
    assert load.bytes == (56 + 16) * 512
    assert forms.decode_s(DECODE, [200] * 3, sliding_window=50) == forms.decode_even_s(
        DECODE, 3, 200, sliding_window=50
    )
    assert forms.decode_even_s(DECODE, 3, 200, sliding_window=50) < forms.decode_even_s(
        DECODE, 3, 200
    )


def test_nothing_to_do_takes_nothing() -> None:
    assert forms.decode_s(DECODE, []) == forms.decode_even_s(DECODE, 0, 100) == 0
    assert forms.prefill_s(PREFILL, []) == 0
    assert forms.decode_s(DECODE, [0, 0]) == forms.decode_even_s(DECODE, 2, 0) == 1e-6
    assert forms.decode_s(DECODE, [0, 32]) == forms.decode_s(DECODE, [32])


def test_the_merge_takes_sixteen_items_at_a_time() -> None:
    cut = CUT._replace(target_items=64, min_chunk_tokens=16)
    rounds = [decode_load(KEY, cut, [16 * n, 16]).rounds for n in (1, 2, 16, 17, 33)]
    assert rounds == [0, 1, 1, 2, 3]


def test_the_busiest_slot() -> None:
    """Three slots: 5 5 5, then 3 to the first; with 9 first, the others take all that follows."""
    assert busiest([(5, 3), (3, 1)], 3) == 8
    assert busiest([(9, 1), (2, 4), (1, 2)], 3) == 9
    assert busiest([(1, 5), (9, 1)], 3) == 1 + 9
    assert busiest([], 3) == 0


@given(batch=st.integers(1, 200), context=st.integers(1, 20_000), window=st.sampled_from([0, 900]))
def test_even_batches_are_counted_without_their_sequences(
    batch: int, context: int, window: int
) -> None:
    """As the split says; the busiest slot never has less than its schedule."""
    cut = Cut(slots=132, tile_tokens=64, min_chunk_tokens=64, target_items=132)
    done = split([context] * batch, target=132, tile_tokens=64, sliding_window=window)
    first = max(0, context - window) // 64 * 64 if window else 0
    found = even_load(KEY, cut, batch, context, window)
    partials = done.num_items * 8 * 64 * 8 if done.items[0] > 1 else 0
    assert found.bytes == batch * (context - first) * 512 + partials
    assert found.programs == 2 * done.num_items
    assert found.rounds == (-(-done.items[0] // 16) if done.items[0] > 1 else 0)
    schedule = busiest(
        _programs(context - first, done.items[0], done.tiles_per_item[0], batch), 132
    )
    assert found.busiest_bytes >= schedule * 256
    if context - first > 64 * done.items[0]:  # but for last items next to nothing
        assert found.busiest_bytes <= 1.5 * schedule * 256


def _programs(tokens: int, items: int, tiles: int, batch: int) -> list[tuple[int, int]]:
    whole = tiles * 64
    return [(whole, 2 * (items - 1)), (tokens - (items - 1) * whole, 2)] * batch


def test_most_even_batches_meet_their_schedule() -> None:
    """Every tenth context of 64 to 20,000 and any batch: 99 % exactly."""
    cut = Cut(slots=528, tile_tokens=64, min_chunk_tokens=64, target_items=132)
    key = replace(KEY, kv_heads=8, heads=32)
    met = []
    for batch in (1, 3, 8, 22, 50, 100, 150):
        for context in range(64, 20_000, 10 * 37):
            done = split([context] * batch, target=132, tile_tokens=64)
            programs = [
                (tokens, 4 * count)
                for tokens, count in _programs(
                    context, done.items[0], done.tiles_per_item[0], batch
                )
            ]
            found = even_load(key, cut, batch, context)
            met.append(found.busiest_bytes == busiest(programs, 528) * token_bytes(key) / 8)
    assert sum(met) >= 0.99 * len(met)


# ---------------------------------------------------------------------- prefill


def test_chunks_by_hand() -> None:
    """40 new tokens after 100: tiles of 16 queries that see 116, 132, 140 keys: 128, 160, 160."""
    load = prefill_load(KEY, [(40, 100)], query_tokens=16, tile_tokens=32, slots=4)
    tile = 4 * 8 * 64 * 16  # FLOPs of a tile of queries and one key, all heads
    assert load.flops == tile * (128 + 160 + 160)
    assert load.busiest_flops == tile / 2 * (160 + 128)  # 160 four times, then 128 twice
    assert load.bytes == 140 * 512 + 2 * 40 * 8 * 64 * 2
    assert load.waves == 2
    busy = load.busiest_flops / 1e12 + 2 * 3e-6
    assert forms.prefill_s(PREFILL, [(40, 100)]) == pytest.approx(
        1e-6 + load.flops / 1e13 + load.bytes / 1e12 + busy
    )


def test_several_chunks_start_from_the_last() -> None:
    """The second one's 32 keys (twice), then the first's 96 and 64: 32 + 64 on the freest slot."""
    load = prefill_load(KEY, [(32, 64), (16, 0)], query_tokens=16, tile_tokens=32, slots=2)
    assert load.busiest_flops == 4 * 8 * 64 * 16 / 2 * (32 + 96 + 96)
    alone = prefill_load(KEY, [(32, 64)], query_tokens=16, tile_tokens=32, slots=2)
    assert alone.busiest_flops == 4 * 8 * 64 * 16 / 2 * (96 + 96)


@given(new=st.integers(1, 3000), past=st.integers(0, 5000), slots=st.integers(1, 200))
def test_one_chunk_meets_its_schedule(new: int, past: int, slots: int) -> None:
    found = prefill_load(KEY, [(new, past)], query_tokens=16, tile_tokens=32, slots=slots)
    ends = [min(first + 16, new) + past for first in range(0, new, 16)]
    keys = [-(-end // 32) * 32 for end in ends]
    schedule = busiest([(count, 2) for count in reversed(keys)], slots)
    assert found.busiest_flops == 4 * 8 * 64 * 16 / 2 * schedule


def test_a_window_cuts_what_a_tile_sees() -> None:
    """Queries 100..115 with a window of 40 see keys from 61 on, tile 1: 128 - 32."""
    load = prefill_load(
        KEY, [(16, 100)], query_tokens=16, tile_tokens=32, slots=4, sliding_window=40
    )
    assert load.flops == 4 * 8 * 64 * 16 * (128 - 32)
    assert load.bytes == (40 + 16) * 512 + 2 * 16 * 8 * 64 * 2


def test_a_mixed_step_hides_part_of_the_shorter_launch() -> None:
    assert forms.mixed_s(3e-5, 1e-4, 0.0) == pytest.approx(1.3e-4)
    assert forms.mixed_s(3e-5, 1e-4, 0.5) == pytest.approx(1.15e-4)
    assert forms.mixed_s(1e-4, 3e-5, 1.0) == pytest.approx(1e-4)


# ---------------------------------------------------------------------- products and lines


def test_rows_that_are_computed() -> None:
    rows = {1: 16, 16: 16, 17: 32, 63: 64, 64: 64, 65: 128, 200: 256, 256: 256, 257: 384, 400: 512}
    assert {m: forms.padded_rows(m) for m in rows} == rows


def test_the_roofline_of_a_product() -> None:
    fit = GemmFit(dtype="bf16", t0_s=2e-6, flops_per_s=1e14, read_bytes_per_s=1e12, p=1.0)
    flops, moved = 2 * 32 * 100 * 200, 2 * (20 * 200 + 100 * 200 + 20 * 100)
    assert forms.gemm_s(fit, 20, 100, 200) == pytest.approx(2e-6 + flops / 1e14 + moved / 1e12)


def test_a_table_is_a_staircase() -> None:
    """Measured m are met; 300 costs what 384 does, 260 what 320; 500 is between, at 512."""
    table = GemmTable(n=8, k=8, dtype="bf16", m=(64, 320, 384, 1024), t_s=(1.0, 2.0, 4.0, 8.0))
    found = {m: forms.table_s(table, m) for m in (64, 260, 320, 330, 384)}
    assert found == pytest.approx({64: 1, 260: 2, 320: 2, 330: 4, 384: 4})
    between = forms.table_s(table, 512)
    assert between == pytest.approx(4 * 2 ** (0.28768207 / 0.98082925))  # ln(4/3) of ln(8/3)
    assert forms.table_s(table, 500) == between
    assert forms.table_s(table, 10) == 1.0
    assert forms.table_s(table, 2048) == pytest.approx(16.0)


def test_lines() -> None:
    line = LineFit(name="pcie", t0_s=1e-5, unit_s=2e-6, bytes_per_s=1e9)
    assert forms.line_s(line, units=3, moved_bytes=1000) == pytest.approx(1e-5 + 6e-6 + 1e-6)
    still = LineFit(name="host", t0_s=1e-5, unit_s=2e-6, bytes_per_s=inf)
    assert forms.line_s(still, units=1, moved_bytes=1000) == pytest.approx(1.2e-5)


def test_a_fit_knows_its_cut() -> None:
    assert cut_of(DECODE) == CUT
