"""On whose behalf a request runs: names in files, numbers in a trace."""

from collections.abc import Hashable, Sequence

import numpy as np

from .columns import Ints

TENANT_KEYS = ("tenant", "tenant_id", "user")
"""What files call it; the first that a row has is taken."""
_MOST = 2**63


def tenant_numbers(names: Sequence[Hashable | None]) -> tuple[Ints, bool]:
    """(n,) a number for each name, and whether they had to be given out.

    Whole numbers >= 0 are kept as they are where every row has one; else names are numbered from 0
    in order of first appearance. Rows without a name (None) are one tenant's.
    """
    own = [_whole(name) for name in names]
    kept = [number for number in own if number is not None]
    if len(kept) == len(own):
        return np.array(kept, dtype=np.int64), False
    known: dict[Hashable | None, int] = {}
    numbers = [known.setdefault(name, len(known)) for name in names]
    return np.array(numbers, dtype=np.int64), True


def _whole(name: Hashable | None) -> int | None:
    if isinstance(name, str) and name.isdecimal() and name.isascii() and len(name) < 20:
        name = int(name)
    if type(name) is int and 0 <= name < _MOST:
        return name
    return None
