"""Reads TOML that a user wrote, and finds the line that a sentence about it should name.

The parser of the standard library keeps no lines. They are found in the text again: a table's n-th
header, and below it the key. What is written otherwise (inline tables) has no line to name.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_KEY = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_.-]+))\s*(?:=|$)""")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")


def read_toml(path: Path, *, field: str = "suite") -> tuple[dict[str, Any], list[str]]:
    """The document and its lines; ``field`` is what the command calls the file.

    Raises:
        ValueError: the file cannot be read, or is not TOML: the sentence names line and key.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ValueError(f"{field}(={str(path)!r}) cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{field}(={str(path)!r}) is not TOML: it is no UTF-8 text.") from None
    lines = text.splitlines()
    try:
        return tomllib.loads(text), lines
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}, {_broken(str(error), lines)}.") from None


def line_of(lines: list[str], table: str, index: int = 0, key: str | None = None) -> int | None:
    """The line, from 1, of a table's header or of a key below it; None where it is not to be found.

    ``index`` counts the tables of one name: the cases of a suite.
    """
    header = _header_line(lines, table, index)
    if header is None or key is None:
        return header
    for number in range(header, len(lines)):
        inside = _HEADER.match(lines[number])
        if inside and not inside[2].startswith(f"{table}."):
            return header
        found = inside[2].removeprefix(f"{table}.") if inside else _key(lines[number])
        if found == key:
            return number + 1
    return header


def _header_line(lines: list[str], table: str, index: int) -> int | None:
    headers = [
        number
        for number, line in enumerate(lines, start=1)
        if (found := _HEADER.match(line)) and found[2] == table
    ]
    return headers[index] if index < len(headers) else None


def _key(line: str) -> str | None:
    found = _KEY.match(line)
    return None if found is None else found[1] or found[2] or found[3]


def _broken(message: str, lines: list[str]) -> str:
    """``line 3, key block_size: expected '=' after a key``."""
    place = _PLACE.search(message)
    why = _PLACE.sub("", message)
    number = int(place[1]) if place and place[1] else len(lines)
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    key = _key(line)
    named = f", key {key}" if key is not None else ""
    return f"line {number}{named}: {why[:1].lower()}{why[1:]}"
