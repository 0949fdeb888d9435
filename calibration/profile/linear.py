"""Linear layers from a profile: the table of their shape, or the roofline of all of them."""

from __future__ import annotations

from bisect import bisect_left
from math import log2

from ..estimate import NOTHING, Estimate
from ..operators import Operator
from ..silicon.products import MatrixProduct
from ..step_cost import NS_PER_S
from . import forms
from .doubts import Doubts
from .unfit import Unfit
from .values import GemmFit, GemmTable, Profile

LEAST_WIDE_BITS = 12
"""Of a weight; narrower ones run other kernels."""


class Linears:
    """The matrix products of one profile in one dtype.

    Args:
        dtype: of activations and weights.
        name: of the profile, for error sentences.
    """

    def __init__(self, profile: Profile, dtype: str, *, name: str) -> None:
        self._tables = {(t.n, t.k): t for t in profile.gemm_tables if t.dtype == dtype}
        self._fit = next((fit for fit in profile.gemm if fit.dtype == dtype), None)
        self._doubts = Doubts(profile)
        self._dtype, self._name, self._id = dtype, name, profile.id

    def operator(self, product: MatrixProduct, *, exact: bool) -> Operator:
        """One product of all layers.

        Raises:
            Unfit: nothing like it was measured; with ``exact``, not just so.
        """
        n, k = round(product.n), round(product.k)
        if product.bits < LEAST_WIDE_BITS:
            raise Unfit(
                f"{self._name} has no matrix products of {product.bits:g}-bit weights, which the "
                f"{product.label} needs."
            )
        table = self._tables.get((n, k))
        if table is not None:
            doubt = self._doubts.of_tables()
            return self._made(product, Tabulated(table, doubt), "measured table")
        if self._fit is None or exact:
            raise Unfit(
                f"{self._name} has no matrix products of {self._dtype} with n = {n} and k = {k} "
                f"({product.label})."
            )
        doubt = self._doubts.of(
            "gemm_roofline", split="leave_layer_out", fitted=self._fit.uncertainty
        )
        return self._made(product, Roofed(self._fit, n, k, doubt), "fitted roofline")

    def _made(self, product: MatrixProduct, one: Tabulated | Roofed, what: str) -> Operator:
        count = product.layers
        return Operator(
            label=product.label,
            source=f"profile {self._id}: {what} of matrix products",
            ns=lambda rows: one(rows).times(count),
            derived=isinstance(one, Roofed),
            launches=count,
        )


class Tabulated:
    """A product whose very shape was measured."""

    def __init__(self, table: GemmTable, doubt: float) -> None:
        self._table, self._doubt = table, doubt

    def __call__(self, rows: int) -> Estimate:
        """So many rows."""
        if rows <= 0:
            return NOTHING
        table = self._table
        ns = NS_PER_S * forms.table_s(table, rows)
        flops, moved = _work(table.dtype, rows, table.n, table.k)
        at = bisect_left(table.m, rows)
        near = table.m[max(0, at - 1) : at + 1]
        away = min(abs(log2(rows / m)) for m in near)
        return Estimate(ns, moved, flops, away, rows > table.m[-1], self._doubt)


class Roofed:
    """A product of a shape that was not measured."""

    def __init__(self, fit: GemmFit, n: int, k: int, doubt: float) -> None:
        self._fit, self._n, self._k, self._doubt = fit, n, k, doubt

    def __call__(self, rows: int) -> Estimate:
        """So many rows."""
        if rows <= 0:
            return NOTHING
        ns = NS_PER_S * forms.gemm_s(self._fit, rows, self._n, self._k)
        flops, moved = _work(self._fit.dtype, rows, self._n, self._k)
        return Estimate(ns, moved, flops, 0.0, True, self._doubt)


def _work(dtype: str, m: int, n: int, k: int) -> tuple[float, float]:
    """``(FLOPs, bytes)`` that are of use: rows that fill up a tile do not count."""
    return 2.0 * m * n * k, forms.gemm_load(dtype, m, n, k)[1]
