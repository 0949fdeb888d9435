"""What the profile's fits say of a shape: the functional forms, looked up by kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..calibration.profile import forms
from ..calibration.profile.values import AttentionKey, GemmTable, Profile
from . import words
from .calibration_points import Point

Lengths = Sequence[tuple[int, int]]
"""``(length, how many)``."""


def decode_s(
    profile: Profile, key: AttentionKey, lengths: Lengths, *, sliding_window: int = 0
) -> float | None:
    """Decode attention of one layer; None where no fit is for that kernel."""
    fit = next((fit for fit in profile.decode if fit.key == key), None)
    if fit is None:
        return None
    lens = [n for n, count in lengths for _ in range(count)]
    return forms.decode_s(fit, lens, sliding_window=sliding_window)


def prefill_s(
    profile: Profile, key: AttentionKey, chunks: Lengths, *, sliding_window: int = 0
) -> float | None:
    """Attention of one layer over chunks; None where no fit is for that kernel."""
    fit = next((fit for fit in profile.prefill if fit.key == key), None)
    if fit is None:
        return None
    return forms.prefill_s(fit, [(n, past) for n, past in chunks], sliding_window=sliding_window)


def fitted_s(profile: Profile, point: Point) -> float | None:
    """The time that the fit gives for an attention point; None where there is no fit."""
    chunks, window = point.x.get("chunks", ()), point.x.get("sliding_window", 0)
    decode: float | None = 0.0
    prefill: float | None = 0.0
    if point.lengths:
        decode = decode_s(profile, point.key, point.lengths, sliding_window=window)
    if chunks:
        prefill = prefill_s(profile, point.key, chunks, sliding_window=window)
    if decode is None or prefill is None:
        return None
    overlap = next((fit.overlap for fit in profile.prefill if fit.key == point.key), 0.0)
    return forms.mixed_s(decode, prefill, overlap)


def error_of(profile: Profile, point: Point) -> float | None:
    """``fitted / measured - 1``."""
    fitted = fitted_s(profile, point)
    return None if fitted is None else fitted / point.seconds - 1


def off_pct(profile: Profile, point: Point) -> str:
    """``+1.3 %``, or ``-`` without a fit."""
    error = error_of(profile, point)
    return words.NONE if error is None else f"{error * 100:+.1f} %"


def table_error(profile: Profile, point: Point) -> float | None:
    """``table / measured - 1`` of a linear layer; None where no table holds its shape."""
    x = point.x
    shape = (x["n"], x["k"], x["dtype"])
    tables = (table for table in profile.gemm_tables if (table.n, table.k, table.dtype) == shape)
    found = next(tables, None)
    return None if found is None else forms.table_s(found, x["m"]) / point.seconds - 1


def left_out_errors(table: GemmTable) -> list[tuple[int, float]]:
    """``(m, error)`` of each inner time of a table, read off the others."""
    found = []
    for i in range(1, len(table.m) - 1):
        m, t_s = table.m[:i] + table.m[i + 1 :], table.t_s[:i] + table.t_s[i + 1 :]
        others = replace(table, m=m, t_s=t_s)
        found.append((table.m[i], forms.table_s(others, table.m[i]) / table.t_s[i] - 1))
    return found
