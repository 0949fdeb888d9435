"""Blocks of pages between ``begin:`` and ``end:`` marks, each written by a function of its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from support.pages import ROOT

Blocks = Mapping[str, Callable[[], str]]


def page_with(name: str, pages: Iterable[Path]) -> Path:
    """The page that has a block."""
    for page in pages:
        if re.search(_pattern(name), page.read_text(encoding="utf-8"), re.DOTALL):
            return page
    raise ValueError(f"no page has a block {name!r}.")


def block_in(page: Path, name: str) -> str:
    """What stands between a block's marks."""
    found = re.search(_pattern(name), page.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise ValueError(f"{page.name} must have a block {name!r}.")
    return found.group(2).removesuffix("\n")


def blocks_of(page: Path) -> list[str]:
    """Names of the blocks of a page, in order."""
    return re.findall(r"<!-- begin: ([\w-]+) -->", page.read_text(encoding="utf-8"))


def write_block(name: str, content: str, pages: Iterable[Path]) -> None:
    """Replace a block's content in its page."""
    page = page_with(name, pages)
    text = re.sub(
        _pattern(name),
        lambda m: f"{m.group(1)}{content}\n{m.group(3)}",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    page.write_text(text, encoding="utf-8")


def stale_blocks(blocks: Blocks, pages: Iterable[Path]) -> list[str]:
    """Names of the blocks whose figures are not today's."""
    pages = list(pages)
    said = {name: block_in(page_with(name, pages), name) for name in blocks}
    return [name for name, make in blocks.items() if said[name] != make()]


def _pattern(name: str) -> str:
    return rf"(<!-- begin: {name} -->\n)(.*?)(<!-- end: {name} -->)"


SHARED = ROOT.parent / "shared"
"""Recordings that are not part of the repository."""
