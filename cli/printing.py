"""How commands print: tables by rich, fitted to the terminal or to a page, and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

PIPE_WIDTH = 120
"""A pipe has no width; 80 would fold what fits a page."""


def print_table(table: Table) -> None:
    """To standard output."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table)


def print_json(value: object) -> None:
    """Indented; a number that JSON has not is an error."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))
