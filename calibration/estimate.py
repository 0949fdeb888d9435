"""One operator's time and what it rests on."""

from __future__ import annotations

from typing import NamedTuple


class Estimate(NamedTuple):
    """Nanoseconds of one launch, with the work that bounds it."""

    ns: float
    bytes: float
    """Moved from memory."""
    flops: float
    distance: float
    """Octaves to the nearest measured shape."""
    outside: bool
    """Extrapolated or derived: no measured shape lies around it."""
    doubt: float = 0.0
    """Of the coefficients that it was scaled or fitted with, relative."""

    def times(self, count: float) -> Estimate:
        """So many launches."""
        return self._replace(ns=self.ns * count, bytes=self.bytes * count, flops=self.flops * count)

    def plus(self, other: Estimate) -> Estimate:
        """Both, one after the other."""
        ns = self.ns + other.ns
        doubted_ns = self.ns * self.doubt + other.ns * other.doubt
        return Estimate(
            ns,
            self.bytes + other.bytes,
            self.flops + other.flops,
            max(self.distance, other.distance),
            self.outside or other.outside,
            doubted_ns / ns if doubted_ns else 0.0,
        )


NOTHING = Estimate(0.0, 0.0, 0.0, 0.0, False)
