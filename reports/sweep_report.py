"""A sweep as a terminal shows it and as a folder holds it: a page, its figure, its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..sim.folder import write_folder
from ..sim.sweep.export import csv_bytes, parquet_bytes
from ..sim.sweep.show import Row
from ..sim.sweep.supervise import DONE
from .compare_report import terminal_table
from .sweep_sheets import failure_sheet, latency_words, sweep_sheet

if TYPE_CHECKING:
    from rich.table import Table

    from ..sim.sweep.run import Swept

KIND = "sweep-report"
SCHEMA = "kvsim-sweep-rows/1"
LINKS = {"front": "Pareto front", "cells": "Cells", "failures": "Without a result"}
"""Sections of the page."""


def run_lines(done: Swept, out: str) -> list[str]:
    """What a sweep did, in sentences."""
    lines = [f"{one.name} {one.kind}: {one.reason}" for one in done.failures]
    there = f", {done.num_stored} stored before" if done.num_stored else ""
    failed = f", {len(done.failures)} without a result" if done.failures else ""
    cells = f"{done.num_cells} cell{'' if done.num_cells == 1 else 's'}"
    return [*lines, f"{cells}: {done.num_new} new{there}{failed}. Look: kvsim sweep show {out}"]


def sweep_tables(rows: Sequence[Row], *, latency: str, front: bool = False) -> list[Table]:
    """The cells, and those without a result."""
    sheets = [sweep_sheet(rows, latency=latency, front=front), failure_sheet(rows)]
    return [terminal_table(sheet) for sheet in sheets if sheet is not None and sheet.rows]


def sweep_lines(rows: Sequence[Row], *, latency: str) -> list[str]:
    """What the marks mean, and what they leave out."""
    lines = [
        "* on the Pareto front of its trace: no other cell costs no more an hour, gives no fewer "
        f"output tokens a second and has no longer {latency_words(latency)}."
    ]
    priced = {row.trace for row in rows if row.usd_per_hour is not None}
    left_out = [
        row
        for row in rows
        if row.status == DONE and row.usd_per_hour is None and row.trace in priced
    ]
    if left_out:
        lines.append(f"Not weighed, for want of a price: {', '.join(r.name for r in left_out)}.")
    return lines


def rows_json(rows: Sequence[Row]) -> dict[str, Any]:
    """Plain values."""
    return {"schema": SCHEMA, "cells": [row.flat() for row in rows]}


def write_sweep(
    rows: Sequence[Row], directory: str | Path, *, latency: str, force: bool = False
) -> list[Path]:
    """Build everything, then write it; returns the paths, ``report.html`` first.

    Raises:
        ValueError: the folder cannot be written to, or holds files that kvsim did not write.
    """
    return write_folder(directory, KIND, sweep_files(rows, latency=latency), force=force)


def sweep_files(rows: Sequence[Row], *, latency: str) -> dict[str, bytes]:
    """The folder's files by name; the same rows give the same bytes."""
    from .render import png, svg_file
    from .style import fresh
    from .sweep_figure import front_picture  # matplotlib, which only files need

    with fresh():
        found = front_picture(rows, latency=latency)
        pictures = [] if found is None else [found]
        return {
            "report.html": _page(rows, pictures, latency).encode(),
            "cells.csv": csv_bytes(rows),
            "cells.parquet": parquet_bytes(rows),
            **{f"{picture.name}.png": png(picture) for picture in pictures},
            **{f"{picture.name}.svg": svg_file(picture) for picture in pictures},
        }


def _page(rows: Sequence[Row], pictures: Sequence[Any], latency: str) -> str:
    from .template import figure_values, rendered

    failures = failure_sheet(rows)
    front = sum(row.on_front for row in rows)
    done = sum(row.status == DONE for row in rows)
    return rendered(
        "sweep.html.j2",
        {
            "title": f"{len(rows)} cells, {front} on the Pareto front",
            "links": {id: link for id, link in LINKS.items() if failures or id != "failures"},
            "verdict": f"{done} of {len(rows)} cells have a result.",
            "lines": sweep_lines(rows, latency=latency),
            "figures": [figure_values(picture) for picture in pictures],
            "front": sweep_sheet(rows, latency=latency, front=True),
            "cells": sweep_sheet(rows, latency=latency),
            "failures": failures,
            "version": __version__,
        },
    )
