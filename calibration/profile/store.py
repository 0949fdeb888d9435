"""Profiles on disk: ``NAME.json``, and the raw samples in ``NAME.samples.jsonl.gz`` beside it.

The JSON holds the fields of ``values.Profile`` under their own names, after ``schema``; the samples
are one JSON object a line. Floats have nine significant digits, and the gzip no time stamp: equal
input gives equal bytes. The profile names the SHA-256 of its samples' lines, so that a pair that
does not belong together is found out.

A file is read against the types of ``values``: every field that has no default must be there, none
that is unknown, and the coefficients of a form must be positive (an infinite rate is ``null``).
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from hashlib import sha256
from math import inf, isfinite
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from ..json_files import read_json
from .values import PROVENANCES, SCHEMA, DecodeFit, GemmFit, LineFit, PrefillFit, Profile, Sample

SIGNIFICANT = 9
WIDE = 100
"""Characters of an object that stays on one line."""
POSITIVE = (DecodeFit, PrefillFit, GemmFit, LineFit)
"""Whose numbers are coefficients."""
MAY_BE_ZERO = ("overlap", "merge_s", "start_s", "unit_s", "bytes_per_token")
MAY_BE_INFINITE = ("bytes_per_s",)
KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def nine_digits(value: float) -> float:
    """The float that is written for ``value``."""
    return float(f"{value:.{SIGNIFICANT}g}")


def write_profile(
    profile: Profile, samples: Sequence[Sample], path: str | Path
) -> tuple[Path, ...]:
    """Write a profile, and its samples where there are any; each file whole or not at all.

    Returns:
        The paths written.

    Raises:
        ValueError: the path does not end in .json, or cannot be written to.
    """
    target = Path(path)
    if target.suffix != ".json":
        raise ValueError(f"profile(={str(path)!r}) must be named .json.")
    lines = _lines(samples)
    digest = sha256(lines).hexdigest() if samples else ""
    entry = {"schema": SCHEMA, **_plain(replace(profile, samples_sha256=digest))}
    files = {target: (_indented(entry) + "\n").encode()}
    if samples:  # first: a profile without its samples is worse than samples without a profile
        packed = gzip.compress(lines, compresslevel=9, mtime=0)
        files = {samples_path(target): packed, **files}
    try:
        for file, data in files.items():
            _replace(file, data)
    except OSError as error:
        raise ValueError(f"profile(={str(path)!r}) cannot be written: {error.strerror}.") from error
    return tuple(sorted(files))


def samples_path(path: str | Path) -> Path:
    """Where the samples of a profile lie."""
    return Path(path).with_suffix(".samples.jsonl.gz")


def read_profile(path: str | Path) -> Profile:
    """A profile, checked.

    Raises:
        ValueError: absent, damaged, or of another schema; the sentence names the field.
    """
    raw = read_json(Path(path))
    schema = raw.pop("schema", None)
    if schema != SCHEMA:
        raise ValueError(
            f"profile(={path}) has schema {schema}: this kvsim reads {SCHEMA}; update kvsim."
        )
    try:
        profile: Profile = _read(Profile, raw, "")
    except _Damaged as damaged:
        raise ValueError(f"profile(={path}) is damaged: {damaged}.") from None
    if profile.provenance not in PROVENANCES:
        known = ", ".join(PROVENANCES)
        raise ValueError(
            f"profile(={path}) is damaged: provenance(={profile.provenance!r}) is none of {known}."
        )
    return profile


def read_samples(path: str | Path) -> tuple[Sample, ...]:
    """The samples of the profile at ``path``; none where it was made without.

    Raises:
        ValueError: the profile cannot be read, or its samples are absent, damaged or others.
    """
    digest = read_profile(path).samples_sha256
    if not digest:
        return ()
    file = samples_path(path)
    try:
        lines = gzip.decompress(file.read_bytes())
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "it is no whole gzip file"
        raise ValueError(f"profile(={path}): samples {file.name}: {reason}.") from None
    if sha256(lines).hexdigest() != digest:
        raise ValueError(f"profile(={path}) is damaged: samples_sha256 is not that of {file.name}.")
    try:
        entries = enumerate(lines.decode().splitlines())
        return tuple(_read(Sample, json.loads(line), f"line {i + 1}") for i, line in entries)
    except (ValueError, _Damaged) as error:
        raise ValueError(f"{file} is damaged: {error}.") from None


# ---------------------------------------------------------------------- writing


def _lines(samples: Sequence[Sample]) -> bytes:
    entries = (_plain(sample) for sample in samples)
    lines = (json.dumps(entry, sort_keys=True, separators=(",", ":")) for entry in entries)
    return "".join(f"{line}\n" for line in lines).encode()


def _plain(value: Any) -> Any:
    """What JSON has: infinity is null, not-a-number an error."""
    if isinstance(value, float):
        if value != value:
            raise ValueError("a profile cannot hold a number that is none (NaN).")
        return nine_digits(value) if isfinite(value) else None
    if is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def _replace(target: Path, data: bytes) -> None:
    """Write a file under a temporary name beside ``target``, then move it there."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _indented(value: Any, margin: str = "") -> str:
    """JSON with a line for each entry; lists of plain values, and small objects, on one line."""
    flat = json.dumps(value, allow_nan=False)
    entries = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list)) or not value:
        return flat
    is_flat = not any(isinstance(entry, (dict, list)) for entry in entries)
    if is_flat and (isinstance(value, list) or len(flat) <= WIDE):
        return flat
    deeper = margin + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(k)}: {_indented(v, deeper)}" for k, v in value.items()]
        opened, closed = "{", "}"
    else:
        parts = [_indented(entry, deeper) for entry in value]
        opened, closed = "[", "]"
    inside = f",\n{deeper}".join(parts)
    return f"{opened}\n{deeper}{inside}\n{margin}{closed}"


# ---------------------------------------------------------------------- reading


class _Damaged(Exception):
    """Which field, and what is wrong with it."""


def _read(wanted: Any, raw: Any, where: str) -> Any:
    """``raw`` as a value of the type ``wanted``."""
    if is_dataclass(wanted):
        return _read_fields(wanted, raw, where)
    kind, inner = get_origin(wanted) or wanted, get_args(wanted)
    if kind is tuple:
        if not isinstance(raw, list):
            raise _Damaged(f"{where} must be a list")
        return tuple(_read(inner[0], entry, f"{where}[{i}]") for i, entry in enumerate(raw))
    if kind is Mapping:
        if not isinstance(raw, dict):
            raise _Damaged(f"{where} must be an object")
        return {key: _read(inner[1], entry, f"{where}.{key}") for key, entry in raw.items()}
    if kind is Any:
        return raw
    return _read_plain(kind, raw, where)


def _read_plain(kind: Any, raw: Any, where: str) -> Any:
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(raw, accepted) or (isinstance(raw, bool) and kind is not bool):
        raise _Damaged(f"{where}(={raw!r}) must be {KINDS[kind]}")
    return raw


def _read_fields(wanted: Any, raw: Any, where: str) -> Any:
    if not isinstance(raw, dict):
        raise _Damaged(f"{where} must be an object")
    types, known = get_type_hints(wanted), {entry.name: entry for entry in fields(wanted)}
    dot = f"{where}." if where else ""
    for name in raw:
        if name not in known:
            raise _Damaged(f"{dot}{name} is no field that this kvsim knows")
    values = {}
    for name, entry in known.items():
        if name in raw:
            value = raw[name]
            if name in MAY_BE_INFINITE and isinstance(value, NoneType):
                value = inf
            values[name] = _read(types[name], value, f"{dot}{name}")
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise _Damaged(f"{dot}{name} is missing")
    if wanted in POSITIVE:
        _check_positive(values, dot)
    return wanted(**values)


def _check_positive(values: Mapping[str, Any], dot: str) -> None:
    for name, value in values.items():
        if not isinstance(value, (int, float)) or value > 0:
            continue
        if name not in MAY_BE_ZERO or value < 0:
            sign = ">=" if name in MAY_BE_ZERO else ">"
            raise _Damaged(f"{dot}{name}(={value!r}) must be {sign} 0")
