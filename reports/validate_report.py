"""A validation as a folder holds it: a page, its figures, its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..sim.files import json_bytes
from ..sim.folder import write_folder
from ..sim.validation.errors import Validation
from .compare_report import terminal_table
from .validate_sheets import error_sheet, notes_of, outcome, request_sheet, verdict

if TYPE_CHECKING:
    from rich.table import Table

    from .picture import Picture

KIND = "validation"
LINKS = {
    "errors": "Errors",
    "figures": "Figures",
    "sources-and-digests": "Sources and digests",
}
"""Sections of the page."""


def write_validation(
    validation: Validation,
    directory: str | Path,
    *,
    tolerance: float | None = None,
    force: bool = False,
) -> list[Path]:
    """Build everything, then write it; returns the paths, ``report.html`` first.

    Raises:
        ValueError: the folder cannot be written to, or holds files that kvsim did not write.
    """
    return write_folder(directory, KIND, validation_files(validation, tolerance), force=force)


def validation_files(validation: Validation, tolerance: float | None = None) -> dict[str, bytes]:
    """The folder's files by name; the same validation gives the same bytes."""
    from .render import png, svg_file  # matplotlib, which only files need
    from .style import fresh
    from .validate_figures import validation_pictures

    with fresh():
        pictures = validation_pictures(validation)
        return {
            "report.html": validation_page(validation, pictures, tolerance).encode(),
            "validation.json": json_bytes(validation.to_json(tolerance)),
            **{f"{picture.name}.png": png(picture) for picture in pictures},
            **{f"{picture.name}.svg": svg_file(picture) for picture in pictures},
        }


def validation_page(
    validation: Validation, pictures: list[Picture], tolerance: float | None = None
) -> str:
    """The HTML."""
    from .template import figure_values, rendered

    sources = validation.result.values.get("sources", {})
    return rendered(
        "validate.html.j2",
        {
            "title": validation.result.name,
            "links": {id: link for id, link in LINKS.items() if pictures or id != "figures"},
            "verdict": verdict(validation),
            "outcome": outcome(validation, tolerance),
            "sources": validation.measured.sources,
            "errors": error_sheet(validation),
            "requests": request_sheet(validation),
            "notes": list(notes_of(validation)),
            "figures": [figure_values(picture) for picture in pictures],
            "step_times": str(sources.get("timing_from", "not stated")),
            "digests": {
                name: str(one) for name, one in validation.result.summary.get("digests", {}).items()
            },
            "version": __version__,
        },
    )


def validation_tables(validation: Validation) -> list[Table]:
    """Errors of the figures and, where they can be told apart, of the requests."""
    sheets = (error_sheet(validation), request_sheet(validation))
    return [terminal_table(sheet) for sheet in sheets if sheet is not None]
