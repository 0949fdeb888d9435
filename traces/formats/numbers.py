"""Numbers as trace files write them.

Token counts are whole numbers in [1, 2^31). Accepted: 12, "12", 12.0, 1e3, "1,000" (groups of
three). Refused, with a reason: 12.5, abc, "", null, NaN, 0, negative. Times may be any finite
number; they become whole nanoseconds, integers exactly and without passing through a float.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..columns import NS_PER_S, Ints

CANCEL_KEY = "cancel_s"  # in every format: seconds after arrival, none = never
MAX_TOKENS = 2**31 - 1
MAX_NS = 2**61  # 73 years
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")

Parsed = tuple[Ints, dict[int, str]]  # values, and the reason for each row that has none


class BadValueError(ValueError):
    """A value that cannot be used; the message is the reason shown for the row."""


def count_of(value: Any, field: str) -> int:
    """A token count >= 1."""
    number = value if type(value) is int else _number(value, field)
    if number != number:
        raise BadValueError(f"{field} is NaN")
    if number < 1:
        raise BadValueError(f"{field}(={shown(value)}) must be > 0")
    if number > MAX_TOKENS:
        raise BadValueError(f"{field}(={shown(value)}) must be <= {MAX_TOKENS}")
    if number != int(number):
        raise BadValueError(f"{field}(={shown(value)}) must be a whole number")
    return int(number)


def integer_of(value: Any, field: str) -> int:
    """Any whole number that fits 64 bits."""
    number = _number(value, field)
    if not abs(number) < MAX_NS or number != int(number):
        raise BadValueError(f"{field}(={shown(value)}) must be a whole number")
    return int(number)


def ns_of(value: Any, field: str, ns_per_unit: int) -> int:
    """A time in nanoseconds, `value` counting units of `ns_per_unit`."""
    number = _number(value, field)
    if number != number or abs(number) == math.inf:
        raise BadValueError(f"{field}(={shown(value)}) must be finite")
    if abs(number) > MAX_NS // ns_per_unit:
        raise BadValueError(f"{field}(={shown(value)}) is too large")
    whole = math.floor(number)
    return whole * ns_per_unit + round((number - whole) * ns_per_unit)


def cancel_ns_of(value: Any) -> int:
    """Nanoseconds after which the client gives up, > 0; `value` counts seconds."""
    cancel_ns = ns_of(value, CANCEL_KEY, NS_PER_S)
    if cancel_ns <= 0:
        raise BadValueError(f"{CANCEL_KEY}(={shown(value)}) must be > 0")
    return cancel_ns


def parse_counts(texts: Sequence[str], field: str) -> Parsed:
    """Token counts of a whole text column; bad entries are 0 and have a reason."""
    try:
        values = np.fromiter(map(int, texts), np.int64, len(texts))
    except (ValueError, OverflowError):
        return parse_each(texts, lambda text: count_of(text, field))
    reasons = {}
    for row in np.flatnonzero((values < 1) | (values > MAX_TOKENS)).tolist():
        try:
            count_of(texts[row], field)
        except BadValueError as error:
            reasons[row] = str(error)
            values[row] = 0
    return values, reasons


def parse_ns(texts: Sequence[str], field: str, ns_per_unit: int) -> Parsed:
    """Times of a whole text column as nanoseconds; bad entries are 0 and have a reason."""
    try:
        numbers = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        numbers = np.full(len(texts), np.nan)
    whole = np.floor(numbers)
    # above 2^53 units a float has lost digits that the text still has
    if not (
        np.isfinite(numbers).all()
        and np.abs(whole).max(initial=0) < min(2**53, MAX_NS // ns_per_unit)
    ):
        return parse_each(texts, lambda text: ns_of(text, field, ns_per_unit))
    part_ns = np.rint((numbers - whole) * ns_per_unit).astype(np.int64)
    return whole.astype(np.int64) * ns_per_unit + part_ns, {}


def parse_each(texts: Sequence[str], parse: Callable[[str], int]) -> Parsed:
    """`parse` entry by entry: the slow path that knows which entry is bad, and why."""
    values = np.zeros(len(texts), dtype=np.int64)
    reasons = {}
    for row, text in enumerate(texts):
        try:
            values[row] = parse(text)
        except BadValueError as error:
            reasons[row] = str(error)
    return values, reasons


def _number(value: Any, field: str) -> int | float:
    """`value` as a number, an int where it is written as one."""
    if isinstance(value, str):
        return _number_in(value.strip(), field)
    if value is None:
        raise BadValueError(f"{field} is missing")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValueError(f"{field}(={shown(value)}) is not a number")
    return value


def _number_in(text: str, field: str) -> int | float:
    if not text:
        raise BadValueError(f"{field} is missing")
    plain = text.replace(",", "") if _GROUPED.fullmatch(text) else text
    for kind in (int, float):
        try:
            return kind(plain)
        except ValueError:
            continue
    raise BadValueError(f"{field}(={shown(text)}) is not a number")


def shown(value: Any, most: int = 40) -> str:
    """A value for a message: one line, printable, not long."""
    text = str(value).strip()
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= most else text[: most - 3] + "..."
