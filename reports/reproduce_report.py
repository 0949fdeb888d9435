"""Published results as a terminal shows them and as a folder holds them: page, figures, JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..sim.files import json_bytes
from ..sim.folder import write_folder
from ..sim.reproduce.claim import Claim
from ..sim.reproduce.run import Reproduction
from .compare_report import terminal_table
from .reproduce_sheets import all_checks_sheet, check_sheet, claims_sheet, verdict_words

if TYPE_CHECKING:
    from rich.table import Table

    from .picture import Picture

KIND = "reproduction"
LINKS = {
    "summary": "Summary",
    "not-held": "What does not hold",
    "constants": "Constants",
    "results": "Results",
}
"""Sections of the page."""


def write_reproduction(
    found: Reproduction, directory: str | Path, *, force: bool = False
) -> list[Path]:
    """Build everything, then write it; returns the paths, ``report.html`` first.

    Raises:
        ValueError: the folder cannot be written to, or holds files that kvsim did not write.
    """
    return write_folder(directory, KIND, reproduction_files(found), force=force)


def reproduction_files(found: Reproduction) -> dict[str, bytes]:
    """The folder's files by name; the same reproduction gives the same bytes."""
    from .render import png, svg_file  # matplotlib, which only files need
    from .reproduce_figures import claim_picture
    from .style import fresh

    with fresh():
        drawn = {claim.name: claim_picture(claim) for claim in found.claims}
        pictures = [picture for picture in drawn.values() if picture is not None]
        return {
            "report.html": reproduction_page(found, drawn).encode(),
            "reproduction.json": json_bytes(found.to_json()),
            **{f"{picture.name}.png": png(picture) for picture in pictures},
            **{f"{picture.name}.svg": svg_file(picture) for picture in pictures},
        }


def reproduction_page(found: Reproduction, drawn: dict[str, Picture | None]) -> str:
    """The HTML."""
    from .template import rendered

    missing = bool(found.not_held) or any(claim.skipped for claim in found.claims)
    return rendered(
        "reproduce.html.j2",
        {
            "links": {id: title for id, title in LINKS.items() if missing or id != "not-held"},
            "whole": found.full,
            "answer": found.answer,
            "failed": found.failed,
            "summary": claims_sheet(found),
            "not_held": found.not_held,
            "skipped": [claim for claim in found.claims if claim.skipped],
            "constants": found.constants,
            "claims": [_shown(claim, drawn[claim.name]) for claim in found.claims],
            "version": __version__,
        },
    )


def reproduction_tables(found: Reproduction) -> list[Table]:
    """Every figure."""
    return [terminal_table(all_checks_sheet(found))]


def _shown(claim: Claim, picture: Picture | None) -> dict[str, object]:
    from .template import figure_values

    return {
        "name": claim.name,
        "paper": claim.paper,
        "source": claim.source,
        "says": claim.says,
        "how": claim.how,
        "verdict": verdict_words(claim),
        "reasons": claim.reasons,
        "skipped": claim.skipped,
        "checks": check_sheet(claim) if claim.checks else None,
        "figure": None if picture is None else figure_values(picture),
    }
