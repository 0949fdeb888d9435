"""``kvsim conform``: step logs of the real engine. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .groups import with_groups
from .options import JsonFlag
from .printing import print_json


@with_groups()
def conform(
    files: Annotated[list[str], typer.Argument(help="Step logs (.jsonl.gz) of the real engine.")],
    traces: Annotated[
        str | None, typer.Option(help="Folder of their traces [default: beside them].")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Replay step logs of the real scheduler; exit code 1 where a step differs."""
    from ..sim.conformance import compare_files

    outcomes = compare_files([Path(file) for file in files], traces)
    if as_json:
        print_json([outcome.to_json() for outcome in outcomes])
    else:
        typer.echo("\n".join(str(outcome) for outcome in outcomes))
    if any(outcome.differs for outcome in outcomes):
        raise typer.Exit(code=1)
