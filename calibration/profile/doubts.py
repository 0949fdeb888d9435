"""How far a profile's figures may be off, relative, as one standard deviation.

    measured   the 95th percentile of the errors on points that the fit has not seen, over 1.645;
               where none were held out, of those it has
    derived    the largest of the coefficients' own

Which split of the points tells depends on how a figure is come by: a kernel that was measured errs
as on held-out points, one that stands for other heads as where a head layout was left out. Between
the rows of a table the gap is half as wide as where one of them was left out: so is the doubt.
"""

from __future__ import annotations

from collections.abc import Mapping

from .values import Profile

HELD_OUT, SEEN = "heldout", "fit"
ROW_LEFT_OUT = "leave_m_out"
NORMAL_95 = 1.645
"""Standard deviations that hold 90 % of a normal distribution, to either side."""
UNKNOWN = 0.10
"""Of what no error is known."""


class Doubts:
    """Of one profile."""

    def __init__(self, profile: Profile) -> None:
        self._derived = profile.provenance == "derived"
        self._sigma = {(r.family, r.split): r.p95_pct / 100 / NORMAL_95 for r in profile.residuals}

    def of(
        self, *families: str, split: str = HELD_OUT, fitted: Mapping[str, float] | None = None
    ) -> float:
        """Of the first family with errors of that split, of any held-out or of seen points.

        Args:
            families: the most telling first.
            split: of the points, the most telling one.
            fitted: a fit's own uncertainties, which a derived profile has instead of points.
        """
        if self._derived and fitted:
            return max(fitted.values())
        for one in dict.fromkeys((split, HELD_OUT, SEEN)):
            for family in families:
                if (family, one) in self._sigma:
                    return self._sigma[family, one]
        return UNKNOWN

    def of_tables(self) -> float:
        """Of matrix products between the rows that were measured."""
        if ("gemm", HELD_OUT) in self._sigma:
            return self._sigma["gemm", HELD_OUT]
        return self.of("gemm", split=ROW_LEFT_OUT) / 2
