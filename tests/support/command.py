"""The command line as a user types it."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from kvsim.cli import app

SMALL = ["--workload", "sharegpt", "-n", "60", "--rate", "4"]


def run(*arguments: str) -> Result:
    """Exit code and output."""
    return CliRunner().invoke(app, list(arguments))


def loaded(*arguments: str) -> Any:
    """What ``--json`` prints, of a command that succeeds."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
