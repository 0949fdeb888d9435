"""Memory below the GPU as a user names it: sizes in GiB, rates in GB/s.

vLLM's own flag is ``--kv-offloading-size`` (GiB of host memory, over all GPUs of the server); its
further tiers are entries of ``secondary_tiers`` in ``--kv-transfer-config``. Every GPU reaches the
host memory over its own PCIe link, all at once; the second tier has one link for the server.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite

from ..calibration.step_cost import NS_PER_S
from ..calibration.ways import Way
from .allocators.tiers import HOST, SECONDARY, TierSpec
from .deployment import BYTES_PER_GIB

BYTES_PER_GB = 1e9

FLAGS = {
    "size_gib": "kv_offloading_size",
    "bandwidth_gb_per_s": "kv_offloading_bandwidth",
    "secondary_size_gib": "kv_offloading_secondary_size",
    "secondary_bandwidth_gb_per_s": "kv_offloading_secondary_bandwidth",
    "secondary_latency_us": "kv_offloading_secondary_latency",
    "host_memory_gib": "host_memory",
}
"""Field to option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offloading:
    """Where evicted blocks of the prefix cache go.

    Raises:
        ValueError: a negative size, no bandwidth, a second tier without the first or without a
            bandwidth, more host memory than the machine has.
    """

    size_gib: float = 0.0
    """Of host memory, over all GPUs of the server; 0 = none."""
    bandwidth_gb_per_s: float | None = None
    """Of one GPU's link to the host, one direction; None = what moving blocks rests on."""
    secondary_size_gib: float = 0.0
    """Of NVMe or of a cache in the network."""
    secondary_bandwidth_gb_per_s: float | None = None
    """Of its link, for the whole server."""
    secondary_latency_us: float = 0.0
    """Before the first byte of each load."""
    host_memory_gib: float | None = None
    """Of the machine, where it is known."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            name, rate = FLAGS[field.name], field.name.endswith("_per_s")
            if not (isfinite(value) and (value > 0 if rate else value >= 0)):
                unit = "GB/s" if rate else "us" if field.name.endswith("_us") else "GiB"
                raise ValueError(f"{name}(={value:g}) must be {'> 0' if rate else '>= 0'} {unit}.")
        size, second = f"{self.size_gib:g}", f"{self.secondary_size_gib:g}"
        if self.secondary_size_gib and not self.size_gib:
            raise ValueError(
                f"kv_offloading_secondary_size(={second}) needs host memory above it: give "
                "kv_offloading_size."
            )
        if self.secondary_size_gib and self.secondary_bandwidth_gb_per_s is None:
            raise ValueError(
                f"kv_offloading_secondary_size(={second}) needs its rate: give "
                "kv_offloading_secondary_bandwidth."
            )
        for wanted, above in (
            ("bandwidth_gb_per_s", "size_gib"),
            ("secondary_bandwidth_gb_per_s", "secondary_size_gib"),
            ("secondary_latency_us", "secondary_size_gib"),
        ):
            if getattr(self, wanted) and not getattr(self, above):
                raise ValueError(
                    f"{FLAGS[wanted]}(={getattr(self, wanted):g}) needs {FLAGS[above]}."
                )
        if self.host_memory_gib is not None and self.size_gib > self.host_memory_gib:
            raise ValueError(
                f"kv_offloading_size(={size}) must be <= host_memory(={self.host_memory_gib:g}), "
                "GiB."
            )

    @classmethod
    def of_flags(cls, flags: dict[str, float | None]) -> Offloading:
        """From options by their names; those left out are None."""
        named = {field: flags.get(flag) for field, flag in FLAGS.items()}
        return cls(**{field: value for field, value in named.items() if value is not None})

    def check_swaps(self, swap_space_gib: float, num_gpus: int) -> None:
        """Refuse swaps that the machine has no room for.

        Raises:
            ValueError: they take more host memory than there is.
        """
        room = self.host_memory_gib
        if room is not None and swap_space_gib * num_gpus > room:
            of_all = f" for each of {num_gpus} GPUs" if num_gpus > 1 else ""
            raise ValueError(
                f"swap_space(={swap_space_gib:g}){of_all} must be <= host_memory(={room:g}), GiB."
            )

    def tiers(self, link: Way, *, block_bytes: int, num_gpus: int) -> tuple[TierSpec, ...]:
        """The tiers of a server, from the GPU down; none where there is no host memory.

        Args:
            link: from host memory to one GPU, where no bandwidth is given.
            block_bytes: of one block on one GPU.
            num_gpus: of the server.
        """
        if not self.size_gib:
            return ()
        given = self.bandwidth_gb_per_s
        rate = link.bytes_per_s if given is None else given * BYTES_PER_GB
        block = num_gpus * block_bytes
        host = TierSpec(
            name=HOST,
            size_bytes=round(self.size_gib * BYTES_PER_GIB),
            block_bytes=block,
            bytes_per_s=num_gpus * rate,
            latency_s=link.call_ns / NS_PER_S,
        )
        if not self.secondary_size_gib:
            return (host,)
        assert self.secondary_bandwidth_gb_per_s is not None, "__post_init__ has looked"
        secondary = TierSpec(
            name=SECONDARY,
            size_bytes=round(self.secondary_size_gib * BYTES_PER_GIB),
            block_bytes=block,
            bytes_per_s=self.secondary_bandwidth_gb_per_s * BYTES_PER_GB,
            latency_s=self.secondary_latency_us / 1e6,
        )
        return (host, secondary)

    def notes(self, tiers: tuple[TierSpec, ...]) -> tuple[str, ...]:
        """What a reader should know of them."""
        if not tiers:
            return ()
        asked = "as given" if self.bandwidth_gb_per_s is not None else "the GPU's link"
        origins = {HOST: asked, SECONDARY: "as given"}
        each = "; ".join(
            f"{tier.name} {tier.size_bytes / BYTES_PER_GIB:g} GiB, {tier.num_blocks:,} blocks, "
            f"{tier.bytes_per_s / BYTES_PER_GB:g} GB/s ({origins[tier.name]})"
            + (f" after {1e6 * tier.latency_s:g} us" if tier.latency_s else "")
            for tier in tiers
        )
        return (
            f"Below the GPU: {each}. A block is in one tier at a time; vLLM keeps a copy in host "
            "memory of what it loads, so that the same size finds less there.",
        )
