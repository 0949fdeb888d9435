"""``kvsim compare`` and ``kvsim validate``: stored results beside each other or a real run."""

from __future__ import annotations

from typing import Annotated

import typer

from .groups import with_groups
from .options import Force, JsonFlag, OutOption
from .printing import print_json, print_table


@with_groups()
def compare(
    folders: Annotated[
        list[str],
        typer.Argument(help="Folders of simulate --out, or all of plan --out.", show_default=False),
    ],
    out: OutOption = None,
    force: Force = False,
    every: Annotated[bool, typer.Option("--all", help="Every metric, not the headlines.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Results or plans side by side: what differs, what became better or worse."""
    from ..reports.compare_report import comparison_tables, write_comparison
    from ..reports.compare_sheets import verdicts
    from ..sim.comparison import compare as compare_all
    from ..sim.folder import check_folder
    from ..sim.stored import check_no_input, read_all

    if out is not None:
        check_no_input(out, folders)
        check_folder(out, "comparison", force=force)
    made = compare_all(read_all(folders))
    paths = []
    if out is not None:
        paths = write_comparison(made, out, force=force)
    if as_json:
        print_json(made.to_json())
        return
    for warning in made.warnings:
        typer.echo(f"Note: {warning}")
    for table in comparison_tables(made, whole=every):
        print_table(table)
    for line in verdicts(made):
        typer.echo(line)
    if paths:
        typer.echo(f"Report: {paths[0]} (and {len(paths) - 1} files beside it)")


@with_groups()
def validate(
    measured: Annotated[
        list[str],
        typer.Option(
            help="What a real run recorded: per-request times, vLLM's metrics (one page, or one "
            "before and one after), a CSV over time. Several times.",
            show_default=False,
        ),
    ],
    result: Annotated[
        str, typer.Option(help="Folder that simulate --out wrote.", show_default=False)
    ],
    tolerance: Annotated[
        str | None, typer.Option(help="10%: exit code 1 where a figure misses by more.")
    ] = None,
    out: OutOption = None,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """A prediction beside a real run: errors of latencies, throughput, running, KV use."""
    from ..reports.validate_report import validation_tables, write_validation
    from ..reports.validate_sheets import notes_of, outcome, verdict
    from ..sim.folder import check_folder
    from ..sim.stored import check_no_input, read_result
    from ..sim.validation.errors import read_tolerance
    from ..sim.validation.errors import validate as hold_against
    from ..sim.validation.read import read_measured

    most = read_tolerance(tolerance)
    if out is not None:
        check_no_input(out, [result, *measured])
        check_folder(out, "validation", force=force)
    made = hold_against(read_measured(measured), read_result(result))
    paths = []
    if out is not None:
        paths = write_validation(made, out, tolerance=most, force=force)
    if as_json:
        print_json(made.to_json(most))
    else:
        for source in made.measured.sources:
            typer.echo(f"Measured: {source}.")
        for table in validation_tables(made):
            print_table(table)
        for note in notes_of(made):
            typer.echo(f"Note: {note}")
        typer.echo(outcome(made, most) or verdict(made))
        if paths:
            typer.echo(f"Report: {paths[0]} (and {len(paths) - 1} files beside it)")
    if most is not None and made.misses(most):
        raise typer.Exit(code=1)
