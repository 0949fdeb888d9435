"""``kvsim reproduce``: published results rerun beside what was printed. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .completion import reproducible_names
from .groups import with_groups
from .options import Force, JsonFlag, OutOption
from .printing import print_json, print_table


@with_groups()
def reproduce(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="A row by name, or a paper (seed, pagedattention, mooncake ...); several times.",
            autocompletion=reproducible_names,
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Every model, traces of an hour: minutes, not seconds.")
    ] = False,
    traces: Annotated[
        Path | None,
        typer.Option(
            help="Folder of public traces, as `kvsim trace fetch` names them, or of folders of "
            "them."
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Processes to run rows in; the result is the same.")
    ] = 2,
    out: OutOption = None,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Published results, rerun: paper, ours, tolerance, verdict; exit code 1 where one fails."""
    from ..reports.progress import ProgressBar
    from ..reports.reproduce_report import KIND, reproduction_tables, write_reproduction
    from ..reports.reproduce_sheets import closing_lines
    from ..sim.folder import check_folder
    from ..sim.reproduce.run import chosen
    from ..sim.reproduce.run import reproduce as rerun
    from ..sim.reproduce.setup import Setting

    if traces is not None and not traces.is_dir():
        raise ValueError(f"traces(={str(traces)!r}) is no folder.")
    names = chosen(only or (), full=full)
    if out is not None:
        check_folder(out, KIND, force=force)
    with ProgressBar() as bar:
        setting = Setting(full=full, traces=traces)
        found = rerun(names, setting=setting, jobs=jobs, report=bar.report)
    paths = [] if out is None else write_reproduction(found, out, force=force)
    if as_json:
        print_json(found.to_json())
    else:
        for table in reproduction_tables(found):
            print_table(table)
        for line in closing_lines(found):
            typer.echo(line)
        if paths:
            typer.echo(f"Report: {paths[0]} (and {len(paths) - 1} files beside it)")
    if found.failed:
        raise typer.Exit(code=1)
