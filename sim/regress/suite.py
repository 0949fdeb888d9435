"""A suite of regression cases, as a TOML file says it.

schema = "kvsim-suite/1"

[defaults]                     # options of every case
gpu = "a100"

[tolerance]                    # of every case; 0 where nothing is said
"ttft_s.p95" = { relative = 0.02 }

[[case]]
name = "chat"
trace = "traces/chat.jsonl.gz" # from the suite's folder on
block_size = [16, 32]          # a list makes a case for each value

[[conformance]]
name = "vllm"
steps = "steps/*.jsonl.gz"     # step logs of the real scheduler
traces = "traces"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...calibration.names import unknown_name
from .expand import expanded, with_defaults
from .keys import KEYS, asked
from .tolerance import NONE, Tolerances, read_tolerances
from .toml_lines import line_of, read_toml

SCHEMA = "kvsim-suite/1"
_TABLES = ("schema", "defaults", "tolerance", "case", "conformance")
_CASE_ONLY = ("name", "tolerance")
_CONFORMANCE = ("name", "steps", "traces")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One trace on one server."""

    name: str
    options: Mapping[str, Any]
    """By long name; ``trace`` is a tuple of paths from the suite's folder on."""
    tolerances: Tolerances
    line: int | None
    """Of its table in the suite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLog:
    """One step log of the real scheduler, to be replayed."""

    name: str
    path: Path
    traces: Path | None
    line: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Everything that one file asks for."""

    path: Path
    cases: tuple[Case, ...]
    step_logs: tuple[StepLog, ...]

    @property
    def folder(self) -> Path:
        """Where its paths begin."""
        return self.path.parent


def read_suite(path: str | Path) -> Suite:
    """Read and check a suite; no trace is opened.

    Raises:
        ValueError: no TOML, another schema, an unknown key or metric, a value of the wrong kind,
            two cases of one name, a pattern that no step log matches. One sentence with file, line
            and case.
    """
    return _Reader(Path(path)).suite()


class _Reader:
    """Holds the document while its parts are read, to say where something is wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._document, self._lines = read_toml(path)

    def suite(self) -> Suite:
        self._check_head()
        defaults = self._table("defaults")
        try:
            for key in defaults:
                _check_key(key, KEYS)
                list(expanded("", {key: defaults[key]}))
        except ValueError as error:
            raise self._wrong(error, "defaults", key=key) from None
        tolerances = self._tolerances("tolerance", self._document.get("tolerance", {}))
        cases = [
            case
            for index, table in enumerate(self._tables("case"))
            for case in self._cases(index, table, defaults, tolerances)
        ]
        logs = [
            log
            for index, table in enumerate(self._tables("conformance"))
            for log in self._step_logs(index, table)
        ]
        if not cases and not logs:
            raise ValueError(f"{self._path} holds no [[case]] and no [[conformance]].")
        self._check_names([*cases, *logs])
        return Suite(path=self._path, cases=tuple(cases), step_logs=tuple(logs))

    def _check_head(self) -> None:
        found = self._document.get("schema")
        if found != SCHEMA:
            raise ValueError(
                f"{self._path}: schema(={found!r}) must be {SCHEMA!r}: this version of kvsim reads "
                "no other."
            )
        for key in self._document:
            if key not in _TABLES:
                problem = unknown_name(key, _TABLES, field="key")
                raise self._wrong(problem, key) from None

    def _table(self, name: str) -> dict[str, Any]:
        table = self._document.get(name, {})
        if not isinstance(table, dict):
            raise ValueError(f"{self._path}: {name}(={table!r}) must be a table.")
        return table

    def _tables(self, name: str) -> list[dict[str, Any]]:
        tables = self._document.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ValueError(f"{self._path}: {name} must be a list of tables, [[{name}]].")
        return tables

    def _tolerances(self, table: str, value: object, index: int = 0) -> Tolerances:
        key = "tolerance"
        try:
            for name, entry in value.items() if isinstance(value, dict) else ():
                key = name if table == "tolerance" else "tolerance"
                read_tolerances({name: entry})
            return read_tolerances(value)
        except ValueError as error:
            raise self._wrong(error, table, index, key=key) from None

    def _cases(
        self, index: int, table: Mapping[str, Any], defaults: Mapping[str, Any], over: Tolerances
    ) -> Iterator[Case]:
        name = self._name("case", index, table)
        line = line_of(self._lines, "case", index)
        own = NONE
        if "tolerance" in table:
            own = self._tolerances("case", table["tolerance"], index)
        options = {key: value for key, value in table.items() if key not in _CASE_ONLY}
        at: str | None = None
        try:
            for at, value in options.items():
                _check_key(at, (*KEYS, *_CASE_ONLY))
                list(expanded("", {at: value}))
        except ValueError as error:
            raise self._wrong(error, "case", index, key=at) from None
        for title, one in expanded(name, with_defaults(options, defaults)):
            try:
                asked(one, self._path.parent)
            except ValueError as error:
                raise self._wrong(error, "case", index) from None
            yield Case(name=title, options=one, tolerances=own.over(over), line=line)

    def _step_logs(self, index: int, table: Mapping[str, Any]) -> Iterator[StepLog]:
        name = self._name("conformance", index, table)
        line = line_of(self._lines, "conformance", index)
        for key in table:
            if key not in _CONFORMANCE:
                problem = unknown_name(key, _CONFORMANCE, field="key")
                raise self._wrong(problem, "conformance", index, key=key)
        traces = table.get("traces")
        patterns = table.get("steps")
        given = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(given, list) or not given or not _texts(given):
            problem = ValueError(f"steps(={patterns!r}) must be a pattern of step logs.")
            raise self._wrong(problem, "conformance", index, key="steps")
        if traces is not None and not isinstance(traces, str):
            problem = ValueError(f"traces(={traces!r}) must be a folder.")
            raise self._wrong(problem, "conformance", index, key="traces")
        folder = None if traces is None else self._path.parent / traces
        for pattern in given:
            paths = _matching(self._path.parent, pattern)
            if not paths:
                problem = ValueError(f"steps(={pattern!r}) matches no file.")
                raise self._wrong(problem, "conformance", index, key="steps")
            for path in paths:
                stem = path.name.partition(".")[0]
                yield StepLog(name=f"{name}-{stem}", path=path, traces=folder, line=line)

    def _name(self, table: str, index: int, entry: Mapping[str, Any]) -> str:
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            problem = ValueError(f"name(={name!r}) must be a line of text.")
            raise self._wrong(problem, table, index, key="name")
        return name

    def _check_names(self, entries: Sequence[Case | StepLog]) -> None:
        seen: set[str] = set()
        for entry in entries:
            if entry.name.casefold() in seen:
                where = "" if entry.line is None else f", line {entry.line}"
                raise ValueError(
                    f"{self._path}{where}: name(={entry.name!r}) must be one case's only (its "
                    "baseline is a file: capitals do not tell names apart)."
                )
            seen.add(entry.name.casefold())

    def _wrong(
        self, error: ValueError, table: str, index: int = 0, *, key: str | None = None
    ) -> ValueError:
        """The same sentence, led by file, line and case."""
        line = line_of(self._lines, table, index, key)
        parts = [str(self._path), *([] if line is None else [f"line {line}"])]
        if table in ("case", "conformance"):
            entry = self._tables(table)[index]
            parts.append(f"{table} {entry.get('name', index + 1)!r}")
        return ValueError(f"{', '.join(parts)}: {error}")


def _check_key(key: str, known: Sequence[str] | Mapping[str, Any]) -> None:
    if key not in known:
        raise unknown_name(key, known, field="key")


def _texts(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Files in the order of their names; without a wildcard the one file."""
    if not any(sign in pattern for sign in "*?["):
        path = folder / pattern
        return [path] if path.is_file() else []
    where = Path(pattern)
    return sorted((folder / where.parent).glob(where.name))
