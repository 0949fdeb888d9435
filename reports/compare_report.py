"""A comparison as a terminal shows it and as a folder holds it: a page, its figures, its JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..sim.comparison import Comparison
from ..sim.files import json_bytes
from ..sim.folder import write_folder
from .compare_sheets import difference_sheet, digest_facts, metric_sheet, verdicts
from .sheet import Sheet

if TYPE_CHECKING:
    from rich.table import Table

    from .picture import Picture

KIND = "comparison"
LINKS = {
    "what-differs": "What differs",
    "metrics": "Metrics",
    "figures": "Figures",
    "digests": "Digests",
}
"""Sections of the page."""
COLOURS = {"better": "green", "worse": "red"}


def write_comparison(
    comparison: Comparison, directory: str | Path, *, force: bool = False
) -> list[Path]:
    """Build everything, then write it; returns the paths, ``report.html`` first.

    Raises:
        ValueError: the folder cannot be written to, or holds files that kvsim did not write.
    """
    return write_folder(directory, KIND, comparison_files(comparison), force=force)


def comparison_files(comparison: Comparison) -> dict[str, bytes]:
    """The folder's files by name; the same comparison gives the same bytes."""
    from .compare_figures import compare_pictures  # matplotlib, which only files need
    from .render import png, svg_file
    from .style import fresh

    with fresh():
        pictures = compare_pictures(comparison)
        return {
            "report.html": comparison_page(comparison, pictures).encode(),
            "comparison.json": json_bytes(comparison.to_json()),
            **{f"{picture.name}.png": png(picture) for picture in pictures},
            **{f"{picture.name}.svg": svg_file(picture) for picture in pictures},
        }


def comparison_page(comparison: Comparison, pictures: list[Picture]) -> str:
    """The HTML."""
    from .template import figure_values, rendered

    first, *others = comparison.names
    return rendered(
        "compare.html.j2",
        {
            "title": f"{', '.join(others)} against {first}",
            "links": {id: link for id, link in LINKS.items() if pictures or id != "figures"},
            "kind": comparison.kind,
            "verdicts": verdicts(comparison),
            "warnings": comparison.warnings,
            "same": not comparison.differences,
            "differences": difference_sheet(comparison),
            "metrics": metric_sheet(comparison),
            "every": metric_sheet(comparison, whole=True),
            "figures": [figure_values(picture) for picture in pictures],
            "digests": digest_facts(comparison),
            "version": __version__,
        },
    )


def comparison_tables(comparison: Comparison, *, whole: bool = False) -> list[Table]:
    """What differs in the set-up, where anything does, and the metrics."""
    found = [difference_sheet(comparison)] if comparison.differences else []
    found.append(metric_sheet(comparison, whole=whole))
    return [terminal_table(sheet) for sheet in found]


def terminal_table(sheet: Sheet) -> Table:
    """A sheet whose names came from a user: square brackets are text, changes have colours."""
    from rich.markup import escape

    from .tables import sheet_table

    def cell(text: str) -> str:
        last = text.rpartition(" ")[2]
        colour = COLOURS.get(last)
        return f"[{colour}]{escape(text)}[/]" if colour else escape(text)

    return sheet_table(
        replace(
            sheet,
            columns=tuple(escape(column) for column in sheet.columns),
            rows=tuple(tuple(cell(one) for one in row) for row in sheet.rows),
        )
    )
