"""A TOML file of named tables that a user wrote: what is wrong in it is said with file and line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...calibration.names import unknown_name
from .toml_lines import line_of, read_toml


class Document:
    """Holds the file while its parts are read.

    Args:
        path: the file.
        field: what the command calls it: ``suite``, ``grid``.
        named: lists of tables whose entries have names, to be told in sentences.

    Raises:
        ValueError: it cannot be read, or is not TOML.
    """

    def __init__(self, path: Path, *, field: str, named: tuple[str, ...]) -> None:
        self._path, self._named = path, named
        self.values, self._lines = read_toml(path, field=field)

    def check_head(self, schema: str, known: Iterable[str]) -> None:
        """Refuse another schema, and unknown keys at the top.

        Raises:
            ValueError: as said.
        """
        found = self.values.get("schema")
        if found != schema:
            raise ValueError(
                f"{self._path}: schema(={found!r}) must be {schema!r}: this version of kvsim reads "
                "no other."
            )
        for key in self.values:
            try:
                check_key(key, known)
            except ValueError as error:
                raise self.wrong(error, key) from None

    def table(self, name: str) -> dict[str, Any]:
        """The table of that name; empty where there is none."""
        table = self.values.get(name, {})
        if not isinstance(table, dict):
            raise ValueError(f"{self._path}: {name}(={table!r}) must be a table.")
        return table

    def tables(self, name: str) -> list[dict[str, Any]]:
        """The list of tables of that name; empty where there is none."""
        tables = self.values.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ValueError(f"{self._path}: {name} must be a list of tables, [[{name}]].")
        return tables

    def name_of(self, table: str, index: int, entry: Mapping[str, Any]) -> str:
        """What an entry of a list of tables is called."""
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            problem = ValueError(f"name(={name!r}) must be a line of text.")
            raise self.wrong(problem, table, index, key="name")
        return name

    def line_of(self, table: str, index: int = 0, key: str | None = None) -> int | None:
        """As :func:`~kvsim.sim.regress.toml_lines.line_of`."""
        return line_of(self._lines, table, index, key)

    def wrong(
        self, error: ValueError, table: str, index: int = 0, *, key: str | None = None
    ) -> ValueError:
        """The same sentence, led by file, line and entry."""
        line = self.line_of(table, index, key)
        parts = [str(self._path), *([] if line is None else [f"line {line}"])]
        if table in self._named:
            entry = self.tables(table)[index]
            parts.append(f"{table} {entry.get('name', index + 1)!r}")
        return ValueError(f"{', '.join(parts)}: {error}")


def check_key(key: str, known: Iterable[str]) -> None:
    """Refuse an unknown key.

    Raises:
        ValueError: with near ones.
    """
    names = tuple(known)
    if key not in names:
        raise unknown_name(key, names, field="key")
