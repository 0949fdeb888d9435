"""A comparison with real runs as a folder holds it: a page, its figures, its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..sim.files import json_bytes
from ..sim.folder import write_folder
from ..sim.groundtruth.truth import Truth, truths_json
from . import groundtruth_words as said
from .compare_report import terminal_table
from .groundtruth_sheets import figures_sheet, runs_sheet, steps_sheet

if TYPE_CHECKING:
    from rich.table import Table

    from .picture import Picture

KIND = "groundtruth"
LINKS = {"runs": "Runs", "steps": "Steps", "whole-runs": "Whole runs", "figures": "Figures"}
"""Sections of the page."""


def write_groundtruth(
    truths: Sequence[Truth], directory: str | Path, *, force: bool = False
) -> list[Path]:
    """Build everything, then write it; returns the paths, ``report.html`` first.

    Raises:
        ValueError: the folder cannot be written to, or holds files that kvsim did not write.
    """
    return write_folder(directory, KIND, groundtruth_files(truths), force=force)


def groundtruth_files(truths: Sequence[Truth]) -> dict[str, bytes]:
    """The folder's files by name; the same logs give the same bytes."""
    from .groundtruth_figures import groundtruth_pictures  # matplotlib, which only files need
    from .render import png, svg_file
    from .style import fresh

    with fresh():
        pictures = groundtruth_pictures(truths)
        return {
            "report.html": groundtruth_page(truths, pictures).encode(),
            "groundtruth.json": json_bytes(truths_json(truths)),
            **{f"{picture.name}.png": png(picture) for picture in pictures},
            **{f"{picture.name}.svg": svg_file(picture) for picture in pictures},
        }


def groundtruth_page(truths: Sequence[Truth], pictures: list[Picture]) -> str:
    """The HTML."""
    from .template import figure_values, rendered

    header = truths[0].log.header
    return rendered(
        "groundtruth.html.j2",
        {
            "title": f"{header.model.get('name')} on {header.hardware.get('name')}",
            "links": LINKS,
            "verdict": said.verdict(truths),
            "runs": runs_sheet(truths),
            "settings": [f"{one.name}: {said.setting(one)}." for one in truths],
            "steps": steps_sheet(truths),
            "step_times": truths[0].origin,
            "whole_runs": [figures_sheet(one) for one in truths],
            "notes": said.notes(truths),
            "figures": [figure_values(picture) for picture in pictures],
            "software": {name: str(value) for name, value in header.software.items()},
            "hardware": {name: str(value) for name, value in header.hardware.items()},
            "version": __version__,
        },
    )


def groundtruth_tables(truths: Sequence[Truth]) -> list[Table]:
    """For a terminal: step errors, then every run."""
    sheets = (steps_sheet(truths), *(figures_sheet(one) for one in truths))
    return [terminal_table(sheet) for sheet in sheets]


def groundtruth_lines(truths: Sequence[Truth]) -> list[str]:
    """What follows the tables."""
    return said.lines(truths)
