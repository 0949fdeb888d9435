"""The code blocks of the pages in ``docs/`` and of the README, and how they are run.

Fenced blocks have a language. Lines of ``bash`` blocks are commands (a backslash goes on in the
next line), and those lines of ``console`` blocks that begin with ``$``; the others are what they
print. ``python`` is executed. ``json``, ``toml``, ``yaml`` and ``csv`` are parsed, and written
where ``<!-- file: NAME -->`` stands above them. ``text`` is only read. ``<!-- exit: 1 -->`` above
a block is what its last command returns.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("bash", "console", "python", "json", "toml", "yaml", "csv", "text")
_BLOCK = re.compile(
    r"(?P<marks>(?:<!-- (?:file|exit): [^\n]+ -->\n\n?)*)^```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_MARK = re.compile(r"<!-- (file|exit): (.+?) -->")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    body: str
    file: str | None
    exit_code: int

    @property
    def commands(self) -> list[str]:
        """What there is to run in it."""
        joined = self.body.replace("\\\n", " ")
        if self.language == "bash":
            return [line for line in joined.splitlines() if line and not line.startswith("#")]
        if self.language != "console":
            return []
        return [line[2:].strip() for line in joined.splitlines() if line.startswith("$ ")]


def pages() -> list[Path]:
    """The README and the pages of ``docs/``."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Its fenced blocks, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        marks = dict(_MARK.findall(match["marks"]))
        found.append(
            Block(
                page=page.name,
                line=text.count("\n", 0, match.start("language")) + 1,
                language=match["language"],
                body=match["body"],
                file=marks.get("file"),
                exit_code=int(marks.get("exit", 0)),
            )
        )
    return found


def parsed(block: Block) -> Any:
    """What a data block says; raises where it is none."""
    if block.language == "json":
        return json.loads(block.body)
    if block.language == "toml":
        return tomllib.loads(block.body)
    if block.language == "yaml":
        return yaml.safe_load(block.body)
    rows = list(csv.reader(io.StringIO(block.body)))
    if len({len(row) for row in rows}) != 1:
        raise ValueError("rows of different lengths")
    return rows
