"""Where a sweep's runs are kept: a folder, or any URL that fsspec reads and writes.

    kvsim.json            {"schema": "kvsim-folder/1", "kind": "sweep", "store": "kvsim-sweep/1"}
    runs/<key>.json       one run, written once, under the hash of what determines it
    failures/<key>.json   why a run has no result; goes when it has one
    grids/<name>.json     the cells of a grid: names, keys, prices

An object is there whole or not at all: in a folder it is written under another name and moved, in
an object store one put is one object. Only the process that runs the sweep writes.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ... import __version__
from ..files import json_bytes
from ..folder import MANIFEST
from ..folder import SCHEMA as FOLDER_SCHEMA

SCHEMA = "kvsim-sweep/1"
KIND = "sweep"
RUNS, FAILURES, GRIDS = "runs", "failures", "grids"
SINGLE_PUT = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory")
"""Protocols whose put shows the whole object or none."""
_PART = re.compile(r"\.part-(?P<host>.+)-(?P<pid>\d+)$")
_MOST_NAMED = 3


class Store:
    """A sweep's folder or URL.

    Args:
        out: the folder or URL.
        field: what the command calls it.

    Raises:
        ValueError: a URL that nothing here can open.
    """

    def __init__(self, out: str, *, field: str = "out") -> None:
        from fsspec.core import url_to_fs  # 0.1 s that help does without

        if not out:
            raise ValueError(f"{field}(='') must name a folder or a URL.")
        self._named = f"{field}(={out!r})"
        with self._said():
            self._files, root = url_to_fs(out)
        self._root = root.rstrip("/")
        protocol = self._files.protocol
        names = (protocol,) if isinstance(protocol, str) else tuple(protocol)
        self._moves = not set(names) & set(SINGLE_PUT)

    def open_to_write(self) -> None:
        """Make it ready, or find out that it is not ours.

        Raises:
            ValueError: files of others, another kind of folder, another version's, not writable.
        """
        manifest = self._manifest()
        if manifest is None:
            foreign = [name for name in self._names("") if not name.startswith(".")]
            if foreign:
                more = len(foreign) - _MOST_NAMED
                others = f" and {more} more" if more > 0 else ""
                raise ValueError(
                    f"{self._named} holds files that kvsim did not write "
                    f"({', '.join(foreign[:_MOST_NAMED])}{others}): name another folder."
                )
            head = {"schema": FOLDER_SCHEMA, "kind": KIND, "store": SCHEMA}
            self._put(MANIFEST, json_bytes({**head, "version": __version__, "files": {}}))
            return
        self._check(manifest)
        if manifest.get("version") != __version__:
            raise ValueError(
                f"{self._named} was written by kvsim {manifest.get('version')}, this is "
                f"{__version__}: name another folder."
            )
        self._remove_parts()

    def open_to_read(self) -> None:
        """Find out whether there is a sweep.

        Raises:
            ValueError: none, or one of another version.
        """
        manifest = self._manifest()
        if manifest is None:
            raise ValueError(f"{self._named} holds no sweep: run `kvsim sweep` first.")
        self._check(manifest)

    def names(self, kind: str) -> list[str]:
        """Of all objects of a kind, sorted."""
        return sorted(_stem(name) for name in self._names(kind) if name.endswith(".json"))

    def read(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object; None where it is absent or no JSON."""
        return self._read(f"{kind}/{name}.json")

    def read_all(self, kind: str) -> dict[str, dict[str, Any]]:
        """Every object of a kind by name, but those that are no JSON; many at a time."""
        paths = [self._path(f"{kind}/{name}.json") for name in self.names(kind)]
        with self._said():
            found = self._files.cat(paths, on_error="omit") if paths else {}
        values = {_stem(path): _parsed(data) for path, data in found.items()}
        return {name: value for name, value in values.items() if value is not None}

    def whole(self, kind: str, names: set[str]) -> set[str]:
        """Those that are there, and whole: a machine that stopped may have cut them short."""
        if not self._moves:
            return names & set(self.names(kind))
        found = self.read_all(kind)
        return {name for name in names if found.get(name, {}).get("key") == name}

    def write(self, kind: str, name: str, data: bytes) -> None:
        """Write an object, whole or not at all.

        Raises:
            ValueError: it cannot be written.
        """
        self._put(f"{kind}/{name}.json", data)

    def remove(self, kind: str, name: str) -> None:
        """Where it is there."""
        with self._said():
            path = self._path(f"{kind}/{name}.json")
            if self._files.exists(path):
                self._files.rm_file(path)

    def _check(self, manifest: dict[str, Any]) -> None:
        kind, schema = manifest.get("kind"), manifest.get("store")
        if kind != KIND:
            raise ValueError(f"{self._named} holds a {kind} of kvsim, not a sweep.")
        if schema != SCHEMA:
            raise ValueError(
                f"{self._named} holds a sweep of another version ({schema!r}; this kvsim "
                f"reads {SCHEMA!r}): name another folder."
            )

    def _manifest(self) -> dict[str, Any] | None:
        return self._read(MANIFEST)

    def _read(self, name: str) -> dict[str, Any] | None:
        with self._said():
            try:
                data = self._files.cat_file(self._path(name))
            except (FileNotFoundError, IsADirectoryError):
                return None
        return _parsed(data)

    def _names(self, kind: str) -> list[str]:
        with self._said():
            self._files.invalidate_cache()
            try:
                entries = self._files.ls(self._path(kind), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)

    def _put(self, name: str, data: bytes) -> None:
        target = self._path(name)
        with self._said():
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            if not self._moves:
                self._files.pipe_file(target, data)
                return
            part = self._path(
                f".{name.replace('/', '-')}.part-{socket.gethostname()}-{os.getpid()}"
            )
            self._files.pipe_file(part, data)
            if "file" in self._files.protocol:
                os.replace(part, target)
            else:
                self._files.mv(part, target)

    def _remove_parts(self) -> None:
        """What a sweep that was killed had begun to write, on this machine."""
        if not self._moves:
            return
        for name in self._names(""):
            part = _PART.search(name)
            if part and part["host"] == socket.gethostname() and not _runs(int(part["pid"])):
                with self._said():
                    self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What the file system cannot do, in a sentence."""
        try:
            yield
        except (OSError, ImportError, ValueError) as error:
            why = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".")
            raise ValueError(f"{self._named} cannot be used: {why}.") from None


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".json")


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except ValueError:  # cut short
        return None
    return found if isinstance(found, dict) else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
