"""What ``kvsim cost --swap`` prints: both costs as tables, their sources; the same as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from . import swap_sheets, words
from .tables import sheet_table

if TYPE_CHECKING:
    from ..calibration.gpus import GPUSpec
    from ..calibration.model_spec import ModelSpec
    from ..sim.crossover import Crossover


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapReport:
    """A heading, tables, notes: in the order of printing."""

    heading: tuple[str, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def swap_report(model: ModelSpec, gpu: GPUSpec, found: Crossover) -> SwapReport:
    """The comparison in full."""
    request = f"Preempting a request of {words.tokens(found.tokens)}"
    return SwapReport(
        heading=(
            f"Model {model.name} on {gpu.title}.",
            f"{request}, recomputed {swap_sheets.batch_words(found)}.",
            *swap_sheets.conclusions(found),
        ),
        tables=(
            sheet_table(swap_sheets.size_sheet(found)),
            sheet_table(swap_sheets.length_sheet(found)),
        ),
        notes=swap_sheets.sources(found),
    )


def swap_json(model: ModelSpec, gpu: GPUSpec, found: Crossover) -> dict[str, Any]:
    """Plain values; times in seconds."""
    return {"model": model.name, "gpu": gpu.name, **found.to_json()}


def write_swap_png(found: Crossover, out: str) -> Path:
    """Draw both costs; the same input gives the same bytes.

    Raises:
        ValueError: a name that is no PNG's, or a folder that cannot be written to.
    """
    from .render import write_png
    from .swap_figure import swap_picture  # matplotlib, which only the picture needs

    return write_png(lambda: swap_picture(found), out)
