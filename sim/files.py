"""Files on disk: each under a temporary name first; a sentence where a folder cannot be written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..traces.write import replace_bytes


def prepare_directory(directory: str | Path) -> Path:
    """Make an output folder, or find out that it cannot be, before the work begins.

    Raises:
        ValueError: the folder cannot be made or written to.
    """
    if not str(directory):
        raise ValueError("out(='') must name a folder.")
    path = Path(directory)
    probe = path / ".kvsim-probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        replace_bytes(probe, b"")
        probe.unlink()
    except OSError as error:
        raise unwritable(directory, error) from error
    return path


def write_files(directory: str | Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write files by name, each under a temporary name first.

    Raises:
        ValueError: the folder cannot be written to.
    """
    path = prepare_directory(directory)
    try:
        for name, data in files.items():
            replace_bytes(path / name, data)
    except OSError as error:
        raise unwritable(directory, error) from error
    return [path / name for name in files]


def json_bytes(value: object) -> bytes:
    """Indented JSON with a final newline; keys keep their order."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def unwritable(directory: str | Path, error: OSError) -> ValueError:
    """The sentence for a folder that cannot be written to."""
    return ValueError(f"out(={str(directory)!r}) cannot be written: {error.strerror}.")
