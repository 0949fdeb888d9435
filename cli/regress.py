"""``kvsim regress``: replay a suite and compare it with its baselines. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .groups import with_groups
from .options import JsonFlag
from .printing import print_json, print_table

if TYPE_CHECKING:
    from ..sim.regress.run import Regression

app = typer.Typer(
    help="A regression gate: replay traces, compare with baselines.", no_args_is_help=True
)

SuiteFile = Annotated[Path, typer.Argument(metavar="SUITE.toml", help="The suite.")]
Baselines = Annotated[str, typer.Option("--baseline", help="Folder of the baselines.")]
Pattern = Annotated[str | None, typer.Option("-k", help="Only cases whose names hold this text.")]
Names = Annotated[
    list[str] | None, typer.Option("--case", help="Only the case of this name; several times.")
]
Jobs = Annotated[int, typer.Option(help="Processes to run cases in; the result is the same.")]


@app.command()
@with_groups()
def run(
    suite: SuiteFile,
    baseline: Baselines,
    pattern: Pattern = None,
    cases: Names = None,
    jobs: Jobs = 1,
    markdown: Annotated[
        Path | None, typer.Option(help="File to write: Markdown for a pull request.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="File to write: JUnit XML.")] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Print GitHub's annotations as well.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Replay a suite, compare it with its baselines; exit code 1 where a case is worse."""
    from ..reports.progress import ProgressBar
    from ..reports.regress_github import github_line, github_lines
    from ..reports.regress_write import prepare_reports, write_reports
    from ..sim.regress.run import run_suite, selected
    from ..sim.regress.suite import read_suite

    if github and as_json:
        raise ValueError("github(=True) says nothing beside json: leave one out.")
    try:
        prepare_reports(markdown, junit)
        whole = read_suite(suite)
        chosen = selected(whole, pattern=pattern, names=cases or ())
        with ProgressBar() as bar:
            found = run_suite(chosen, baseline, whole=whole, jobs=jobs, report=bar.report)
        write_reports(found, markdown=markdown, junit=junit)
    except ValueError as error:
        if github:
            typer.echo(github_line("error", str(error), suite, None, "kvsim regress"))
        raise
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    if github:
        typer.echo("\n".join(github_lines(found)))
    if found.failed:
        raise typer.Exit(code=1)


@app.command()
@with_groups()
def update(
    suite: SuiteFile,
    baseline: Baselines,
    pattern: Pattern = None,
    cases: Names = None,
    jobs: Jobs = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, write nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a suite's baselines anew and show what changes; do this after a review."""
    from ..reports.progress import ProgressBar
    from ..reports.regress_text import update_lines, update_sheet
    from ..reports.tables import sheet_table
    from ..sim.regress.run import selected
    from ..sim.regress.suite import read_suite
    from ..sim.regress.update import update_baselines

    whole = read_suite(suite)
    chosen = selected(whole, pattern=pattern, names=cases or ())
    with ProgressBar() as bar:
        done = update_baselines(
            chosen, baseline, whole=whole, jobs=jobs, dry_run=dry_run, report=bar.report
        )
    if as_json:
        print_json(done.to_json())
        return
    sheet = update_sheet(done)
    if sheet is not None:
        print_table(sheet_table(sheet))
    typer.echo("\n".join(update_lines(done)))


def _show(found: Regression) -> None:
    from ..reports.regress_text import run_lines, run_sheet
    from ..reports.tables import sheet_table

    sheet = run_sheet(found)
    if sheet is not None:
        print_table(sheet_table(sheet))
    typer.echo("\n".join(run_lines(found)))
