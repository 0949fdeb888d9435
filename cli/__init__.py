"""The command line: parse, call, print. No logic.

Heavy imports stay inside the commands: ``kvsim --help`` loads none of them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import calibrate, groundtruth, regress, sweep, traces
from .conform import conform
from .fleet import fleet
from .planning import plan, simulate
from .reproduce import reproduce
from .results import compare, validate
from .sizing import cost, gpus, memory, models
from .usage import OneSentenceGroup

app = typer.Typer(
    name="kvsim",
    cls=OneSentenceGroup,
    help="Simulate LLM KV-cache memory and plan serving capacity.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    plan,
    simulate,
    fleet,
    compare,
    validate,
    memory,
    cost,
    gpus,
    models,
    conform,
    reproduce,
):
    app.command()(command)
app.add_typer(traces.app, name="trace")
app.add_typer(regress.app, name="regress")
app.add_typer(sweep.app, name="sweep")
app.add_typer(calibrate.app, name="calibrate")
app.add_typer(groundtruth.app, name="groundtruth")


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Simulate LLM KV-cache memory and plan serving capacity."""
    if version:
        typer.echo(f"kvsim {__version__}")
        raise typer.Exit
