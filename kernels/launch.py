"""How each kernel is launched: tiles, warps, pipeline stages; a plain table, no tuning at run time.

Keys are read in tiles of ``tile_tokens`` by programs of ``num_warps`` warps, ``num_stages`` tiles
ahead. A decode program covers the heads of one KV head in ``rows`` (a matrix instruction takes 16),
a prefill program ``rows // group`` queries of one KV head. ``programs_per_sm`` and
``shared_bytes`` decide how finely a batch is cut: they are near what the compiler reports, which
the tests compare.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_ROWS = 16
MAX_DECODE_ROWS = 64
MAX_LATENT_ROWS = 32
SYSTEM_SHARED_BYTES = 1 << 10
"""Kept by the driver in each resident program."""
KIB = 1 << 10
HOPPER = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One kernel's constants."""

    rows: int
    tile_tokens: int
    num_warps: int
    num_stages: int
    programs_per_sm: int = 1
    """What registers allow."""
    shared_bytes: int = 0
    """Shared memory of a program, rounded up."""

    def resident(self, shared_per_sm_bytes: int) -> int:
        """Programs that one multiprocessor holds at once."""
        fit = shared_per_sm_bytes // max(1, self.shared_bytes + SYSTEM_SHARED_BYTES)
        return max(1, min(self.programs_per_sm, fit))

    @property
    def options(self) -> dict[str, int]:
        """What Triton takes beside the arguments."""
        return {"num_warps": self.num_warps, "num_stages": self.num_stages}


def power_of_two(n: int) -> int:
    """The least power of two that is not below ``n`` (> 0)."""
    return 1 << (n - 1).bit_length()


def padded_dim(head_dim: int) -> int:
    """Lanes of a row: a power of two that a matrix instruction takes."""
    return max(16, power_of_two(head_dim))


def decode_launch(
    *, group: int, head_dim: int, value_bytes: int, contiguous: bool = False
) -> Launch:
    """Decode attention: ``group`` query heads to a KV head, keys of ``value_bytes`` each.

    Wide values take fewer keys in a tile, so that tiles in flight fit shared memory. A block id is
    loaded one stage before its keys, so that three stages over blocks hold as many keys as two
    without.
    """
    lanes = padded_dim(head_dim)
    row_bytes = lanes * value_bytes
    tile = max(16, min(64, 16 * KIB // row_bytes))
    rows = min(MAX_DECODE_ROWS, max(MIN_ROWS, power_of_two(group)))
    tiles = 4 if value_bytes == 1 else 2  # keys and values; and the values again, widened
    return Launch(
        rows=rows,
        tile_tokens=tile,
        num_warps=4,
        num_stages=2 if contiguous else 3,
        programs_per_sm=_decode_programs(rows, lanes, value_bytes),
        shared_bytes=tiles * tile * row_bytes + rows * lanes * (6 if rows >= 64 else 3) + KIB,
    )


def _decode_programs(rows: int, lanes: int, value_bytes: int) -> int:
    """What registers allow: narrow heads take half as many, fp32 twice."""
    if rows > MIN_ROWS or value_bytes > 2:
        return 2
    return 8 if lanes <= 64 else 4


def prefill_launch(
    *, group: int, head_dim: int, value_bytes: int, compute_capability: int
) -> Launch:
    """Attention of chunks; before Hopper, wider tiles of keys would not fit the registers."""
    whole = power_of_two(group)
    if value_bytes > 2:
        return Launch(rows=max(16, whole), tile_tokens=32, num_warps=4, num_stages=2)
    if head_dim > 128:
        return Launch(rows=max(64, whole), tile_tokens=32, num_warps=8, num_stages=2)
    tile = 64 if compute_capability >= HOPPER else 32
    return Launch(rows=max(128, whole), tile_tokens=tile, num_warps=8, num_stages=3)


def latent_launch(*, heads: int, value_bytes: int) -> Launch:
    """Decode attention over latent rows of 512 + 64 values."""
    if value_bytes > 2:
        return Launch(rows=16, tile_tokens=16, num_warps=8, num_stages=1)
    rows = min(MAX_LATENT_ROWS, max(MIN_ROWS, power_of_two(heads)))
    return Launch(
        rows=rows,
        tile_tokens=32,
        num_warps=8,
        num_stages=2,
        programs_per_sm=2 if rows == MIN_ROWS else 1,
        shared_bytes=(37 + rows * 37 // 32) * KIB,
    )
