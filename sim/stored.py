"""What ``simulate --out`` and ``plan --out`` wrote, read back: values, and columns where they are.

A folder is read whole or not at all (``folder``). A lone ``summary.json`` or ``plan.json`` will do
for a table; it has no columns beside it, so nothing can be drawn from it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .folder import MANIFEST, kind_of, read_folder
from .result import Columns

Kind = Literal["result", "plan"]
VALUES: dict[Kind, str] = {"result": "summary.json", "plan": "plan.json"}
SCHEMAS: dict[str, Kind] = {"kvsim-result/1": "result", "kvsim-plan/1": "plan"}
COMMANDS: dict[Kind, str] = {"result": "kvsim simulate --out", "plan": "kvsim plan --out"}
MOST_COMPARED = 8
"""More cannot be told apart in a figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One result or plan on disk."""

    name: str
    """What a table calls it: the folder's name, never its path."""
    kind: Kind
    values: Mapping[str, Any]
    """``summary.json`` or ``plan.json``."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Files of its folder by name; none where only the JSON was given."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """Of a plan, that of the chosen candidate."""
        return self.values if self.kind == "result" else self.values["candidates"][0]["summary"]

    def columns(self, name: str) -> Columns | None:
        """``requests`` or ``occupancy``, a numpy array per column; None where there is none.

        Raises:
            ValueError: a file that is no Parquet.
        """
        path = self.files.get(f"{name}.parquet")
        return None if path is None else read_parquet(path)


def read_stored(path: str | Path) -> Stored:
    """A folder that kvsim wrote, or the ``summary.json`` or ``plan.json`` of one.

    Raises:
        ValueError: absent, half-written, changed, of another version, or neither result nor plan.
    """
    if not str(path):
        raise ValueError("result(='') must name a folder that kvsim wrote.")
    place = Path(path)
    if place.is_dir():
        return _from_folder(place)
    if not place.exists():
        raise ValueError(f"result(={str(path)!r}) does not exist.")
    if place.name in VALUES.values() and (place.parent / MANIFEST).exists():
        return _from_folder(place.parent)
    values = _json_of(place)
    kind = _kind_by_schema(values, place)
    name = _name(place.parent) if place.name in VALUES.values() else place.stem
    _check_candidates(values, kind, place.name)
    return Stored(name=name, kind=kind, values=values)


def read_result(path: str | Path) -> Stored:
    """What ``simulate --out`` wrote.

    Raises:
        ValueError: as :func:`read_stored`, or a plan.
    """
    found = read_stored(path)
    if found.kind != "result":
        raise ValueError(
            f"result(={str(path)!r}) holds a plan: give a folder that `{COMMANDS['result']}` wrote."
        )
    return found


def read_all(paths: Sequence[str | Path]) -> tuple[Stored, ...]:
    """Several of one kind, under names that tell them apart.

    Raises:
        ValueError: as :func:`read_stored`, fewer than two, too many, or several kinds.
    """
    if not 2 <= len(paths) <= MOST_COMPARED:
        raise ValueError(f"results(={len(paths)}) must be 2 to {MOST_COMPARED}, to be compared.")
    found = [read_stored(path) for path in paths]
    for one in found[1:]:
        if one.kind != found[0].kind:
            raise ValueError(
                f"{one.name!r} holds a {one.kind} and {found[0].name!r} a {found[0].kind}: only "
                "results or only plans can be compared."
            )
    names = distinct([one.name for one in found], [Path(path) for path in paths])
    return tuple(replace(one, name=name) for one, name in zip(found, names, strict=True))


def check_no_input(out: str | Path, inputs: Sequence[str | Path]) -> None:
    """What is read is not written over, although kvsim wrote it.

    Raises:
        ValueError: the output folder is one of these, or holds one of them.
    """
    target = Path(out).resolve()
    for one in inputs:
        place = Path(one).resolve()
        if target in (place, *place.parents) and Path(one).exists():
            raise ValueError(f"out(={str(out)!r}) holds {str(one)!r}: name another folder.")


def distinct(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Each name once: those that occur twice take the folder above, or else a number."""
    often = Counter(names)
    longer = [
        f"{_above(path)}/{name}" if often[name] > 1 else name
        for name, path in zip(names, paths, strict=True)
    ]
    seen: Counter[str] = Counter()
    told_apart = []
    for name in longer:
        seen[name] += 1
        told_apart.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return told_apart


def read_parquet(path: Path) -> Columns:
    """The columns of a file.

    Raises:
        ValueError: no Parquet.
    """
    import pyarrow  # 0.2 s that only this function needs
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise ValueError(f"{path.name} cannot be read as Parquet: {reason}.") from None
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _from_folder(folder: Path) -> Stored:
    known: Kind = "plan" if kind_of(folder) == "plan" else "result"
    files = read_folder(folder, known)
    if VALUES[known] not in files:
        raise ValueError(f"{known}(={str(folder)!r}) holds no {VALUES[known]}.")
    values = _json_of(files[VALUES[known]])
    if _kind_by_schema(values, files[VALUES[known]]) != known:
        raise ValueError(f"{known}(={str(folder)!r}) holds no {known} in {VALUES[known]}.")
    _check_candidates(values, known, VALUES[known])
    return Stored(name=_name(folder), kind=known, values=values, files=files)


def _check_candidates(values: Mapping[str, Any], kind: Kind, file: str) -> None:
    """A plan without any says nothing."""
    if kind == "plan":
        candidates = values.get("candidates")
        whole = isinstance(candidates, list) and all(
            isinstance(one, dict) and "title" in one and isinstance(one.get("summary"), dict)
            for one in candidates
        )
        if not candidates or not whole:
            raise ValueError(f"{file} must hold candidates with titles and summaries.")


def _kind_by_schema(values: Mapping[str, Any], place: Path) -> Kind:
    schema = values.get("schema")
    if not isinstance(schema, str) or schema not in SCHEMAS:
        known = " or ".join(SCHEMAS)
        raise ValueError(
            f"{place.name} has schema {schema!r}: this kvsim reads {known}; run it again."
        )
    return SCHEMAS[schema]


def _json_of(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"result(={str(path)!r}) cannot be read: {error.strerror}.") from None
    except ValueError:
        raise ValueError(f"{path.name} is not valid JSON: no result of kvsim.") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} must hold a JSON object, not a {type(values).__name__}.")
    return values


def _name(folder: Path) -> str:
    return folder.resolve().name or "result"


def _above(path: Path) -> str:
    place = path.resolve()
    return (place.parent if place.is_file() else place).parent.name
