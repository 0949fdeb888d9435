"""A profile's coefficients from its samples: every family, the same answer for the same samples.

    ceilings    rate of each sample's median, the highest of its kind
    attention   ``fit_attention``: decode and prefill forms for each kernel, overlap of mixed steps
    products    ``fit_gemm``: tables, and a roofline
    the rest    ``fit_lines``
    drift       median over the anchors of (time at the end / time at the start) - 1

Nothing here measures or reads files: ``refit`` does the fit again from stored samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from . import forms
from .fit_attention import (
    DECODE_FAMILIES,
    chunks_of,
    decode_fit,
    fitted_overlap,
    lengths_of,
    prefill_fit,
    solve_decodes,
    solve_prefills,
)
from .fit_gemm import gemm_rooflines, gemm_tables
from .fit_kernel import key_of, name_of
from .fit_lines import fit_lines
from .robust import Point, points_of, times_of
from .store import nine_digits
from .validation import (
    DECODE_LABELS,
    PREFILL_LABELS,
    attention_residuals,
    errors_pct,
    gemm_residuals,
    residual,
)
from .values import (
    FAMILIES,
    AttentionKey,
    DecodeFit,
    GemmFit,
    GemmTable,
    Hardware,
    LineFit,
    PrefillFit,
    Profile,
    Residual,
    Sample,
)

FITTED_ROLES = ("fit", "heldout")
QUANTITIES = {"copy": "bytes", "read": "bytes", "matmul": "flops", "matmul_sustained": "flops"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a profile takes from its samples."""

    ceilings: Mapping[str, Mapping[str, float]]
    decode: tuple[DecodeFit, ...]
    prefill: tuple[PrefillFit, ...]
    gemm_tables: tuple[GemmTable, ...]
    gemm: tuple[GemmFit, ...]
    lines: tuple[LineFit, ...]
    residuals: tuple[Residual, ...]
    missing: tuple[str, ...]
    drift_pct: float | None
    """Slower (or, below 0, faster) at the end than at the start; None without anchors."""


def fit_profile(samples: Sequence[Sample], *, hardware: Hardware) -> Fitted:
    """All fits, with their errors on points seen and unseen."""
    used = [sample for sample in samples if sample.role in FITTED_ROLES]
    points = points_of(used)
    decodes, no_decode = solve_decodes(points)
    prefills, no_prefill = solve_prefills(points, hardware.num_sms)
    decode = tuple(decode_fit(one) for one in decodes)
    prefill, mixed_errors, no_mixed = _with_overlap(
        [prefill_fit(one) for one in prefills], decode, points
    )
    products = [point for point in points if point.family == "gemm"]
    tables = gemm_tables(products)
    rooflines, roofline_errors = gemm_rooflines(tables)
    lines, line_errors, no_lines = fit_lines(points)
    return Fitted(
        ceilings=_ceilings(used),
        decode=decode,
        prefill=prefill,
        gemm_tables=tables,
        gemm=rooflines,
        lines=lines,
        residuals=(
            *attention_residuals(decodes, families=DECODE_FAMILIES, labels=DECODE_LABELS),
            *attention_residuals(prefills, families=("prefill",), labels=PREFILL_LABELS),
            *mixed_errors,
            *gemm_residuals(tables, products),
            *roofline_errors,
            *line_errors,
        ),
        missing=(
            *_absent(samples, hardware),
            *no_decode,
            *no_prefill,
            *no_mixed,
            *no_lines,
        ),
        drift_pct=_drift_pct(samples),
    )


def refit(profile: Profile, samples: Sequence[Sample]) -> Profile:
    """The profile with everything that its samples tell fitted again.

    Reasons for what is missing that the samples do not tell (a budget) are kept.
    """
    fitted = fit_profile(samples, hardware=profile.hardware)
    reasons = {entry.partition(":")[0]: entry for entry in (*fitted.missing, *profile.missing)}
    drift = {} if fitted.drift_pct is None else {"drift_pct": fitted.drift_pct}
    return replace(
        profile,
        run={**profile.run, **drift},
        ceilings=fitted.ceilings,
        decode=fitted.decode,
        prefill=fitted.prefill,
        gemm_tables=fitted.gemm_tables,
        gemm=fitted.gemm,
        lines=fitted.lines,
        residuals=fitted.residuals,
        missing=tuple(reasons.values()),
    )


# ---------------------------------------------------------------------- families


def _with_overlap(
    prefill: Sequence[PrefillFit], decode: Sequence[DecodeFit], points: Iterable[Point]
) -> tuple[tuple[PrefillFit, ...], tuple[Residual, ...], list[str]]:
    """The overlap of each kernel's mixed steps; steps of kernels without a fit are missing."""
    decodes = {fit.key: fit for fit in decode}
    known = {fit.key for fit in prefill} & set(decodes)
    by_key: dict[AttentionKey, list[Point]] = {}
    for point in points:
        if point.family == "mixed":
            by_key.setdefault(key_of(point.x), []).append(point)
    missing = [f"mixed: {name_of(key)} has no fit" for key in by_key if key not in known]
    fits: list[PrefillFit] = []
    errors: dict[str, list[float]] = {role: [] for role in FITTED_ROLES}
    for fit in prefill:
        own = by_key.get(fit.key, []) if fit.key in known else []
        parts = [_parts(decodes[fit.key], fit, point) for point in own]
        to_fit = [part for part, point in zip(parts, own, strict=True) if point.role == "fit"]
        overlap = fitted_overlap(to_fit)
        fits.append(replace(fit, overlap=overlap))
        for (alone, chunks, t_s), point in zip(parts, own, strict=True):
            errors[point.role] += errors_pct([forms.mixed_s(alone, chunks, overlap)], [t_s])
    found = [entry for role in FITTED_ROLES for entry in residual("mixed", role, errors[role])]
    return tuple(fits), tuple(found), missing


def _parts(decode: DecodeFit, prefill: PrefillFit, point: Point) -> tuple[float, float, float]:
    """Seconds of a mixed step's decodes and chunks by the fits, and together as measured."""
    window = point.x.get("sliding_window", 0)
    return (
        forms.decode_s(decode, lengths_of(point.x), sliding_window=window),
        forms.prefill_s(prefill, chunks_of(point.x), sliding_window=window),
        point.t_s,
    )


def _ceilings(samples: Iterable[Sample]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for sample in samples:
        if sample.family != "ceilings" or not sample.t:
            continue
        what = sample.x["what"]
        quantity = QUANTITIES[what]
        dtype = f"_{sample.x['dtype']}" if quantity == "flops" else ""
        rates = sample.x[quantity] / np.array(times_of(sample))
        low, middle, high = (float(np.percentile(rates, q)) for q in (25, 50, 75))
        entry = {"value": nine_digits(middle), "n": len(sample.t), "iqr": nine_digits(high - low)}
        name = f"{what}{dtype}_{quantity}_per_s"
        if name not in found or entry["value"] > found[name]["value"]:
            found[name] = entry
    return dict(sorted(found.items()))


def _absent(samples: Iterable[Sample], hardware: Hardware) -> list[str]:
    measured = {sample.family for sample in samples if sample.t}
    reasons = {"all_reduce": "one GPU"} if hardware.count == 1 else {}
    return [
        f"{family}: {reasons.get(family, 'not measured')}"
        for family in FAMILIES
        if family not in measured
    ]


def _drift_pct(samples: Iterable[Sample]) -> float | None:
    times: dict[str, dict[str, float]] = {"start": {}, "end": {}}
    for sample in samples:
        shape = json.dumps([sample.family, dict(sample.x)], sort_keys=True)
        for when, found in times.items():
            if sample.role == "anchor" and f"anchor:{when}" in sample.flags and sample.t:
                found[shape] = median(times_of(sample))
    both = times["start"].keys() & times["end"].keys()
    ratios = [times["end"][shape] / times["start"][shape] for shape in sorted(both)]
    return nine_digits((median(ratios) - 1) * 100) if ratios else None
