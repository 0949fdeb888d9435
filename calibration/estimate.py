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

    def times(self, count: float) -> Estimate:
        """So many launches."""
        return Estimate(
            self.ns * count, self.bytes * count, self.flops * count, self.distance, self.outside
        )

    def plus(self, other: Estimate) -> Estimate:
        """Both, one after the other."""
        return Estimate(
            self.ns + other.ns,
            self.bytes + other.bytes,
            self.flops + other.flops,
            max(self.distance, other.distance),
            self.outside or other.outside,
        )


NOTHING = Estimate(0.0, 0.0, 0.0, 0.0, False)
