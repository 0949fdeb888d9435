"""What commands have in common: from options to the trace and the server, and notes on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ..calibration.gpus import GPUSpec
    from ..calibration.models import ModelSpec
    from ..sim.server import Server
    from ..traces.intake import Taken
    from ..traces.trace import Trace


def taken_of(work: dict[str, Any]) -> Taken:
    """The trace that ``work_options`` ask for."""
    from ..traces.intake import Intake, take_in

    return take_in(Intake(**work))


def hardware_of(hardware: dict[str, Any]) -> tuple[ModelSpec, GPUSpec]:
    """The model and the GPU that ``hardware_options`` name."""
    from ..sim.load import load_hardware

    return load_hardware(**hardware)


def server_of(hardware: dict[str, Any], flags: dict[str, Any], trace: Trace) -> Server:
    """The server that the options describe, for a trace."""
    from ..sim.load import load_server

    return load_server(trace, hardware=hardware, flags=flags)


def print_notes(trace: Trace, notes: tuple[str, ...]) -> None:
    """What a reader should know of the trace and of the run."""
    from ..reports.notes import note_lines

    for line in note_lines(trace.skipped, notes):
        typer.echo(line)
