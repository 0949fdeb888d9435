"""How batches are cut, by hand, and the plan on the device, which must be the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvsim.kernels.split import Split, first_key, split, target_items
from kvsim.kernels.work_list import plan_decode, plan_prefill
from support.paged import DEVICE


def test_by_hand() -> None:
    # 10 + 3 + 1 tiles of 16; a fourth of them, rounded up, is 4 tiles: items of 10 / 3 -> 4 tiles
    assert split([150, 40, 9], target=4, tile_tokens=16, min_chunk_tokens=16) == Split(
        (3, 1, 1), (4, 3, 1)
    )
    # no chunk under 64 keys: 4 tiles each
    assert split([128], target=100, tile_tokens=16, min_chunk_tokens=64) == Split((2,), (4,))
    # an empty sequence has no item; one of five tiles in chunks of three is cut 3 + 2
    assert split([0, 80], target=2, tile_tokens=16, min_chunk_tokens=16) == Split((0, 2), (0, 3))


def test_window_starts_at_a_tile() -> None:
    assert first_key(100, 20, 16) == 80
    assert first_key(101, 20, 16) == 80
    assert first_key(10, 20, 16) == 0
    assert first_key(100, 0, 16) == 0
    found = split([100], target=1, tile_tokens=16, min_chunk_tokens=1, sliding_window=20)
    assert found == Split((1,), (2,))


def test_target_fills_the_gpu_twice() -> None:
    assert target_items(528, 8) == 132
    assert target_items(8, 64) == 1


lengths = st.lists(st.integers(0, 3000), min_size=1, max_size=9)


@given(lengths, st.integers(1, 40), st.sampled_from([16, 64]), st.sampled_from([0, 50]))
def test_every_key_is_in_one_item(seq_lens: list[int], target: int, tile: int, window: int) -> None:
    cut = split(
        seq_lens, target=target, tile_tokens=tile, min_chunk_tokens=1, sliding_window=window
    )
    assert cut.num_items <= target + len(seq_lens)
    for length, items, tiles in zip(seq_lens, cut.items, cut.tiles_per_item, strict=True):
        visible = length - first_key(length, window, tile)
        assert (items == 0) == (length == 0)
        assert (items - 1) * tiles * tile < visible <= items * tiles * tile or not length


def test_items_of_a_ragged_batch_are_nearly_equal() -> None:
    cut = split([32_000, *([500] * 63)], target=132, tile_tokens=64)
    assert cut.items[0] == 63
    assert cut.longest_tiles * 64 == 512
    even = split([32_000 // 64] * 64, target=132, tile_tokens=64)
    assert even.longest_tiles * 64 <= 512


@pytest.mark.parametrize(
    ("seq_lens", "target", "tile", "least", "window"),
    [
        ([150, 40, 9], 4, 16, 16, 0),
        ([0, 80, 0], 2, 16, 16, 0),
        ([5000], 7, 64, 64, 0),
        ([300, 1, 0, 777, 64, 65], 11, 64, 64, 0),
        ([300, 1, 0, 777, 64, 65], 11, 16, 32, 50),
        ([128, 100], 40, 16, 64, 0),
    ],
)
def test_the_device_plans_the_same(
    seq_lens: list[int], target: int, tile: int, least: int, window: int
) -> None:
    cut = split(
        seq_lens, target=target, tile_tokens=tile, min_chunk_tokens=least, sliding_window=window
    )
    work = plan_decode(
        torch.tensor(seq_lens, dtype=torch.int32, device=DEVICE),
        target=target,
        tile_tokens=tile,
        min_chunk_tokens=least,
        sliding_window=window,
    )
    assert work.seq_items.tolist() == list(cut.items)
    assert work.seq_tiles.tolist() == list(cut.tiles_per_item)
    owners = [seq for seq, items in enumerate(cut.items) for _ in range(items)]
    padding = [-1] * (work.max_items - len(owners))
    assert work.max_items == target + len(seq_lens)
    assert work.item_seq.tolist() == owners + padding
    firsts = [sum(cut.items[:seq]) for seq in range(len(seq_lens))]
    assert work.seq_first_item.tolist() == firsts


def test_chunks_are_cut_into_tiles_of_queries() -> None:
    starts = torch.tensor([0, 5, 5, 12, 13], dtype=torch.int32, device=DEVICE)
    work = plan_prefill(starts, query_tokens=4, num_tokens=13)
    assert work.max_tiles == 13 // 4 + 4
    assert work.tile_seq.tolist() == [0, 0, 2, 2, 3, -1, -1]
    assert work.tile_first.tolist()[:5] == [0, 4, 0, 4, 0]


def test_as_many_tiles_as_there_can_be() -> None:
    starts = torch.tensor([0, 1, 2, 3, 8], dtype=torch.int32, device=DEVICE)
    work = plan_prefill(starts, query_tokens=4, num_tokens=8)
    assert work.tile_seq.tolist() == [0, 1, 2, 3, 3, -1]
