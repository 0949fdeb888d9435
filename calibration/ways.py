"""One kind of move as a line, and its coefficients from the datasheet (see ``moves``)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

from .efficiency import COPY_LAUNCH_S, LINK_CALL_S, OTHER_READ, PCIE_SEGMENT_S, PCIE_USE
from .gpus import GPUSpec
from .step_cost import NS_PER_S

DATASHEET = "datasheet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One kind of move: ``call + segment * segments + bytes / rate``."""

    call_ns: float
    segment_ns: float = 0.0
    bytes_per_s: float = inf
    """Of what is moved, each byte counted once, though a copy reads and writes it."""
    source: str = DATASHEET

    def __post_init__(self) -> None:
        for name in ("call_ns", "segment_ns"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name}(={getattr(self, name)}) must be >= 0.")
        if not self.bytes_per_s > 0:
            raise ValueError(f"bytes_per_s(={self.bytes_per_s}) must be > 0.")

    def ns(self, num_bytes: float, num_segments: int = 0) -> float:
        """Nanoseconds of one call; 0 where nothing moves.

        Raises:
            ValueError: a negative amount.
        """
        if num_bytes < 0:
            raise ValueError(f"num_bytes(={num_bytes}) must be >= 0.")
        if num_bytes == 0:
            return 0.0
        sent = NS_PER_S * num_bytes / self.bytes_per_s
        return self.call_ns + self.segment_ns * num_segments + sent

    def describe(self) -> dict[str, object]:
        """The coefficients."""
        return {
            "call_s": self.call_ns / NS_PER_S,
            "segment_s": self.segment_ns / NS_PER_S,
            "bytes_per_s": self.bytes_per_s if isfinite(self.bytes_per_s) else None,
            "source": self.source,
        }


def datasheet_ways(gpu: GPUSpec, method: str) -> dict[str, Way]:
    """From the datasheet's bandwidths; see ``efficiency`` for the shares of them."""
    memory = OTHER_READ * gpu.memory_bandwidth_bytes_per_s / 2
    link = PCIE_USE * gpu.pcie_bytes_per_s
    call_ns = NS_PER_S * LINK_CALL_S
    swapping = Way(call_ns=call_ns, segment_ns=NS_PER_S * PCIE_SEGMENT_S, bytes_per_s=link)
    if method == "gathered":
        launched = call_ns + NS_PER_S * COPY_LAUNCH_S
        swapping = Way(call_ns=launched, bytes_per_s=1 / (1 / link + 1 / memory))
    return {
        "copying": Way(call_ns=NS_PER_S * COPY_LAUNCH_S, bytes_per_s=memory),
        "swapping_out": swapping,
        "swapping_in": swapping,
        "loading": Way(call_ns=call_ns, bytes_per_s=link),
    }
