"""The main tables of a profile: ceilings, errors of the fits, goals, coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from ..calibration.profile.values import LineFit, Residual
from . import words
from .calibration_data import Calibration
from .calibration_goals import aims, error_goal
from .calibration_words import FAMILY_TITLES, kernel, origin
from .sheet import Sheet

SPLITS = {
    "fit": "made the fit",
    "heldout": "held out",
    "leave_context_out": "a context decade left out",
    "leave_batch_out": "a batch size left out",
    "leave_chunk_out": "a chunk size left out",
    "leave_heads_out": "a head layout left out",
    "leave_m_out": "a token count left out",
    "leave_layer_out": "a layer left out",
}


def ceilings_sheet(calibration: Calibration) -> Sheet:
    """What the card can do at best, beside its datasheet."""
    return Sheet(
        title="Ceilings",
        columns=("ceiling", origin(calibration.profile).adjective, "IQR", "samples", "datasheet"),
        rows=tuple(
            _ceiling(calibration, name, entry)
            for name, entry in calibration.profile.ceilings.items()
        ),
    )


def _ceiling(calibration: Calibration, name: str, entry: Mapping[str, float]) -> tuple[str, ...]:
    flops = name.endswith("flops_per_s")
    unit, value = ("TFLOP/s" if flops else "TB/s"), entry["value"]
    title = name.removesuffix("_flops_per_s").removesuffix("_bytes_per_s").replace("_", " ")
    return (
        title,
        f"{words.number(value / 1e12)} {unit}",
        words.share(entry["iqr"] / value) if "iqr" in entry else words.NONE,
        words.count(entry["n"]) if "n" in entry else words.NONE,
        _datasheet(calibration, flops, unit),
    )


def _datasheet(calibration: Calibration, flops: bool, unit: str) -> str:
    if calibration.gpu is None:
        return words.NONE
    bandwidth = calibration.gpu.memory_bandwidth_bytes_per_s
    rate = calibration.gpu.flops_of("bf16") if flops else bandwidth
    return f"{words.number(rate / 1e12)} {unit}" if rate else words.NONE


def validation_sheet(calibration: Calibration) -> Sheet:
    """Relative errors by family and by what was kept from the fit."""
    return Sheet(
        title="Errors of the fits",
        columns=("family", "points", "number", "median", "P95", "worst", "goal", ""),
        rows=tuple(_residual(one) for one in calibration.profile.residuals),
        text_columns=(0, 1, 6, 7),
    )


def _residual(one: Residual) -> tuple[str, ...]:
    goal = error_goal(one)
    met = goal is not None and one.median_pct <= goal[0] and one.p95_pct <= goal[1]
    return (
        FAMILY_TITLES.get(one.family, one.family),
        SPLITS.get(one.split, one.split.replace("_", " ")),
        words.count(one.num_points),
        *(f"{words.number(x, digits=2)} %" for x in (one.median_pct, one.p95_pct, one.worst_pct)),
        f"{goal[0]:g} / {goal[1]:g} %" if goal else words.NONE,
        "" if goal is None else "met" if met else "missed",
    )


def goals_sheet(calibration: Calibration) -> Sheet:
    """The kernels' aims that the profile has points for."""
    return Sheet(
        title="Goals of the kernels",
        columns=("case", "", origin(calibration.profile).adjective, "goal"),
        rows=tuple(
            (one.case, one.answer, one.found.replace(" ", "\N{NO-BREAK SPACE}"), one.aim)
            for one in aims(calibration)
        ),
        text_columns=(0, 1, 2, 3),
    )


def decode_sheet(calibration: Calibration) -> Sheet:
    """Coefficients of decode attention."""
    return Sheet(
        title="Fit of decode attention, one layer",
        columns=(
            "kernel",
            "fixed",
            "read TB/s",
            "a program GB/s",
            "p",
            "an item",
            "a round of merging",
            "slots",
            "tile",
            "uncertainty",
        ),
        rows=tuple(
            (
                kernel(one.key),
                words.seconds(one.t0_s),
                words.number(one.read_bytes_per_s / 1e12),
                words.number(one.program_bytes_per_s / 1e9),
                words.number(one.p),
                _small(one.item_s),
                _small(one.merge_s),
                words.count(one.slots),
                words.count(one.tile_tokens),
                _uncertainty(one.uncertainty),
            )
            for one in calibration.profile.decode
        ),
    )


def prefill_sheet(calibration: Calibration) -> Sheet:
    """Coefficients of attention over chunks."""
    return Sheet(
        title="Fit of prefill attention, one layer",
        columns=(
            "kernel",
            "fixed",
            "TFLOP/s",
            "read TB/s",
            "a program TFLOP/s",
            "p",
            "slots",
            "overlap with decodes",
            "uncertainty",
        ),
        rows=tuple(
            (
                kernel(one.key),
                words.seconds(one.t0_s),
                words.number(one.flops_per_s / 1e12),
                words.number(one.read_bytes_per_s / 1e12),
                words.number(one.program_flops_per_s / 1e12),
                words.number(one.p),
                words.count(one.slots),
                words.share(one.overlap),
                _uncertainty(one.uncertainty),
            )
            for one in calibration.profile.prefill
        ),
    )


def lines_sheet(calibration: Calibration) -> Sheet:
    """Coefficients of linear layers that no table holds, and of everything that is a line."""
    products = [
        (
            f"linear layers, {one.dtype}",
            words.seconds(one.t0_s),
            words.NONE,
            words.number(one.read_bytes_per_s / 1e9),
            f"{words.number(one.flops_per_s / 1e12)} TFLOP/s, p {words.number(one.p)}",
            _uncertainty(one.uncertainty),
        )
        for one in calibration.profile.gemm
    ]
    return Sheet(
        title="Other fits",
        columns=("what", "fixed", "a unit", "GB/s", "more", "uncertainty"),
        rows=(*products, *(_line(one) for one in calibration.profile.lines)),
        text_columns=(0, 4),
    )


def _line(one: LineFit) -> tuple[str, ...]:
    moved = f"{words.count(one.bytes_per_token)} B a token" if one.bytes_per_token else ""
    return (
        one.name.replace("_", " "),
        words.seconds(one.t0_s),
        _small(one.unit_s),
        words.number(one.bytes_per_s / 1e9) if isfinite(one.bytes_per_s) else words.NONE,
        moved,
        _uncertainty(one.uncertainty),
    )


def _small(value_s: float) -> str:
    """``-`` for none, nanoseconds below a microsecond."""
    if not value_s:
        return words.NONE
    return f"{words.number(value_s * 1e9)} ns" if value_s < 1e-6 else words.seconds(value_s)


def _uncertainty(relative: Mapping[str, float]) -> str:
    """The largest of the coefficients' own, ``-`` where none is known."""
    known = [value for value in relative.values() if isfinite(value)]
    return words.share(max(known)) if known else words.NONE
