"""``kvsim sweep``: many runs, stored once each, and their table. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from .groups import with_groups
from .options import Force, JsonFlag
from .printing import print_json, print_table

if TYPE_CHECKING:
    from ..sim.sweep.run import Swept


class RunByDefault(TyperGroup):
    """``kvsim sweep grid.toml`` is ``kvsim sweep run grid.toml``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the command where none is named."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=RunByDefault,
    help="Run a grid of deployments x traces x rates: `kvsim sweep GRID.toml --out DIR`.",
    no_args_is_help=True,
)


@app.command()
@with_groups()
def run(
    grid: Annotated[Path, typer.Argument(metavar="GRID.toml", help="What to run.")],
    out: Annotated[str, typer.Option(help="Folder or URL (fsspec) of the results.")],
    backend: Annotated[str, typer.Option(help="Where cells run: loky (here), ray, dask.")] = "loky",
    jobs: Annotated[
        int | None, typer.Option(help="Cells at once [default: every core, or the whole cluster].")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Of the cluster, HOST:PORT [default: one started here]."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds of one cell, after which it is given up.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run what is not stored yet; exit code 1 where a cell has no result."""
    from ..reports.progress import ProgressBar
    from ..sim.sweep.grid import read_grid
    from ..sim.sweep.run import run_sweep

    with ProgressBar() as bar:
        done = run_sweep(
            read_grid(grid),
            out,
            backend=backend,
            jobs=jobs,
            address=address,
            timeout_s=timeout,
            report=bar.report,
        )
    print_json(done.to_json()) if as_json else _show_run(done, out)
    if done.failures:
        raise typer.Exit(code=1)


@app.command()
@with_groups()
def show(
    sweep: Annotated[str, typer.Argument(metavar="DIR-or-URL", help="What --out named.")],
    grid: Annotated[str | None, typer.Option(help="Only the grid of this name.")] = None,
    latency: Annotated[
        str, typer.Option(help="Of the Pareto front: ttft_s.p95, tpot_s.p50, e2e_s.mean ...")
    ] = "ttft_s.p95",
    front: Annotated[bool, typer.Option("--front", help="Only the Pareto front.")] = False,
    csv: Annotated[str | None, typer.Option(help="CSV to write: every cell.")] = None,
    parquet: Annotated[str | None, typer.Option(help="Parquet to write: every cell.")] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder to write: report.html with the front's figure.")
    ] = None,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Table and Pareto front (cost, throughput, latency) of a sweep."""
    from ..reports.sweep_report import rows_json, sweep_lines, sweep_tables, write_sweep
    from ..sim.stored import check_no_input
    from ..sim.sweep.export import write_rows
    from ..sim.sweep.show import read_rows

    if out is not None:
        check_no_input(out, [sweep])
    rows = read_rows(sweep, grid=grid, latency=latency)
    written = write_rows(rows, csv=csv, parquet=parquet)
    if out is not None:
        written += write_sweep(rows, out, latency=latency, force=force)[:1]
    if as_json:
        print_json(rows_json(rows))
        return
    for table in sweep_tables(rows, latency=latency, front=front):
        print_table(table)
    for line in sweep_lines(rows, latency=latency):
        typer.echo(line)
    for path in written:
        typer.echo(f"Wrote {path}")


def _show_run(done: Swept, out: str) -> None:
    from ..reports.sweep_report import run_lines

    for line in run_lines(done, out):
        typer.echo(line)
