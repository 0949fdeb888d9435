"""Wall-clock times: `2023-11-16 18:15:46.6805900`, `2024-05-11T02:00:01.25+02:00`, `...Z`.

0 to 9 fractional digits; a time without a zone is UTC. The result counts nanoseconds from 1970.
"""

import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from ..columns import NS_PER_S
from .numbers import BadValueError, Parsed, parse_each, shown

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s*(Z|z|[+-]\d\d:?\d\d)?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORTEST = len("2023-11-16 18:15:46")
_UTC_SUFFIXES = ("+00:00", "Z")
_YEARS = ("1700", "2262")  # years that fit 64 bits of nanoseconds


def parse_wall_clock(texts: Sequence[str], field: str) -> Parsed:
    """A whole text column as nanoseconds since 1970; bad entries are 0 and have a reason."""
    bulk = _parse_bulk(texts)
    return bulk if bulk is not None else parse_each(texts, lambda text: wall_clock_ns(text, field))


def wall_clock_ns(text: str, field: str) -> int:
    """One time as nanoseconds since 1970. Raises BadValueError with the reason."""
    if not text.strip():
        raise BadValueError(f"{field} is missing")
    match = _TIME.fullmatch(text.strip())
    if match is None or not _YEARS[0] <= text.strip()[:4] < _YEARS[1]:
        raise BadValueError(f"{field}(={shown(text)}) is not a date and time")
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadValueError(f"{field}(={shown(text)}) is not a date and time") from error
    whole_s = round((moment - _EPOCH) / timedelta(seconds=1)) - _zone_offset_s(zone)
    return whole_s * NS_PER_S + int((fraction or "").ljust(9, "0"))


def _zone_offset_s(zone: str | None) -> int:
    if zone is None or zone in "Zz":
        return 0
    sign = -1 if zone[0] == "-" else 1
    return sign * (int(zone[1:3]) * 3600 + int(zone[-2:]) * 60)


def _parse_bulk(texts: Sequence[str]) -> Parsed | None:
    """The whole column at numpy's speed; None where an entry is not plainly UTC and good."""
    for suffix in _UTC_SUFFIXES:
        if texts and texts[0].endswith(suffix):
            if not all(text.endswith(suffix) for text in texts):
                return None
            texts = [text[: -len(suffix)] for text in texts]
    if min(map(len, texts), default=0) < _SHORTEST or max(map(len, texts)) > _SHORTEST + 10:
        return None
    if not (_YEARS[0] <= min(texts) and max(texts) < _YEARS[1]):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy only warns about a zone it then ignores
            times = np.array(texts, dtype="datetime64[ns]")
    except (ValueError, UserWarning, DeprecationWarning):
        return None
    if np.isnat(times).any():
        return None
    return times.astype(np.int64), {}
