"""``kvsim trace``: statistics, cache curve, synthesis, download. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .groups import with_groups
from .inputs import print_notes
from .options import JsonFlag
from .printing import print_json, print_table

app = typer.Typer(help="Request traces: statistics, synthesis, download.", no_args_is_help=True)

Files = Annotated[list[str], typer.Argument(help="Trace files.", show_default=False)]


@app.command()
@with_groups(options=options.file_options)
def stats(options: dict[str, Any], files: Files, as_json: JsonFlag = False) -> None:
    """Lengths, arrivals and prefix reuse of a trace."""
    from ..reports import tables
    from ..traces.intake import Intake, take_in
    from ..traces.stats import trace_stats

    trace = take_in(Intake(trace=tuple(files), **options)).trace
    found = trace_stats(trace)
    if as_json:
        print_json({**found, "skipped": [str(row) for row in trace.skipped]})
        return
    print_table(tables.stats_table(found, title=trace.name))
    print_notes(trace, trace.notes)


@app.command("cache-curve")
@with_groups(options=options.file_options)
def cache_curve(
    options: dict[str, Any],
    files: Files,
    sizes: Annotated[
        list[int] | None, typer.Option("--size", help="Blocks of the cache; several times.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="PNG to write.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Prefix-cache hit ratio against cache size (LRU), in one pass over the trace."""
    from ..reports.cache_curve import CONVENTIONS, SIZES, curve_json, curve_png, curve_sheet
    from ..reports.tables import sheet_table
    from ..sim.files import write_files
    from ..traces.cache_curve import cache_curve as curve_of
    from ..traces.intake import Intake, take_in

    trace = take_in(Intake(trace=tuple(files), **options)).trace
    curve = curve_of(trace)
    wanted = sizes or SIZES
    shown = curve_json(curve, wanted)
    if out is not None:
        path = Path(out)
        write_files(path.parent, {path.name: curve_png(curve, trace.name)})
    if as_json:
        print_json(shown)
        return
    print_table(sheet_table(curve_sheet(curve, wanted)))
    typer.echo(CONVENTIONS[curve.convention])
    print_notes(trace, trace.notes)


@app.command()
@with_groups(options=options.workload_options)
def generate(
    options: dict[str, Any],
    out: Annotated[str, typer.Option(help="File to write, Mooncake format; .gz compresses.")],
    as_json: JsonFlag = False,
) -> None:
    """Draw a synthetic workload from a seed and write it as a Mooncake trace."""
    from ..traces.intake import Intake, take_in
    from ..traces.write import write_mooncake

    taken = take_in(Intake(**options))
    path = write_mooncake(taken.trace, out)
    found = {"path": str(path), "num_requests": len(taken.trace), "digest": taken.trace.digest}
    if as_json:
        print_json(found)
        return
    typer.echo(f"{len(taken.trace)} requests ({taken.origin}; {taken.arrivals or 'no arrivals'})")
    typer.echo(f"Wrote {path}")


@app.command()
@with_groups()
def fetch(
    name: Annotated[str, typer.Argument(help="A public trace, by name; `list` lists them.")],
    out: Annotated[str, typer.Option(help="Folder to put it in.")] = ".",
    base_url: Annotated[str | None, typer.Option(help="A mirror: BASE_URL/<file name>.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Download a public trace by name; its SHA-256 is checked."""
    from ..reports.listing import traces_json, traces_table
    from ..reports.progress import ProgressBar
    from ..traces.catalogue import CATALOGUE
    from ..traces.fetch import fetch as fetch_trace

    if name == "list":
        print_json(traces_json(CATALOGUE)) if as_json else print_table(traces_table(CATALOGUE))
        return
    with ProgressBar() as bar:
        path = fetch_trace(
            name,
            directory=out,
            base_url=base_url,
            progress=lambda done, total: bar.report(f"fetching {name}", done, total),
        )
    print_json({"path": str(path)}) if as_json else typer.echo(f"Wrote {path}")
