"""``kvsim simulate --stream``: a trace of any length through a server. No logic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from .printing import print_json, print_table


def simulate_streamed(
    *,
    hardware: dict[str, Any],
    flags: dict[str, Any],
    work: dict[str, Any],
    stream: bool,
    repeat: int | None,
    out: str | None,
    force: bool,
    exact_steps: bool,
    whole: Mapping[str, object],
    as_json: bool,
) -> None:
    """Run the command; ``whole`` are the options that need the whole run in memory."""
    from ..reports import tables
    from ..reports.notes import note_lines
    from ..reports.progress import ProgressBar
    from ..sim.streaming.job import check_options, stream_job
    from ..traces.intake import Intake
    from ..traces.stream_intake import take_stream

    check_options(stream=stream, repeat=repeat, whole=whole)
    taken = take_stream(Intake(**work), repeat=1 if repeat is None else repeat)
    with ProgressBar() as bar:
        job = stream_job(taken, hardware=hardware, flags=flags, report=bar.report)
        summary = job.run(
            concurrency=work["concurrency"],
            exact_steps=exact_steps,
            out=out,
            force=force,
            report=bar.report,
        )
    if as_json:
        print_json(summary.to_json())
        return
    typer.echo(job.server.setting + ".")
    typer.echo(f"Trace: {taken.origin}, {job.survey.num_requests} requests; {taken.arrivals}.")
    print_table(tables.summary_table(summary))
    for reason, count in summary.reject_reasons.items():
        typer.echo(f"Rejected {count}: {reason}.")
    for line in note_lines(job.survey.skipped, job.notes):
        typer.echo(line)
    if out is not None:
        typer.echo(f"Wrote {out}: {', '.join(job.written)}")
