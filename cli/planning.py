"""``kvsim plan`` and ``kvsim simulate``: a trace through a server. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import deciding, options
from .groups import with_groups
from .inputs import print_notes, server_of, taken_of
from .options import Force, JsonFlag, OutOption
from .printing import print_json, print_table

Plans = Annotated[str, typer.Option(help="Folder for report.html, figures and plan.json.")]


@with_groups(
    hardware=deciding.hardware_choices,
    flags=deciding.flag_choices,
    asked=deciding.decision_options,
    work=options.work_options,
)
def plan(
    hardware: dict[str, Any],
    flags: dict[str, Any],
    asked: dict[str, Any],
    work: dict[str, Any],
    page_size: Annotated[
        str,
        typer.Option(help="Compare with virtual-contiguous pages, too: 64KiB,2MiB [default: no]."),
    ] = "",
    out: Plans = "report",
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Choose a server for a trace, simulate it beside contiguous ones, and write a report."""
    from ..reports import tables
    from ..reports.progress import ProgressBar
    from ..reports.write import write_plan
    from ..sim.folder import check_folder
    from ..sim.pages import page_sizes_of
    from ..sim.planner.grid import grid_of
    from ..sim.planner.planned import make_planned
    from ..sim.planner.question import question_of

    page_sizes = page_sizes_of(page_size)
    grid = grid_of(hardware, flags)
    taken = taken_of(work)
    question = question_of(asked, grid, taken, concurrency=work["concurrency"])
    check_folder(out, "plan", force=force)
    with ProgressBar() as bar:
        made = make_planned(
            grid,
            taken,
            question,
            work=work,
            seed=work["seed"],
            concurrency=work["concurrency"],
            page_sizes=page_sizes,
            report=bar.report,
        )
    paths = write_plan(made, Path(out), force=force)
    if as_json:
        print_json(made.to_json())
        raise typer.Exit(0 if made.met else 1)
    for line in tables.headline(made):
        typer.echo(line)
    for table in tables.plan_tables(made):
        print_table(table)
    print_notes(taken.trace, made.notes)
    typer.echo(f"Report: {paths[0]} (and {len(paths) - 1} files beside it)")
    raise typer.Exit(0 if made.met else 1)


@with_groups(
    hardware=options.hardware_options,
    flags=options.flag_options,
    work=options.work_options,
    allocator=options.allocator_options,
)
def simulate(
    hardware: dict[str, Any],
    flags: dict[str, Any],
    work: dict[str, Any],
    allocator: dict[str, Any],
    out: OutOption = None,
    force: Force = False,
    exact_steps: Annotated[
        bool, typer.Option("--exact-steps", help="One engine step at a time: slow, same result.")
    ] = False,
    timeline: Annotated[
        str | None, typer.Option(help="Chrome trace to write for Perfetto: .json or .json.gz.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="OpenMetrics text to write, with vLLM's series.")
    ] = None,
    metrics_interval: Annotated[
        float | None, typer.Option(help="Of --metrics: seconds between scrapes [default: 1].")
    ] = None,
    metrics_start: Annotated[
        float, typer.Option(help="Of --metrics: Unix time of the trace's second 0.")
    ] = 0.0,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="For millions of requests: memory stays flat, percentiles to 0.1 %."
        ),
    ] = False,
    repeat: Annotated[
        int | None, typer.Option(help="Of --stream: play the trace so many times [default: 1].")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Replay a trace through one server: latencies, concurrency, where the bytes went."""
    if stream or repeat is not None:
        from .streaming import simulate_streamed

        simulate_streamed(
            hardware=hardware,
            flags={**flags, **allocator},
            work=work,
            stream=stream,
            repeat=repeat,
            out=out,
            force=force,
            exact_steps=exact_steps,
            whole={"timeline": timeline, "metrics": metrics, "metrics_interval": metrics_interval},
            as_json=as_json,
        )
        return
    from ..reports import tables
    from ..reports.exports import write_exports
    from ..reports.openmetrics import Scraping
    from ..reports.progress import ProgressBar
    from ..reports.timeline import check_name
    from ..sim.folder import check_folder
    from ..sim.ignored import ignored
    from ..sim.job import simulate_server
    from ..sim.store import write_result

    if timeline is not None:
        check_name(timeline)
    scraping = Scraping(interval_s=metrics_interval, start_s=metrics_start)
    taken = taken_of(work)
    server = server_of(hardware, {**flags, **allocator}, taken.trace)
    if out is not None:
        check_folder(out, "result", force=force)
    with ProgressBar() as bar:
        result, summary = simulate_server(
            server,
            trace=taken.trace,
            concurrency=work["concurrency"],
            exact_steps=exact_steps,
            report=bar.report,
        )
    paths = [] if out is None else write_result(result, summary, out, force=force)
    exported = write_exports(result, summary, timeline=timeline, metrics=metrics, scraping=scraping)
    if as_json:
        print_json(summary.to_json())
        return
    typer.echo(server.setting + ".")
    typer.echo(f"Trace: {taken.origin}, {len(taken.trace)} requests; {taken.arrivals}.")
    print_table(tables.summary_table(summary))
    for reason, count in summary.reject_reasons.items():
        typer.echo(f"Rejected {count}: {reason}.")
    left_out = ignored(taken.trace, server.deployment, concurrency=work["concurrency"])
    print_notes(taken.trace, (*taken.trace.notes, *server.notes, *left_out))
    if out is not None:
        typer.echo(f"Wrote {out}: {', '.join(path.name for path in paths)}")
    for path in exported:
        typer.echo(f"Wrote {path}")
