"""A profile with its points: what every figure and table of the calibration report reads."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import log2

from ..calibration.gpus import GPUSpec, load_gpu
from ..calibration.models import load_model
from ..calibration.profile.values import AttentionKey, Profile, Sample
from .calibration_points import Point, points_of

USUAL_BLOCK_TOKENS = 16
SHOWN_ROLES = ("fit", "heldout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What is known of one card."""

    profile: Profile
    samples: tuple[Sample, ...]
    points: tuple[Point, ...]
    gpu: GPUSpec | None
    """The card's datasheet; None where kvsim has none."""
    own_heads: tuple[int, int] | None
    """Query and KV heads of the measured model; None where kvsim does not know it."""

    def of(self, *families: str, roles: Iterable[str] = SHOWN_ROLES) -> list[Point]:
        """Points of these families, in order."""
        chosen = tuple(roles)
        return [p for p in self.points if p.sample.family in families and p.sample.role in chosen]

    def ceiling(self, what: str, unit: str = "bytes_per_s") -> float | None:
        """The best of the ceilings whose name begins with ``what`` and ends in the unit."""
        found = [
            entry["value"]
            for name, entry in self.profile.ceilings.items()
            if name.startswith(what) and name.endswith(unit)
        ]
        return max(found, default=None)

    @property
    def read_bytes_per_s(self) -> float | None:
        """The best bandwidth that was seen: reading alone, else copying."""
        return self.ceiling("read") or self.ceiling("copy")

    @property
    def matmul_flops_per_s(self) -> float | None:
        """The best matrix product that was seen."""
        return self.ceiling("matmul", "flops_per_s")

    @property
    def main_key(self) -> AttentionKey | None:
        """The model's own decode kernel on one GPU, in the usual blocks; None without decodes."""
        keys = {p.key: None for p in self.of("decode") if p.key.kind != "contiguous"}
        return min(keys, key=self._strangeness, default=None)

    def _strangeness(self, key: AttentionKey) -> tuple[bool, int, int, float]:
        """How far a kernel is from the model's own; without a model, the most heads come first."""
        own = (key.heads, key.kv_heads) == self.own_heads
        off = abs(log2(key.block_size / USUAL_BLOCK_TOKENS))
        return not own, -key.heads, key.kv_heads, off


def calibration_of(profile: Profile, samples: tuple[Sample, ...]) -> Calibration:
    """Look up what kvsim knows of the card and the model."""
    gpu, heads = None, None
    with suppress(ValueError):
        gpu = load_gpu(profile.hardware.gpu)
    with suppress(ValueError):
        model = load_model(profile.model)
        heads = (model.num_heads, max(group.num_kv_heads for group in model.layers))
    return Calibration(
        profile=profile,
        samples=samples,
        points=points_of(samples),
        gpu=gpu,
        own_heads=heads,
    )
