"""ServeGen's files: what each client does in each window of the day.

`chunk-N-trace.csv` has no header: window start (s), rate (1/s), CV, family (`Gamma`, `Weibull`,
empty when idle), two fitted parameters. `chunk-N-dataset.json` maps a window's start to the
distributions of `input_tokens` and `output_tokens`, each the text of a Python dict
{value: probability}, which is read as pairs of numbers and never evaluated.
"""

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..columns import Floats, Ints
from ..trace import SkippedRow
from .numbers import MAX_TOKENS, BadValueError, ns_of, shown
from .source import read_text

FAMILIES = ("Gamma", "Weibull")
_TRACE_NAME = re.compile(r"chunk-(\d+)-trace\.csv(\.gz)?")
_DEFAULT_WINDOW_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of a client's day; `cv` of the gaps between requests."""

    start_s: float
    end_s: float
    rate_per_s: float
    cv: float
    family: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Token counts (k,) and their probabilities (k,), which sum to 1."""

    tokens: Ints
    probability: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """`lengths`: (window start (s), prompt, output), ascending, without empty ones."""

    number: int
    windows: list[Window]
    lengths: list[tuple[float, Lengths, Lengths]]
    skipped: list[SkippedRow]

    def lengths_at(self, time_s: float) -> tuple[Lengths, Lengths]:
        """The distributions of the latest window that has any, else of the first."""
        begun = [own for own in self.lengths if own[0] <= time_s]
        _, prompt, output = begun[-1] if begun else self.lengths[0]
        return prompt, output


def client_files(folder: Path) -> list[tuple[int, Path]]:
    """Numbers and trace files of the clients in a directory, ascending."""
    matches = [(_TRACE_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in matches if match is not None)


def read_client(path: Path, number: int) -> Client:
    """One client. Raises ValueError for a missing or damaged file."""
    windows, skipped = _read_windows(read_text(path), path.name)
    stem = path.parent / f"chunk-{number}-dataset.json"
    dataset = next((p for p in (stem, Path(f"{stem}.gz")) if p.exists()), None)
    if dataset is None:
        raise ValueError(f"{path.name} needs {stem.name} beside it.")
    lengths = _read_lengths(read_text(dataset), dataset.name)
    if windows and not lengths:
        raise ValueError(f"{dataset.name} holds no lengths, and {path.name} has requests.")
    return Client(number=number, windows=windows, lengths=lengths, skipped=skipped)


def _read_windows(text: str, file: str) -> tuple[list[Window], list[SkippedRow]]:
    """Windows with requests; each ends where the next row's begins, the last is as long as it."""
    rows: list[tuple[int, list[str]]] = []
    starts: list[float] = []
    skipped = []
    for line, part in enumerate(text.splitlines(), start=1):
        if part.strip():
            fields = part.split(",")
            try:
                starts.append(_number(fields[0], "window start"))
                rows.append((line, fields))
            except BadValueError as error:
                skipped.append(SkippedRow(file=file, row=line, reason=str(error)))
    steps = [after - start for start, after in pairwise(starts)]
    if any(step <= 0 for step in steps):
        raise ValueError(f"{file} has window starts that do not rise.")
    steps.append(steps[-1] if steps else _DEFAULT_WINDOW_S)
    windows = []
    for (line, fields), start_s, step_s in zip(rows, starts, steps, strict=True):
        try:
            window = _window(fields, start_s, start_s + step_s)
        except BadValueError as error:
            skipped.append(SkippedRow(file=file, row=line, reason=str(error)))
            continue
        if window.rate_per_s > 0:
            windows.append(window)
    return windows, sorted(skipped, key=lambda skip: skip.row)


def _window(fields: list[str], start_s: float, end_s: float) -> Window:
    if len(fields) != 6:
        raise BadValueError(f"has {len(fields)} fields, 6 are needed")
    rate_per_s, cv = _number(fields[1], "rate"), _number(fields[2], "CV")
    family = fields[3].strip()
    if rate_per_s > 0 and family not in FAMILIES:
        raise BadValueError(f"family(={shown(family)}) must be {' or '.join(FAMILIES)}")
    if rate_per_s > 0 and cv == 0:
        raise BadValueError(f"CV(={shown(fields[2])}) must be > 0")
    return Window(start_s=start_s, end_s=end_s, rate_per_s=rate_per_s, cv=cv, family=family)


def _read_lengths(text: str, file: str) -> list[tuple[float, Lengths, Lengths]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise ValueError(f"{file} must be a JSON object.")
    found = []
    for start, entry in document.items():
        try:
            prompt, output = (_lengths(entry, name) for name in ("input_tokens", "output_tokens"))
            start_s = _number(start, "window start")
        except BadValueError as error:
            raise ValueError(f"{file} window {shown(start)}: {error}.") from error
        if prompt is not None and output is not None:
            found.append((start_s, prompt, output))
    return sorted(found, key=lambda own: own[0])


def _lengths(entry: object, name: str) -> Lengths | None:
    """A distribution from the text of a dict literal, read as numbers; None where it is empty."""
    text = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(text, str) or not re.fullmatch(r"\s*\{.*\}\s*", text, re.DOTALL):
        raise BadValueError(f"{name} must be the text of a dict")
    inside = text.strip()[1:-1].strip().removesuffix(",")
    if not inside:
        return None
    pairs = [pair.split(":") for pair in inside.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise BadValueError(f"{name} must be pairs of value and probability")
    values = np.array([_number(value, name) for value, _ in pairs])
    weights = np.array([_number(weight, name) for _, weight in pairs])
    if (values != np.rint(values)).any() or values.min() < 1 or values.max() > MAX_TOKENS:
        raise BadValueError(f"{name} must be whole numbers of tokens > 0")
    if weights.sum() <= 0:
        raise BadValueError(f"{name} must have probabilities > 0")
    return Lengths(tokens=values.astype(np.int64), probability=weights / weights.sum())


def _number(text: str, field: str) -> float:
    """A finite number >= 0."""
    ns_of(text, field, 1)  # refuses what is no number, and says why
    number = float(text)
    if number < 0:
        raise BadValueError(f"{field}(={shown(text)}) must be >= 0")
    return number
