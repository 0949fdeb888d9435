"""The launch table, by hand."""

from __future__ import annotations

import pytest

from kvsim.kernels.ahead_of_time import programs_per_sm
from kvsim.kernels.launch import (
    Launch,
    decode_launch,
    latent_launch,
    padded_dim,
    power_of_two,
    prefill_launch,
)


def test_rows_and_lanes() -> None:
    assert [power_of_two(n) for n in (1, 2, 3, 5, 64, 65)] == [1, 2, 4, 8, 64, 128]
    assert [padded_dim(n) for n in (8, 64, 80, 96, 256, 576)] == [16, 64, 128, 128, 256, 1024]
    rows = [decode_launch(group=g, head_dim=128, value_bytes=2).rows for g in (1, 16, 17, 200)]
    assert rows == [16, 16, 32, 64]


@pytest.mark.parametrize(
    ("head_dim", "value_bytes", "tile"), [(64, 2, 64), (128, 2, 64), (256, 2, 32), (256, 4, 16)]
)
def test_wide_values_take_fewer_keys(head_dim: int, value_bytes: int, tile: int) -> None:
    launch = decode_launch(group=4, head_dim=head_dim, value_bytes=value_bytes)
    assert launch.tile_tokens == tile


def test_residents_by_registers_and_by_shared_memory() -> None:
    launch = Launch(
        rows=16,
        tile_tokens=64,
        num_warps=4,
        num_stages=3,
        programs_per_sm=4,
        shared_bytes=39 << 10,
    )
    assert launch.resident(228 << 10) == 4
    assert launch.resident(100 << 10) == 2  # 100 / (39 + 1)
    assert launch.resident(10 << 10) == 1
    assert launch.options == {"num_warps": 4, "num_stages": 3}


def test_before_hopper_tiles_are_narrower() -> None:
    tiles = {
        sm: prefill_launch(group=4, head_dim=128, value_bytes=2, compute_capability=sm).tile_tokens
        for sm in (80, 89, 90, 100)
    }
    assert tiles == {80: 32, 89: 32, 90: 64, 100: 64}
    assert latent_launch(heads=128, value_bytes=2).rows == 32


@pytest.mark.parametrize(
    ("capability", "num_warps", "registers", "shared_kib", "fit"),
    [
        (90, 4, 128, 38.5, 4),  # 65536 / (128 * 32 * 4)
        (90, 4, 129, 1, 3),  # portions of 256 registers a warp: 136 a thread
        (80, 4, 64, 40, 4),  # 164 / 41
        (89, 4, 32, 0, 12),  # 48 warps
        (89, 8, 255, 99, 1),
        (90, 4, 32, 228, 0),
    ],
)
def test_occupancy_by_hand(
    capability: int, num_warps: int, registers: int, shared_kib: float, fit: int
) -> None:
    assert programs_per_sm(capability, num_warps, registers, int(shared_kib * 1024)) == fit
