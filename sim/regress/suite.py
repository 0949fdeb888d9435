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

from .document import Document, check_key
from .expand import expanded, with_defaults
from .keys import KEYS, asked
from .tolerance import NONE, Tolerances, read_tolerances

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
    """Holds the document while its parts are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._document = Document(path, field="suite", named=("case", "conformance"))

    def suite(self) -> Suite:
        self._document.check_head(SCHEMA, _TABLES)
        defaults = self._document.table("defaults")
        try:
            for key in defaults:
                check_key(key, KEYS)
                list(expanded("", {key: defaults[key]}))
        except ValueError as error:
            raise self._document.wrong(error, "defaults", key=key) from None
        tolerances = self._tolerances("tolerance", self._document.values.get("tolerance", {}))
        cases = [
            case
            for index, table in enumerate(self._document.tables("case"))
            for case in self._cases(index, table, defaults, tolerances)
        ]
        logs = [
            log
            for index, table in enumerate(self._document.tables("conformance"))
            for log in self._step_logs(index, table)
        ]
        if not cases and not logs:
            raise ValueError(f"{self._path} holds no [[case]] and no [[conformance]].")
        self._check_names([*cases, *logs])
        return Suite(path=self._path, cases=tuple(cases), step_logs=tuple(logs))

    def _tolerances(self, table: str, value: object, index: int = 0) -> Tolerances:
        key = "tolerance"
        try:
            for name, entry in value.items() if isinstance(value, dict) else ():
                key = name if table == "tolerance" else "tolerance"
                read_tolerances({name: entry})
            return read_tolerances(value)
        except ValueError as error:
            raise self._document.wrong(error, table, index, key=key) from None

    def _cases(
        self, index: int, table: Mapping[str, Any], defaults: Mapping[str, Any], over: Tolerances
    ) -> Iterator[Case]:
        name = self._document.name_of("case", index, table)
        line = self._document.line_of("case", index)
        own = NONE
        if "tolerance" in table:
            own = self._tolerances("case", table["tolerance"], index)
        options = {key: value for key, value in table.items() if key not in _CASE_ONLY}
        at: str | None = None
        try:
            for at, value in options.items():
                check_key(at, (*KEYS, *_CASE_ONLY))
                list(expanded("", {at: value}))
        except ValueError as error:
            raise self._document.wrong(error, "case", index, key=at) from None
        for title, one in expanded(name, with_defaults(options, defaults)):
            try:
                asked(one, self._path.parent)
            except ValueError as error:
                raise self._document.wrong(error, "case", index) from None
            yield Case(name=title, options=one, tolerances=own.over(over), line=line)

    def _step_logs(self, index: int, table: Mapping[str, Any]) -> Iterator[StepLog]:
        name = self._document.name_of("conformance", index, table)
        line = self._document.line_of("conformance", index)
        for key in table:
            try:
                check_key(key, _CONFORMANCE)
            except ValueError as error:
                raise self._document.wrong(error, "conformance", index, key=key) from None
        traces = table.get("traces")
        patterns = table.get("steps")
        given = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(given, list) or not given or not _texts(given):
            problem = ValueError(f"steps(={patterns!r}) must be a pattern of step logs.")
            raise self._document.wrong(problem, "conformance", index, key="steps")
        if traces is not None and not isinstance(traces, str):
            problem = ValueError(f"traces(={traces!r}) must be a folder.")
            raise self._document.wrong(problem, "conformance", index, key="traces")
        folder = None if traces is None else self._path.parent / traces
        for pattern in given:
            paths = _matching(self._path.parent, pattern)
            if not paths:
                problem = ValueError(f"steps(={pattern!r}) matches no file.")
                raise self._document.wrong(problem, "conformance", index, key="steps")
            for path in paths:
                stem = path.name.partition(".")[0]
                yield StepLog(name=f"{name}-{stem}", path=path, traces=folder, line=line)

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


def _texts(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Files in the order of their names; without a wildcard the one file."""
    if not any(sign in pattern for sign in "*?["):
        path = folder / pattern
        return [path] if path.is_file() else []
    where = Path(pattern)
    return sorted((folder / where.parent).glob(where.name))
