"""Writes what a regression run is asked to leave behind for others to read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..sim.files import prepare_directory, write_files
from .regress_junit import junit as junit_bytes
from .regress_markdown import markdown as markdown_text

if TYPE_CHECKING:
    from ..sim.regress.run import Regression


def prepare_reports(*paths: Path | None) -> None:
    """Find out that files can be written, before the work begins.

    Raises:
        ValueError: a folder that cannot be made or written to.
    """
    for path in paths:
        if path is not None:
            if path.is_dir():
                raise ValueError(f"out(={str(path)!r}) must be a file, it is a folder.")
            prepare_directory(path.parent)


def write_reports(regression: Regression, *, markdown: Path | None, junit: Path | None) -> None:
    """Write those that are asked for, each whole or not at all.

    Raises:
        ValueError: a folder that cannot be written to.
    """
    if markdown is not None:
        write_files(markdown.parent, {markdown.name: markdown_text(regression).encode()})
    if junit is not None:
        write_files(junit.parent, {junit.name: junit_bytes(regression)})
