"""What ``kvsim calibrate report`` shows of a profile: a page with figures, tables, plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ..calibration.profile.values import Profile, Sample
from ..sim.folder import write_folder
from .calibration_data import calibration_of
from .calibration_goals import error_goal
from .calibration_sheets import ceilings_sheet, goals_sheet, validation_sheet
from .calibration_words import heading
from .sheet import Sheet


def write_calibration_report(
    profile: Profile, samples: tuple[Sample, ...], out: str | Path, *, force: bool = False
) -> list[Path]:
    """Build everything, then write it; returns the paths, ``report.html`` first.

    Raises:
        ValueError: the folder cannot be written to, or holds files that kvsim did not write.
    """
    return write_folder(out, "calibration", calibration_files(profile, samples), force=force)


def calibration_files(profile: Profile, samples: tuple[Sample, ...]) -> dict[str, bytes]:
    """The report's files by name; the same profile and samples give the same bytes."""
    from .calibration_figures import calibration_pictures  # matplotlib, which only files need
    from .calibration_page import calibration_page
    from .render import png, svg_file
    from .style import fresh

    calibration = calibration_of(profile, samples)
    with fresh():
        pictures = calibration_pictures(calibration)
        return {
            "report.html": calibration_page(calibration, pictures).encode(),
            **{f"{picture.name}.png": png(picture) for picture in pictures},
            **{f"{picture.name}.svg": svg_file(picture) for picture in pictures},
        }


def calibration_heading(profile: Profile, samples: tuple[Sample, ...]) -> tuple[str, ...]:
    """The first lines in a terminal: provenance where it is not measured, verdict, points."""
    return heading(calibration_of(profile, samples))


def calibration_tables(profile: Profile, samples: tuple[Sample, ...]) -> list[Sheet]:
    """The summary in a terminal: ceilings, errors of the fits, goals; those that have rows."""
    calibration = calibration_of(profile, samples)
    sheets = (
        ceilings_sheet(calibration),
        validation_sheet(calibration),
        goals_sheet(calibration),
    )
    return [sheet for sheet in sheets if sheet.rows]


def calibration_json(profile: Profile) -> dict[str, Any]:
    """The profile as plain values, each residual with its goal; infinite rates are None."""
    values: dict[str, Any] = _plain(profile)
    for entry, residual in zip(values["residuals"], profile.residuals, strict=True):
        goal = error_goal(residual)
        entry["goal_median_pct"], entry["goal_p95_pct"] = goal or (None, None)
    return values


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts, tuples as lists."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not isfinite(value) else value
