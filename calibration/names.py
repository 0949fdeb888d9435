"""Catalogue names: case and separators forgiven, an unknown name answered with near ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")
MOST_LISTED = 30
LISTED_BY = {"model": "`kvsim models`", "gpu": "`kvsim gpus`"}


def canonical(name: str) -> str:
    """``Llama-3.1_8B`` and ``llama 3.1 8b`` are one name: letters and digits only, lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def look_up(entries: Mapping[str, T], name: str, *, field: str) -> T:
    """The entry of that name.

    Raises:
        ValueError: unknown; the sentence lists near matches, or where nothing is near all names, or
            how many there are.
    """
    by_key = {canonical(known): known for known in entries}
    known = by_key.get(canonical(name))
    if known is None:
        raise unknown_name(name, entries, field=field)
    return entries[known]


def unknown_name(name: str, known: Iterable[str], *, field: str) -> ValueError:
    """``gpu(='h100') is unknown; near: h100-sxm, h100-pcie.``"""
    by_key = {canonical(entry): entry for entry in known}
    key = canonical(name.rsplit("/", 1)[-1])  # a hub id's vendor is near nothing
    starts = [entry for k, entry in by_key.items() if key and (k.startswith(key) or key in k)]
    close = [by_key[k] for k in get_close_matches(key, by_key, n=6, cutoff=0.6)]
    near = list(dict.fromkeys([*starts, *close]))[:6]
    hint = f"near: {', '.join(near)}" if near else _known(sorted(by_key.values()), field)
    return ValueError(f"{field}(={name!r}) is unknown; {hint}.")


def _known(names: list[str], field: str) -> str:
    """All names, or where they are too many how many and what lists them."""
    if len(names) <= MOST_LISTED:
        return f"known: {', '.join(names)}"
    lists = f", which {LISTED_BY[field]} lists" if field in LISTED_BY else ""
    return f"{len(names)} are known{lists}"
