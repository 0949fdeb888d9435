"""Folders that kvsim writes: whole or not at all, and nothing but its own.

Beside its files a folder holds ``kvsim.json``, written last:

    {"schema": "kvsim-folder/1", "kind": "result", "files": {"summary.json": "<SHA-256>", ...}}

A folder without it is half-written or somebody else's. One with it may be written again: the new
files are made in a folder beside it, which then takes its place, so that a reader finds the old
files or the new ones and never some of both.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import json_bytes, prepare_directory, write_files

SCHEMA = "kvsim-folder/1"
MANIFEST = "kvsim.json"
_MOST_NAMED = 3


def check_folder(directory: str | Path, kind: str, *, force: bool = False) -> Path:
    """Find out that an output folder can be written, before the work begins.

    Args:
        directory: made where missing.
        kind: what is to be written there.
        force: write beside files that are not kvsim's, and in the place of another kind.

    Raises:
        ValueError: it cannot be made or written to, or holds files that kvsim did not write, or a
            folder of another kind.
    """
    path = prepare_directory(directory)
    there = kind_of(path)
    if there not in (None, kind) and not force:
        raise ValueError(
            f"out(={str(directory)!r}) holds a {there} of kvsim, not a {kind}: name another "
            "folder, or add --force to replace it."
        )
    foreign = _foreign(path)
    if foreign and not force:
        more = f" and {len(foreign) - _MOST_NAMED} more" if len(foreign) > _MOST_NAMED else ""
        raise ValueError(
            f"out(={str(directory)!r}) holds files that kvsim did not write "
            f"({', '.join(foreign[:_MOST_NAMED])}{more}): name another folder, or add --force to "
            "write beside them."
        )
    return path


def write_folder(
    directory: str | Path,
    kind: str,
    files: Mapping[str, bytes],
    *,
    force: bool = False,
    moved: Mapping[str, Path] | None = None,
) -> list[Path]:
    """Write an output folder; its own earlier files are replaced, all at once where it is alone.

    Args:
        directory: made where missing.
        kind: what the folder holds: ``result``, ``plan`` ...
        files: by name.
        force: write beside files that are not kvsim's.
        moved: by name, files that are too large to be held in memory: moved from where they are.

    Returns:
        The paths of the files, without the manifest's.

    Raises:
        ValueError: as :func:`check_folder`.
    """
    path, large = check_folder(directory, kind, force=force), moved or {}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    digests |= {name: _digest(place) for name, place in large.items()}
    manifest = {"schema": SCHEMA, "kind": kind, "files": digests}
    everything = {**files, MANIFEST: json_bytes(manifest)}
    alone = not _foreign(path) and not path.is_symlink() and path.resolve() != Path.cwd()
    if not (alone and _replaced(path, everything, large)):
        _remove_own(path)
        _move(large, path)
        write_files(path, everything)
    return [path / name for name in digests]


def read_folder(directory: str | Path, kind: str) -> dict[str, Path]:
    """The files of a folder that kvsim wrote, by name.

    Raises:
        ValueError: there is none, it is half-written, changed, of another kind or schema.
    """
    path, shown = Path(directory), str(directory)
    if not path.is_dir():
        raise ValueError(f"{kind}(={shown!r}) is no folder.")
    manifest = _manifest(path)
    if manifest is None:
        raise ValueError(
            f"{kind}(={shown!r}) has no {MANIFEST}: it is half-written, or not kvsim's."
        )
    if manifest.get("schema") != SCHEMA:
        raise ValueError(
            f"{kind}(={shown!r}) was written by another version of kvsim "
            f"({manifest.get('schema')!r}, this one reads {SCHEMA!r})."
        )
    if manifest.get("kind") != kind:
        raise ValueError(f"{kind}(={shown!r}) is a folder of kind {manifest.get('kind')!r}.")
    for name, digest in manifest["files"].items():
        if not (path / name).is_file():
            raise ValueError(f"{kind}(={shown!r}) lacks {name}, which it had when it was written.")
        if _digest(path / name) != digest:
            raise ValueError(f"{kind}(={shown!r}) holds another {name} than when it was written.")
    return {name: path / name for name in manifest["files"]}


def kind_of(directory: str | Path) -> str | None:
    """What kind of folder it is; None where kvsim did not write it."""
    manifest = _manifest(Path(directory))
    return None if manifest is None else str(manifest.get("kind", ""))


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    good = isinstance(found, dict) and isinstance(found.get("files", {}), dict)
    return {"files": {}, **found} if good else None


def _foreign(path: Path) -> list[str]:
    """Names in the folder that its manifest does not know."""
    manifest = _manifest(path)
    own = {MANIFEST, *manifest["files"]} if manifest else set()
    return sorted(entry.name for entry in path.iterdir() if entry.name not in own)


def _remove_own(path: Path) -> None:
    """Earlier files of ours; the manifest first, so that what is left does not look whole."""
    manifest = _manifest(path)
    for name in [MANIFEST, *(manifest["files"] if manifest else ())]:
        if manifest is not None and Path(name).name == name:
            (path / name).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    """SHA-256 (hex) of a file, which need not fit the memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(files: Mapping[str, Path], folder: Path) -> None:
    for name, place in files.items():
        shutil.move(place, folder / name)


def _replaced(path: Path, files: Mapping[str, bytes], moved: Mapping[str, Path]) -> bool:
    """Put a new folder with these files in the place of the old one; False where none can be.

    A mounted folder, or one whose parent is not ours to write to, cannot change places.
    """
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError:
        return False
    fresh, old = beside / "new", beside / "old"
    try:
        fresh.mkdir()
        for name, data in files.items():
            (fresh / name).write_bytes(data)
        shutil.copymode(path, fresh)
        _move(moved, fresh)
        os.rename(path, old)
        try:
            os.rename(fresh, path)
        except OSError:
            os.rename(old, path)
            raise
    except OSError:
        for name, place in moved.items():
            if (fresh / name).exists():
                shutil.move(fresh / name, place)
        return False
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return True
