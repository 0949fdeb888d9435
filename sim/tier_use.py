"""What became of the memory below the GPU: a simulation's ledger of each tier, in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .allocators.tiers import Tier, TierSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TierUse:
    """One tier over a simulation: ``resident = in - out - down - lost - superseded``."""

    name: str
    size_bytes: int
    block_bytes: int
    bytes_per_s: float
    in_bytes: int
    """From the GPU or from the tier above."""
    out_bytes: int
    """Hits: up to the GPU."""
    down_bytes: int
    """To the tier below."""
    lost_bytes: int
    """For want of room, with nothing below."""
    superseded_bytes: int
    """Computed again on the GPU."""
    resident_bytes: int
    """At the end."""
    peak_bytes: int


def tier_uses(specs: Sequence[TierSpec], tiers: Sequence[Tier]) -> tuple[TierUse, ...]:
    """The ledgers of a server's tiers."""
    return tuple(_use(spec, tier) for spec, tier in zip(specs, tiers, strict=True))


def _use(spec: TierSpec, tier: Tier) -> TierUse:
    block = spec.block_bytes
    return TierUse(
        name=spec.name,
        size_bytes=spec.size_bytes,
        block_bytes=block,
        bytes_per_s=spec.bytes_per_s,
        in_bytes=block * tier.num_in,
        out_bytes=block * tier.num_up,
        down_bytes=block * tier.num_down,
        lost_bytes=block * tier.num_lost,
        superseded_bytes=block * tier.num_superseded,
        resident_bytes=block * tier.num_resident,
        peak_bytes=block * tier.peak_resident,
    )
