"""The page of a profile: one self-contained HTML file, as the plan's.

What is not there is said in one list: families that were not measured, each with its reason, and
the figures that would have needed them.
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import __version__
from ..calibration.profile.values import FAMILIES
from . import words
from .calibration_data import Calibration
from .calibration_figures import FIGURES
from .calibration_sheets import (
    ceilings_sheet,
    decode_sheet,
    goals_sheet,
    lines_sheet,
    prefill_sheet,
    validation_sheet,
)
from .calibration_small_sheets import small_sheets
from .calibration_words import FAMILY_TITLES, card, missing_families, origin, runs, verdict
from .picture import Picture
from .sheet import Sheet
from .template import figure_values, rendered, unbroken

NOT_FACTS = ("clocks_log", "clocks_columns")
"""Entries of a run that are series, not facts; a table sums them up."""


def calibration_page(calibration: Calibration, pictures: list[Picture]) -> str:
    """The HTML of a profile."""
    return rendered("calibration.html.j2", calibration_values(calibration, pictures))


def calibration_values(calibration: Calibration, pictures: list[Picture]) -> dict[str, object]:
    """What the template shows, by name."""
    profile = calibration.profile
    return {
        "title": f"{card(profile)} for {profile.model}",
        "banner": origin(profile).banner,
        "verdict": unbroken(verdict(calibration)),
        "runs": runs(calibration),
        "figures": [figure_values(picture) for picture in pictures],
        "first_tables": _full(ceilings_sheet(calibration), goals_sheet(calibration)),
        "validation": _full(validation_sheet(calibration)),
        "fits": _full(
            decode_sheet(calibration), prefill_sheet(calibration), lines_sheet(calibration)
        ),
        "small_tables": small_sheets(calibration),
        "imported": _full(imported_sheet(calibration)),
        "lacks": lacks(calibration, pictures),
        "hardware": _hardware(calibration),
        "software": {name: str(value) for name, value in profile.software.items()},
        "run": _facts(profile.run),
        "derived_from": _facts(profile.derived_from),
        "identity": {"id": profile.id, "samples_sha256": profile.samples_sha256 or words.NONE},
        "adjective": origin(profile).adjective,
        "version": __version__,
    }


def lacks(calibration: Calibration, pictures: list[Picture]) -> list[str]:
    """What was not measured and why, and the figures that are left out for it."""
    profile = calibration.profile
    said = [_reason(entry) for entry in profile.missing]
    named = missing_families(profile)
    held = {sample.family for sample in calibration.samples}
    silent = [name for name in FAMILIES if name not in held | named]
    if not held:
        said.append("No samples: the profile holds coefficients or tables only.")
    elif silent:
        titles = words.listing([FAMILY_TITLES[name] for name in silent])
        said.append(f"No samples and no reason: {titles}.")
    shown = {picture.name for picture in pictures}
    return [*said, *(_left_out(name) for name in FIGURES if name not in shown)]


def _reason(entry: str) -> str:
    """``all_reduce: one GPU`` as a sentence."""
    name, _, reason = (part.strip() for part in entry.partition(":"))
    title = FAMILY_TITLES.get(name, name)
    return f"{title[0].upper()}{title[1:]}: {reason.rstrip('.') or 'not measured'}."


def _left_out(name: str) -> str:
    return f"Figure {name} is left out: no points of {FIGURES[name][1]}."


def imported_sheet(calibration: Calibration) -> Sheet:
    """The tables that another tool brought: their names, rows and columns."""
    rows = []
    for name, columns in calibration.profile.tables.items():
        if isinstance(columns, Mapping) and columns:
            length = max(len(column) for column in columns.values())
            rows.append((name, words.count(length), ", ".join(columns)))
    return Sheet(
        title="Tables of the other tool",
        columns=("table", "rows", "columns"),
        rows=tuple(rows),
        text_columns=(0, 2),
    )


def _full(*sheets: Sheet) -> list[Sheet]:
    return [sheet for sheet in sheets if sheet.rows]


def _hardware(calibration: Calibration) -> dict[str, str]:
    hardware = calibration.profile.hardware
    return {
        "card": hardware.name,
        "kvsim's name": hardware.gpu,
        "number of GPUs": words.count(hardware.count),
        "compute capability": hardware.compute_capability,
        "multiprocessors": words.count(hardware.num_sms),
        "L2 cache": words.size(hardware.l2_bytes),
        "memory": words.gib(hardware.total_memory_bytes),
        **_facts(hardware.more),
    }


def _facts(values: Mapping[str, object]) -> dict[str, str]:
    """Names and printed values; nested ones as ``group: name``."""
    facts: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            facts |= {f"{name}: {inner}": text for inner, text in _facts(value).items()}
        elif name not in NOT_FACTS:
            facts[name] = f"{value:.6g}" if isinstance(value, float) else str(value)
    return facts
