"""A fleet as a terminal shows it and as a folder holds it: a page, its figures, its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..sim.files import json_bytes
from ..sim.fleet.figures import fleet_figures, fleet_json
from ..sim.fleet.job import fleet_notes
from ..sim.fleet.result import FleetResult
from ..sim.folder import write_folder
from ..sim.store import parquet_bytes
from ..sim.summary import Summary
from . import words
from .fleet_sheets import change_sheet, fleet_facts, replica_sheet

if TYPE_CHECKING:
    from rich.table import Table

    from ..traces.intake import Taken
    from .picture import Picture

KIND = "fleet"
LINKS = {"replicas": "Replicas", "figures": "Figures", "changes": "Changes", "notes": "Notes"}
"""Sections of the page."""


def write_fleet(
    found: FleetResult,
    summary: Summary,
    directory: str | Path,
    *,
    taken: Taken,
    force: bool = False,
) -> list[Path]:
    """Build everything, then write it; returns the paths, ``report.html`` first.

    Raises:
        ValueError: the folder cannot be written to, or holds files that kvsim did not write.
    """
    return write_folder(directory, KIND, fleet_files(found, summary, taken), force=force)


def fleet_files(found: FleetResult, summary: Summary, taken: Taken) -> dict[str, bytes]:
    """The folder's files by name; the same run gives the same bytes."""
    from .fleet_figures import fleet_pictures  # matplotlib, which only files need
    from .render import png, svg_file
    from .style import fresh

    with fresh():
        pictures = fleet_pictures(found, fleet_figures(found))
        files = {
            "report.html": fleet_page(found, summary, taken, pictures).encode(),
            "fleet.json": json_bytes(fleet_json(found, summary)),
            "summary.json": json_bytes(summary.to_json()),
            "requests.parquet": parquet_bytes(found.result.requests),
            "routed.parquet": parquet_bytes(found.routed),
            **{f"{picture.name}.png": png(picture) for picture in pictures},
            **{f"{picture.name}.svg": svg_file(picture) for picture in pictures},
        }
    if found.fleet.disaggregated:
        files["transfers.parquet"] = parquet_bytes(found.transfers)
    return files


def fleet_page(found: FleetResult, summary: Summary, taken: Taken, pictures: list[Picture]) -> str:
    """The HTML."""
    from .template import figure_values, rendered

    figures = fleet_figures(found)
    changed = len(found.changes["at_s"]) > 2 * found.fleet.num_replicas
    return rendered(
        "fleet.html.j2",
        {
            "title": title(found),
            "links": {id: link for id, link in LINKS.items() if changed or id != "changes"},
            "lines": fleet_lines(found, summary, taken),
            "facts": fleet_facts(found, figures),
            "replicas": replica_sheet(figures),
            "figures": [figure_values(picture) for picture in pictures],
            "changes": change_sheet(found) if changed else None,
            "notes": fleet_notes(found, taken.trace),
            "version": __version__,
        },
    )


def title(found: FleetResult) -> str:
    """``2 x a100 and 1 x h100-sxm behind least_outstanding``."""
    pools = [f"{pool.num_replicas} x {pool.name}" for pool in found.fleet.pools]
    return f"{words.listing(pools)} behind {found.fleet.router}"


def fleet_lines(found: FleetResult, summary: Summary, taken: Taken) -> list[str]:
    """The set-up and the outcome in sentences."""
    pools = [f"{pool.name}: {getattr(pool.server, 'setting', '')}." for pool in found.fleet.pools]
    finished = f"{words.count(summary.num_finished)} of {words.count(summary.num_requests)}"
    return [
        f"Fleet: {title(found)}.",
        *pools,
        f"Trace: {taken.origin}, {len(taken.trace)} requests; {taken.arrivals}.",
        f"{finished} requests finished in {words.seconds(summary.makespan_s)}: "
        f"{words.count(summary.output_tokens_per_s)} output tokens/s, "
        f"{words.share(summary.prefix_hit_ratio)} of the prompt tokens found cached.",
    ]


def fleet_tables(found: FleetResult, summary: Summary) -> list[Table]:
    """What the terminal shows: all requests, each replica, the fleet."""
    from .tables import facts_table, sheet_table, summary_table

    figures = fleet_figures(found)
    return [
        summary_table(summary),
        sheet_table(replica_sheet(figures)),
        facts_table("Fleet", fleet_facts(found, figures)),
    ]
