"""Functional forms: the time of a kernel from a few fitted coefficients. SI units throughout.

    decode   t0 + norm_p(bytes / read, busiest / program) + item * programs + merge * rounds
    prefill  t0 + norm_p(flops / F, bytes / read, busiest / program + start * waves)
    mixed    decode + prefill - overlap * min(decode, prefill)
    gemm     t0 + norm_p(2 m' n k / F, (m k + n k + m n) * value bytes / read)
    table    times of one (n, k) at measured m, between them straight in both logarithms, at m'
    line     t0 + unit * units + bytes / rate

    norm_p(a, ...) = (a^p + ...)^(1/p)    p = 1: one after the other, p -> inf: side by side

``bytes``, ``flops``, ``busiest`` (work of the busiest slot), ``waves``, ``programs`` and ``rounds``
are counted in ``loads``. ``read`` and ``F`` are what the whole card gives, ``program`` what one
resident program can take. ``m'`` is m up to the rows of an output tile: 16 below 64, 64 up to 256,
128 above: within a tile cuBLAS takes the same time, to 3 % (RTX PRO 6000, all m up to 2,048).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import exp, log

import numpy as np

from .loads import (
    DecodeLoad,
    Number,
    PrefillLoad,
    cut_of,
    decode_load,
    dtype_bytes,
    even_load,
    prefill_load,
)
from .values import DecodeFit, GemmFit, GemmTable, LineFit, PrefillFit


def decode_s(fit: DecodeFit, seq_lens: Sequence[int], *, sliding_window: int = 0) -> float:
    """Attention of one layer over decodes, one length for each sequence; 0 for no sequence."""
    if not seq_lens:
        return 0.0
    return _decode_s(fit, decode_load(fit.key, cut_of(fit), seq_lens, sliding_window))


def decode_even_s(fit: DecodeFit, batch: int, context: int, *, sliding_window: int = 0) -> float:
    """The same for ``batch`` sequences of one length, without a loop over them."""
    if not batch:
        return 0.0
    return _decode_s(fit, even_load(fit.key, cut_of(fit), batch, context, sliding_window))


def prefill_s(
    fit: PrefillFit, chunks: Sequence[tuple[int, int]], *, sliding_window: int = 0
) -> float:
    """Attention of one layer over chunks ``(new tokens, cached tokens)``; 0 for none."""
    if not chunks:
        return 0.0
    load = prefill_load(
        fit.key,
        chunks,
        query_tokens=fit.query_tokens,
        tile_tokens=fit.tile_tokens,
        slots=fit.slots,
        sliding_window=sliding_window,
    )
    return float(
        prefill_law(
            load,
            fit.t0_s,
            fit.flops_per_s,
            fit.read_bytes_per_s,
            fit.program_flops_per_s,
            fit.p,
            fit.start_s,
        )
    )


def mixed_s(decode: float, prefill: float, overlap: float) -> float:
    """Both launches of a step, given the seconds of each on its own."""
    return decode + prefill - overlap * min(decode, prefill)


def gemm_s(fit: GemmFit, m: int, n: int, k: int) -> float:
    """One linear layer, by the roofline."""
    flops, moved = gemm_load(fit.dtype, m, n, k)
    return float(gemm_law(flops, moved, fit.t0_s, fit.flops_per_s, fit.read_bytes_per_s, fit.p))


def table_s(table: GemmTable, m: int) -> float:
    """One linear layer, by its measured times.

    Measured m are met exactly; m between two of them costs what ``m'`` or the next measured m
    costs, whichever comes first; beyond the last, times grow with ``m'``.
    """
    at = bisect_left(table.m, m)
    if at < len(table.m):
        x = min(padded_rows(m), table.m[at])
        return exp(float(np.interp(log(x), np.log(table.m), np.log(table.t_s))))
    return table.t_s[-1] * padded_rows(m) / padded_rows(table.m[-1])


def line_s(fit: LineFit, *, units: float = 0, moved_bytes: float = 0) -> float:
    """A copy, a small kernel, a launch."""
    return fit.t0_s + fit.unit_s * units + moved_bytes / fit.bytes_per_s


def padded_rows(m: int) -> int:
    """``m'``: rows that the output tiles of a product with so many compute."""
    tile = 16 if m < 64 else 64 if m <= 256 else 128
    return -(-m // tile) * tile


# ---------------------------------------------------------------------- laws, for one or many loads


def decode_law(
    load: DecodeLoad,
    t0_s: Number,
    read_bytes_per_s: Number,
    program_bytes_per_s: Number,
    p: Number,
    item_s: Number,
    merge_s: Number,
) -> Number:
    """Seconds of each load."""
    work = norm(p, load.bytes / read_bytes_per_s, load.busiest_bytes / program_bytes_per_s)
    return t0_s + work + item_s * load.programs + merge_s * load.rounds


def prefill_law(
    load: PrefillLoad,
    t0_s: Number,
    flops_per_s: Number,
    read_bytes_per_s: Number,
    program_flops_per_s: Number,
    p: Number,
    start_s: Number,
) -> Number:
    """Seconds of each load."""
    busiest = load.busiest_flops / program_flops_per_s + start_s * load.waves
    return t0_s + norm(p, load.flops / flops_per_s, load.bytes / read_bytes_per_s, busiest)


def gemm_law(
    flops: Number,
    moved_bytes: Number,
    t0_s: Number,
    flops_per_s: Number,
    read_bytes_per_s: Number,
    p: Number,
) -> Number:
    """Seconds of each product."""
    return t0_s + norm(p, flops / flops_per_s, moved_bytes / read_bytes_per_s)


def gemm_load(dtype: str, m: int, n: int, k: int) -> tuple[float, float]:
    """``(FLOPs, bytes)`` of ``out[m, n] = x[m, k] @ w[n, k].T``."""
    moved = (m * k + n * k + m * n) * dtype_bytes(dtype)
    return 2.0 * padded_rows(m) * n * k, float(moved)


def norm(p: Number, *times: Number) -> Number:
    """Times that overlap, the more the larger ``p`` is."""
    return sum(time**p for time in times) ** (1 / p)


def _decode_s(fit: DecodeFit, load: DecodeLoad) -> float:
    return float(
        decode_law(
            load,
            fit.t0_s,
            fit.read_bytes_per_s,
            fit.program_bytes_per_s,
            fit.p,
            fit.item_s,
            fit.merge_s,
        )
    )
